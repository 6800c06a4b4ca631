"""Runs programs under qemu-aarch64 with the plugin qemu_blocks.c, and reads what it counted."""
import gzip
import hashlib
import json
import os
import re
from dataclasses import dataclass, field

from foreign import run

TOOLS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SOURCE = os.path.join(TOOLS, "qemu_blocks.c")
CLASSES = ("simd", "ldst", "int", "branch")
# A share of the counted instructions: a library's housekeeping is less, a thread that computes is more.
MOST_OTHERS = 0.05


@dataclass(frozen=True)
class Block:
    """Instructions that are executed one after the other: qemu ends a block at a branch or at the end of a page."""
    address: int
    words: tuple


@dataclass
class Profile:
    """Of one inference: executions of blocks, of edges from a block to the next one, and misses by cache level."""
    blocks: dict = field(default_factory=dict)
    edges: dict = field(default_factory=dict)
    misses: dict = field(default_factory=dict)
    accesses: int = 0
    # Instructions of other threads meanwhile, which nothing else here contains.
    others: int = 0
    # Relative L2 distance of the result from ONNX Runtime's on this machine; why there is none.
    distance: float = None
    refused: str = None
    # Where code comes from: (first address, end, file).
    maps: list = field(default_factory=list)


def class_of(word):
    """By A64's main encoding groups."""
    group = word >> 25 & 15
    if group & 5 == 4:
        return "ldst"
    if group & 7 == 7:
        return "simd"
    return "branch" if group & 14 == 10 else "int"


def totals(profile):
    """Executed instructions by class, and all of them."""
    sums = dict.fromkeys(CLASSES, 0)
    for block, times in profile.blocks.items():
        for word in block.words:
            sums[class_of(word)] += times
    return {"insns": sum(sums.values()), **sums}


def misses(profile):
    """Missing lines by cache level."""
    return [sum(m) for m in zip(*profile.misses.values())]


def plugin(work):
    """The plugin, built for this machine's qemu."""
    version = re.search(r"version (\d+)", run("qemu-aarch64", "--version"))
    api = 1 if version and int(version[1]) < 9 else 4
    with open(SOURCE, "rb") as f:
        path = os.path.join(work, "blocks-%d-%s.so" % (api, hashlib.sha256(f.read()).hexdigest()[:12]))
    if not os.path.exists(path):
        run("gcc", "-O2", "-shared", "-fPIC", "-DAPI=%d" % api, SOURCE, "-o", path)
    return path


def count(command, machine, work, root=None):
    """Runs a program on a machine and returns the profile of what it does between its two marks.

    `work` keeps the plugin; `root` is where the program's libraries and /proc are."""
    out = os.path.join(work, "blocks.txt")
    if os.path.exists(out):
        os.remove(out)
    caches = ":".join("%d:%d" % c for c in machine.caches)
    prefix = ("-L", root) if root else ()
    run("qemu-aarch64", "-cpu", machine.qemu, *prefix, "-plugin", "%s,out=%s,caches=%s" % (plugin(work), out, caches), *command)
    if not os.path.exists(out):
        raise RuntimeError("%s: it never marked an inference" % command[0])
    with open(out, encoding="ascii") as f:
        profile = read(f)
    os.remove(out)
    if profile.others > MOST_OTHERS * totals(profile)["insns"]:
        raise RuntimeError("%s: other threads executed %d instructions, counts are right for one only" % (command[0], profile.others))
    return profile


def read(lines):
    """A profile from the plugin's lines. A block that was translated several times is one block here."""
    profile, numbers, edges = Profile(), {}, []
    for line in lines:
        what, *rest = line.split()
        if what == "others":
            profile.others = int(rest[0])
        elif what == "accesses":
            profile.accesses = int(rest[0])
        elif what == "block":
            words = rest[3]
            block = Block(int(rest[1], 16), tuple(int(words[n:n + 8], 16) for n in range(0, len(words), 8)))
            numbers[rest[0]] = block
            profile.blocks[block] = profile.blocks.get(block, 0) + int(rest[2])
            old = profile.misses.get(block, [0] * len(rest[4:]))
            profile.misses[block] = [a + int(b) for a, b in zip(old, rest[4:])]
        elif what == "edge":
            edges.append(rest)
    for source, to, times in edges:
        # The plugin counts executions of a block from its first on; the block before the first mark is none.
        if source in numbers and to in numbers:
            edge = numbers[source], numbers[to]
            profile.edges[edge] = profile.edges.get(edge, 0) + int(times)
    return profile


def save(profile, path):
    """Writes a profile; load() reads it."""
    blocks = list(profile.blocks)
    number = {b: n for n, b in enumerate(blocks)}
    data = {
        "blocks": [[b.address, "".join("%08x" % w for w in b.words), profile.blocks[b], profile.misses.get(b, [])] for b in blocks],
        "edges": [[number[a], number[b], n] for (a, b), n in profile.edges.items()],
        **{k: getattr(profile, k) for k in ("accesses", "others", "distance", "refused", "maps")},
    }
    with gzip.open(path + ".part", "wt", encoding="ascii") as f:
        json.dump(data, f)
    os.replace(path + ".part", path)


def load(path):
    with gzip.open(path, "rt", encoding="ascii") as f:
        data = json.load(f)
    blocks = [Block(a, tuple(int(w[n:n + 8], 16) for n in range(0, len(w), 8))) for a, w, _, _ in data["blocks"]]
    return Profile(
        {b: row[2] for b, row in zip(blocks, data["blocks"])}, {(blocks[a], blocks[b]): n for a, b, n in data["edges"]},
        {b: row[3] for b, row in zip(blocks, data["blocks"])},
        **{k: data[k] for k in ("accesses", "others", "distance", "refused", "maps")})
