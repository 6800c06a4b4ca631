"""WordNet's text, from the Debian package wordnet-base: words of its definitions, and what they define."""
import re

from task import debian

FOLDER, PACKAGE = "/usr/share/wordnet", "wordnet-base"
MADE_OF = "Debian package wordnet-base (WordNet 3.0)"
PARTS = ("noun", "verb", "adj")


def glosses():
    """(part of speech, words of a meaning, its definition and examples) of every meaning, in the files' order."""
    debian({FOLDER: PACKAGE})
    for part in PARTS:
        with open("%s/data.%s" % (FOLDER, part), encoding="ascii") as f:
            for line in f:
                if line.startswith("  "):       # the licence
                    continue
                fields, _, gloss = line.partition(" | ")
                fields = fields.split()
                words = [re.sub(r"\(.*\)$", "", w).replace("_", " ") for w in fields[4:4 + 2 * int(fields[3], 16):2]]
                yield part, words, gloss.strip()


def words():
    """Words of the definitions, as they stand there, each once, in the order of their first use."""
    seen = {}
    for _, _, gloss in glosses():
        for word in re.findall(r"[A-Za-z]+", gloss):
            seen.setdefault(word)
    return list(seen)
