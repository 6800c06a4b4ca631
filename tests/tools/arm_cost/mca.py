"""Cycles of instruction sequences on a core, by llvm-mca.

A loop's cycles are those of an iteration in the steady state: the difference of two numbers of iterations. llvm-mca knows the
core's execution units, latencies, issue width and order; it assumes that every branch is foretold, every access hits the first
cache and none overlaps another, and that fetching never waits.
"""
import hashlib
import json
import os
import re
import subprocess

from foreign import run

# The versions whose models are used, the first that is installed; figures of different versions do not compare.
VERSIONS = ("22", "19")
# Instructions that are simulated for a path at least, and iterations at most.
SIMULATED, MOST = 800, 64
CALLS = ((r"^blr\t(\w+)$", r"br\t\1"), (r"^bl\t.*$", "b\t#4"), (r"^ret.*$", "br\tx30"))
# Multiply-adds of one instruction: elements of the destination's arrangement, times those that are summed up in each.
LANES = {"2d": 2, "4s": 4, "2s": 2, "8h": 8, "4h": 4, "d": 2, "s": 4, "h": 8}
SUMMED = {"sdot": 4, "udot": 4, "usdot": 4, "sudot": 4, "smmla": 8, "ummla": 8, "usmmla": 8, "bfdot": 2, "bfmmla": 4,
          "fmla": 1, "fmls": 1, "mla": 1, "mls": 1, "fmlal": 1, "fmlal2": 1, "smlal": 1, "smlal2": 1, "umlal": 1, "umlal2": 1}
SCALAR = {"fmadd", "fmsub", "fnmadd", "fnmsub", "madd", "msub"}
# A loop of independent instructions of a kind shows a core's limit; the destination is v0, v1, ...
SAMPLES = {
    "fmla.4s": "fmla v%d.4s, v30.4s, v31.4s", "fmla.8h": "fmla v%d.8h, v30.8h, v31.8h", "fmlal": "fmlal v%d.4s, v30.4h, v31.4h",
    "sdot": "sdot v%d.4s, v30.16b, v31.16b", "smmla": "smmla v%d.4s, v30.16b, v31.16b", "smlal": "smlal v%d.4s, v30.4h, v31.4h",
    "bfdot": "bfdot v%d.4s, v30.8h, v31.8h", "bfmmla": "bfmmla v%d.4s, v30.8h, v31.8h",
}
# Registers of 16 bytes that a load fills.
WIDE_LOADS = ((r"ldu?r\tq", 1), (r"ldn?p\tq", 2), (r"ld[1-4]\t\{ v\d+\.(16b|8h|4s|2d)[^\[]*$", None))


def cortex_a55(texts):
    """The least cycles of instructions on a Cortex-A55, where LLVM's model is too kind.

    Its two vector pipes are 64 bits wide, so one 128-bit operation begins in a cycle (LLVM: two multiply-adds), and a load of 16
    bytes takes two cycles in which nothing else begins (Arm's Cortex-A55 Software Optimization Guide; ncnn's notes on dual issue)."""
    halves = 0
    for text in texts:
        mnemonic, _, operands = text.partition("\t")
        if mnemonic.startswith("ld"):
            found = next((n for pattern, n in WIDE_LOADS if re.match(pattern, text)), 0)
            halves += 4 * (operands.partition("}")[0].count("v") if found is None else found)
        elif not mnemonic.startswith(("st", "prfm")):
            wide = re.match(r"v\d+\.(16b|8h|4s|2d)\b|q\d", operands)
            halves += 2 if wide else 1 if re.match(r"[vsdhb]\d", operands) else 0
    return halves / 2


# Cycles that a core needs at least, whatever its model says.
LEAST = {"cortex-a55": cortex_a55}


def kind(text):
    """The kind of an instruction that multiplies and adds (a key of SAMPLES), and its multiply-adds; None for others."""
    mnemonic, _, operands = text.partition("\t")
    arrangement = re.match(r"[vz]\d+\.(\w+)", operands)
    lanes = LANES.get(arrangement[1]) if arrangement else None
    if lanes and mnemonic in SUMMED:
        base = mnemonic.rstrip("2")
        if base in ("fmla", "fmls", "mla", "mls"):
            name = "fmla.8h" if arrangement[1] in ("8h", "4h", "h") else "fmla.4s"
        else:
            name = {8: "smmla", 4: "sdot"}.get(SUMMED[mnemonic], base.replace("um", "sm"))
        return ("bfmmla" if mnemonic == "bfmmla" else name), lanes * SUMMED[mnemonic]
    return ("fmla.4s", 1) if mnemonic in SCALAR else None


