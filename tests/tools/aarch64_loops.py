"""Inner loops of an aarch64 executable, and llvm-mca's estimates of them (needs llvm-objdump and llvm-mca, LLVM 19)."""
import re
import subprocess

OBJDUMP, MCA = "llvm-objdump-19", "llvm-mca-19"
# Multiply-adds of one instruction, by mnemonic and arrangement of the destination.
LANES = {"2d": 2, "4s": 4, "2s": 2, "8h": 8, "4h": 4}
DOTS = {"sdot": 4, "udot": 4, "usdot": 4, "sudot": 4, "smmla": 8, "ummla": 8, "usmmla": 8}
LONG = {"smlal", "smlal2", "umlal", "umlal2"}
VECTOR = {"fmla", "fmls", "mla", "mls"}
SCALAR = {"fmadd", "fmsub", "fnmadd", "fnmsub", "madd", "msub"}
# A loop of independent instructions of one kind shows a core's peak: destination is v0, v1, ...
SAMPLES = {
    "fmla": "fmla v%d.4s, v30.4s, v31.4s",
    "sdot": "sdot v%d.4s, v30.16b, v31.16b",
    "smmla": "smmla v%d.4s, v30.16b, v31.16b",
    "smlal": "smlal v%d.4s, v30.4h, v31.4h",
}


def functions(executable):
    """{symbol: [(address, instruction)]}"""
    text = subprocess.run([OBJDUMP, "-d", "--no-show-raw-insn", "--no-print-imm-hex", executable], stdout=subprocess.PIPE, check=True,
                          text=True).stdout
    found, current = {}, None
    for line in text.splitlines():
        head = re.match(r"^[0-9a-f]+ <(.+)>:$", line)
        if head:
            current = found.setdefault(head[1], [])
            continue
        code = re.match(r"^\s*([0-9a-f]+):\s+(.*)$", line)
        if code and current is not None:
            current.append((int(code[1], 16), code[2].split("//")[0].strip().replace("\t", " ")))
    return found


def branch(instruction):
    """Address a branch goes to, and the instruction with it replaced by a label."""
    m = re.match(r"(b|b\.\w+|cbn?z \w+,|tbn?z \w+, #\d+,) (?:0x)?([0-9a-f]+)(?: <.*>)?$", instruction)
    return (int(m[2], 16), m[1] + " .Ltop") if m else (None, None)


def loops(code):
    """[(first address, address of the branch back)]"""
    found = []
    for address, instruction in code:
        target, _ = branch(instruction)
        if target is not None and target <= address:
            found.append((target, address))
    return found


def innermost(code, address):
    """The instructions of the smallest loop around an address, the last one the branch back; empty if there is none."""
    around = [(end - start, start, end) for start, end in loops(code) if start <= address <= end]
    if not around:
        return []
    _, start, end = min(around)
    return [(a, i) for a, i in code if start <= a <= end]


def kind(instruction):
    """The kind of an instruction that multiplies (a key of SAMPLES) and its number of multiply-adds; None for others."""
    mnemonic, _, operands = instruction.partition(" ")
    arrangement = re.match(r"v\d+\.(\w+)", operands)
    lanes = LANES.get(arrangement[1]) if arrangement else None
    if lanes and mnemonic in DOTS:
        return ("smmla" if DOTS[mnemonic] == 8 else "sdot"), lanes * DOTS[mnemonic]
    if lanes and mnemonic in VECTOR:
        return "fmla", lanes
    if lanes and mnemonic in LONG:
        return "smlal", lanes
    return ("fmla", 1) if mnemonic in SCALAR else None


def mca(lines, cpu, iterations=200):
    """Cycles of an iteration, or None if llvm-mca fails."""
    done = subprocess.run([MCA, "-mtriple=aarch64-linux-gnu", "-mcpu=" + cpu, "-mattr=+dotprod,+i8mm,+fullfp16,+lse",
                           "-iterations=%d" % iterations, "-"], input="\n".join(lines) + "\n", stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
    found = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    return int(found[1]) / iterations if found and not done.returncode else None


LIMITS = {}


def limit(sample, cpu):
    """Multiply-adds per cycle of code that uses registers only."""
    if (sample, cpu) not in LIMITS:
        lines = [SAMPLES[sample] % (n % 24) for n in range(48)]
        cycles = mca(lines, cpu)
        LIMITS[sample, cpu] = 48 * kind(lines[0])[1] / cycles if cycles else None
    return LIMITS[sample, cpu]


def report(loop, cpus):
    """The cost of a loop: {"instructions", "multiply_adds", "kind", cpu: {"cycles", "per_cycle", "of_limit"}}."""
    lines = [".Ltop:"] + [i for _, i in loop[:-1]] + [branch(loop[-1][1])[1]]
    counted = [k for k in (kind(i) for _, i in loop) if k]
    work = sum(n for _, n in counted)
    sample = max(counted, key=lambda k: k[1])[0] if counted else None
    out = {"instructions": len(loop), "multiply_adds": work, "kind": sample}
    for cpu in cpus:
        cycles = mca(lines, cpu)
        row = {"cycles": cycles}
        if cycles and work:
            row["per_cycle"] = work / cycles
            most = limit(sample, cpu)
            row["of_limit"] = row["per_cycle"] / most if most else None
        out[cpu] = row
    return out