class Estimator:
    """llvm-mca and a file of its earlier answers."""

    def __init__(self, work, version=None):
        tried = (version,) if version else VERSIONS
        self.version = next((v for v in tried if os.path.exists("/usr/bin/llvm-mca-" + v)), None)
        if not self.version:
            raise RuntimeError("llvm-mca is not there: apt-get install llvm-%s" % tried[-1])
        self.tool = "llvm-mca-" + self.version
        self.path = os.path.join(work, "mca-%s.json" % self.version)
        self.known, self.texts = {}, {}
        if os.path.exists(self.path):
            with open(self.path, encoding="ascii") as f:
                self.known = json.load(f)

    def keep(self):
        with open(self.path + ".part", "w", encoding="ascii") as f:
            json.dump(self.known, f)
        os.replace(self.path + ".part", self.path)

    def disassemble(self, words):
        """Learns the text of instructions; unknown ones are left out of the simulation."""
        new = sorted(set(words) - self.texts.keys())
        if not new:
            return
        lines = "\n".join(" ".join("0x%02x" % b for b in w.to_bytes(4, "little")) for w in new)
        done = subprocess.run(["llvm-mc-" + self.version, "-disassemble", "-triple=aarch64", "-mattr=+all", "-show-encoding"],
                              input=lines, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
        self.texts.update(dict.fromkeys(new))
        for text, code in re.findall(r"^\s*(\S.*?)\s*// encoding: \[([0-9a-fx,]+)\]", done.stdout, re.M):
            self.texts[int.from_bytes(bytes(int(b, 16) for b in code.split(",")), "little")] = text

    def lines(self, words):
        """Assembly of a path. Calls and returns, of which llvm-mca makes a stop of 100 cycles, become branches."""
        found = []
        for text in filter(None, map(self.texts.get, words)):
            for pattern, to in CALLS:
                text = re.sub(pattern, to, text)
            found.append(text)
        return found

    def cycles(self, sequences, core):
        """Cycles of an iteration of each sequence of instructions (words); None where the core cannot execute it."""
        self.disassemble({w for s in sequences for w in s})
        texts = [self.lines(s) for s in sequences]
        return self.of_texts(texts, core)

    def of_texts(self, texts, core):
        names = [hashlib.sha256("\n".join([core, *t]).encode()).hexdigest()[:20] for t in texts]
        groups = {}
        for name, text in zip(names, texts):
            if name not in self.known and text:
                least = min(MOST, max(2, SIMULATED // len(text)))
                groups.setdefault(1 << least.bit_length() - 1, {})[name] = text
        for iterations, group in groups.items():
            todo = list(group.items())
            for start in range(0, len(todo), 100):
                self.simulate(dict(todo[start:start + 100]), core, iterations)
        found = [self.known.get(n, 0.0) for n in names]
        least = LEAST.get(core)
        return [c if c is None or not least else max(c, least(t)) for c, t in zip(found, texts)]

    def simulate(self, group, core, iterations):
        """Two runs of llvm-mca on a group. One that it refuses is halved, to find the sequence at fault."""
        many, few = (self.total_cycles(group, core, n) for n in (iterations * 2, iterations))
        if many is not None and few is not None:
            self.known.update((name, (many[name] - few[name]) / iterations) for name in group)
        elif len(group) == 1:
            self.known.update(dict.fromkeys(group))
        else:
            rows = list(group.items())
            for part in (rows[:len(rows) // 2], rows[len(rows) // 2:]):
                self.simulate(dict(part), core, iterations)

    def total_cycles(self, group, core, iterations):
        text = "\n".join("# LLVM-MCA-BEGIN %s\n%s\n# LLVM-MCA-END" % (name, "\n".join(lines)) for name, lines in group.items())
        done = subprocess.run([self.tool, "-mtriple=aarch64-linux-gnu", "-mcpu=" + core, "-mattr=+all", "-iterations=%d" % iterations,
                               "-all-views=0", "-summary-view", "-json", "-"], input=text + "\n", stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            return None
        return {r["Name"]: r["SummaryView"]["TotalCycles"] for r in json.loads(done.stdout)["CodeRegions"]}

    def limit(self, name, core):
        """Multiply-adds a cycle of a kind's instructions in registers alone."""
        lines = [(SAMPLES[name] % (n % 24)).replace(" ", "\t", 1) for n in range(48)]
        cycles = self.of_texts([lines], core)[0]
        return 48 * kind(lines[0])[1] / cycles if cycles else None


def about(version):
    """The version of LLVM in full."""
    return re.search(r"LLVM version (\S+)", run("llvm-mca-" + version, "--version"))[1]
