#!/usr/bin/env python3
"""What a model costs on 64-bit Arm, without such a machine: executed instructions, cycles and cache misses, beside other engines.

usage: aarch64_cost.py [--cpu CPU]... [--peers LIST] [--cores LIST] [--models DIR]... [--top N] [--show] [--json FILE] NAME...

Each NAME of zoo.json is compiled (the default object for Android; for each --cpu, such as generic,+i8mm, an object for that),
linked with drive.c and run under qemu-aarch64 with the plugin qemu_blocks.c; the peers' own aarch64 wheels run in the same way, in
a Python of Debian's arm64 packages. The second inference is counted, one thread. The program sees the core's features and part
number, so an engine chooses the kernels that it would choose there.
Told are, for each machine and engine:
  distance      relative L2 distance of the outputs from ONNX Runtime's on this machine; above 1e-2 (int8: 5e-2) an engine does not count
  instructions  executed, in millions, by class; exact and repeatable
  cycles        of each core, in millions: the executed blocks are split into loops (arm_cost/paths.py); a loop's cycles in the
                steady state by llvm-mca, times its passes
  missed lines  in thousands, by level of a cache of the stated sizes (least recently used, no prefetching); not part of the cycles
  best          mcc's least over the best peer's that counts, for each of these
--top N prints the N symbols that take most cycles of the first core, and their hottest loop's share of the core's multiply-add limit.

What this cannot see: stalls for memory (the misses tell where to expect them; hardware and software prefetching hide some);
branches foretold wrongly; the front end (fetching, instruction cache, taken branches); loads that wait for a store just made,
unaligned accesses; what entering and leaving a loop costs an out-of-order core; frequency, heat, other cores; and where LLVM's model
of a core is wrong. It compares code for one core with code for the same core; it does not predict milliseconds.

Needs qemu-aarch64 (Debian 12's 7.2: some later packages lack plugins), gcc, aarch64-linux-gnu-gcc with its static libc, llvm-22 or
llvm-19 (figures of the two do not compare), numpy, onnx, onnxruntime; the peers: root is not needed, 2 GB below --work are.
Only one run at a time may use a --work.
"""
import argparse
import bisect
import json
import math
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)

from arm_cost import cores, engines, mca, paths, profile  # noqa: E402
from fetch_zoo import ZOO  # noqa: E402
from foreign import run  # noqa: E402
from zoo_inputs import make_inputs  # noqa: E402

# An engine whose result is farther from ONNX Runtime's does not count: of floats, and where 8-bit rounding may differ.
FARTHEST, FARTHEST_INT8 = 1e-2, 5e-2


def symbols(executable):
    """Addresses and names of functions, sorted."""
    rows = [line.split() for line in run("aarch64-linux-gnu-nm", executable).splitlines()]
    return sorted((int(r[0], 16), r[2]) for r in rows if len(r) == 3 and r[1] in "tT" and not r[2].startswith("$"))


def namer(found, executable):
    """A function from addresses to names: a program's symbols, or libraries and offsets in their code."""
    if executable:
        table = symbols(executable)
        starts = [a for a, _ in table]
        return lambda address: table[max(0, bisect.bisect_right(starts, address) - 1)][1]
    return lambda address: next(("%s+%x" % (name, address - start) for start, end, name in found.maps if start <= address < end),
                                "%x" % address)


def loop_report(path, core, estimator):
    """A path's instructions, cycles, and multiply-adds a cycle beside the core's limit."""
    texts = list(filter(None, (estimator.texts.get(w) for w in path.words())))
    counted = list(filter(None, map(mca.kind, texts)))
    cycles, row = estimator.cycles([path.words()], core)[0], {"instructions": len(texts), "passes": path.times, "again": path.again}
    row["cycles"] = cycles
    if counted and cycles:
        # The kind that multiplies most is the measure.
        sample = max({k for k, _ in counted}, key=lambda k: sum(n for kind, n in counted if kind == k))
        row.update(kind=sample, multiply_adds=sum(n for _, n in counted), limit=estimator.limit(sample, core))
        row["share"] = row["multiply_adds"] / cycles / row["limit"] if row["limit"] else None
    return row


def kernels(found, split, costs, estimator, args, executable):
    """Symbols by cycles of the first core: their cycles on all cores, and their hottest loop."""
    name, grouped = namer(found, executable), {}
    for n, path in enumerate(split):
        largest = max(path.blocks, key=lambda b: len(b.words))
        grouped.setdefault(name(largest.address), []).append(n)
    total = lambda group, core: sum(split[n].times * (costs[core][n] or 0) for n in group)  # noqa: E731
    first = next(iter(costs))
    rows = []
    for symbol, group in sorted(grouped.items(), key=lambda g: -total(g[1], first))[:args.top]:
        hottest = split[max(group, key=lambda n: split[n].times * (costs[first][n] or 0))]
        rows.append({"symbol": symbol, "cycles": {c: total(group, c) for c in costs},
                     "loop": {c: loop_report(hottest, c, estimator) for c in costs},
                     "text": [estimator.texts.get(w) for w in hottest.words()] if args.show else None})
    return rows


def cost(found, on, estimator, args, executable=None):
    """The row of a profile: everything that is told of it, for these cores."""
    row = {"distance": found.distance, "refused": found.refused}
    if found.refused:
        return row
    split, held = paths.split(found)
    row.update(profile.totals(found), accesses=found.accesses, missed=profile.misses(found), held=held)
    costs = {core: estimator.cycles([p.words() for p in split], core) for core in on}
    estimator.keep()
    row["cycles"], row["unknown"] = {}, {}
    for core, list_of in costs.items():
        # Paths that are not split off, and those that llvm-mca refuses, cost what the others do per instruction.
        known = [(p.times * len(p.words()), p.times * c) for p, c in zip(split, list_of) if c is not None]
        instructions = sum(n for n, _ in known)
        row["unknown"][core] = 1 - instructions / row["insns"]
        row["cycles"][core] = sum(c for _, c in known) * row["insns"] / instructions if instructions else None
    row["kernels"] = kernels(found, split, costs, estimator, args, executable)
    return row


def measure(case, estimator, args):
    """{machine: {engine: row}} of a model."""
    table, multiply_adds = {}, None
    for machine in dict.fromkeys(cores.CORES[c] for c in args.cores):
        on = [c for c in args.cores if cores.CORES[c] == machine]
        rows = table[machine] = {}
        for cpu in args.cpu:
            found, exe, multiply_adds = engines.mcc(case, cpu, cores.MACHINES[machine], args)
            rows["mcc" + (" --cpu " + cpu if cpu else "")] = cost(found, on, estimator, args, exe)
        for name in args.peers:
            rows[name] = cost(engines.peer(case, name, cores.MACHINES[machine], args), on, estimator, args)
        limit = FARTHEST_INT8 if args.types[case.name].startswith("int8") else FARTHEST
        for row in rows.values():
            row["counts"] = not row["refused"] and row["distance"] <= limit
        tell(case.name, machine, rows, on, args)
    return {"name": case.name, "multiply_adds": multiply_adds, "machines": table}


def best(rows):
    """mcc's least over the best peer's that counts: {figure: ratio}, figures "insns" and the cores."""
    value = lambda row, key: row["insns"] if key == "insns" else row["cycles"].get(key)  # noqa: E731
    right = {n: r for n, r in rows.items() if r["counts"]}
    ours = [r for n, r in right.items() if n.startswith("mcc")]
    peers = [r for n, r in right.items() if not n.startswith("mcc")]
    if not ours or not peers:
        return {}
    return {key: min(value(r, key) for r in ours) / min(value(r, key) for r in peers) for key in ("insns", *ours[0]["cycles"])}


def tell(name, machine, rows, on, args):
    """Prints a machine's rows."""
    print("\n%s on %s; caches: %s" % (name, machine, cores.size(cores.MACHINES[machine])))
    print("%-24s %9s %8s %8s %8s %8s %8s  %s  %s" % ("", "distance", "insns", *profile.CLASSES, " ".join("%12s" % c for c in on),
                                                    "missed lines"))
    for engine, row in rows.items():
        if row["refused"]:
            print("%-24s refused: %s" % (engine, row["refused"]))
            continue
        print("%-24s %9.1e %s  %s  %s%s" % (
            engine, row["distance"], " ".join("%8.1f" % (row[k] / 1e6) for k in ("insns", *profile.CLASSES)),
            " ".join("%12.1f" % (row["cycles"][c] / 1e6) if row["cycles"][c] else "%12s" % "-" for c in on),
            " / ".join("%.0f" % (m / 1e3) for m in row["missed"]), "" if row["counts"] else "  wrong: does not count"))
    ratios = best(rows)
    if ratios:
        print("%-24s %9s %8.2f %35s  %s" % ("best", "", ratios["insns"], "", " ".join("%12.2f" % ratios[c] for c in on)))
    for engine, row in rows.items():
        for k in row.get("kernels", ()):
            tell_kernel(engine, k, row, args)
    sys.stdout.flush()


def tell_kernel(engine, kernel, row, args):
    parts = []
    for core, loop in kernel["loop"].items():
        share = ", %.0f %% of the limit" % (100 * loop["share"]) if loop.get("share") else ""
        parts.append("%s %.0f %%, loop %.4g cycles%s" %
                     (core, 100 * kernel["cycles"][core] / row["cycles"][core], loop["cycles"] or 0, share))
    loop = next(iter(kernel["loop"].values()))
    print("  %s %s: %d instructions, %.3g million passes; %s" %
          (engine, kernel["symbol"], loop["instructions"], loop["passes"] / 1e6, "; ".join(parts)))
    if args.show:
        print("\n".join("      " + (t or "?").replace("\t", " ") for t in kernel["text"]))


def summary(models):
    """Prints the geometric means of the ratios over all models, by figure."""
    found = {}
    for model in models:
        for machine, rows in model["machines"].items():
            for key, ratio in best(rows).items():
                found.setdefault("instructions on " + machine if key == "insns" else key, []).append(ratio)
    if found:
        print("\nmcc over the best peer that counts, geometric mean (models)")
    for key, ratios in found.items():
        print("  %-22s %.3f (%d)" % (key, math.exp(sum(map(math.log, ratios)) / len(ratios)), len(ratios)))


def arguments():
    ap = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    ap.add_argument("names", metavar="NAME", nargs="+")
    ap.add_argument("--mcc", default=os.path.join(ROOT, "target", "release", "mcc"))
    ap.add_argument("--cpu", action="append", metavar="CPU", help="an object for this --cpu; android: the default one (default: that)")
    ap.add_argument("--mcc-options", default="", metavar="TEXT", help="further options for mcc")
    ap.add_argument("--peers", default="onnxruntime,mnn,ncnn", help="of %s; none for none" % ", ".join(engines.PEERS))
    ap.add_argument("--cores", default=",".join(cores.CORES), help="of %s (default: all)" % ", ".join(cores.CORES))
    ap.add_argument("--llvm", help="version of llvm-mca (default: the first installed of %s)" % ", ".join(mca.VERSIONS))
    ap.add_argument("--top", type=int, default=0, help="symbols to report (default: none)")
    ap.add_argument("--models", action="append", default=[], metavar="DIR", help="look here for NAME.onnx")
    ap.add_argument("--work", default=os.path.join(ROOT, "target", "aarch64"), help="folder for all output")
    ap.add_argument("--show", action="store_true", help="print the loops of --top")
    ap.add_argument("--json", metavar="FILE")
    args = ap.parse_args()
    args.cpu = ["" if c == "android" else c for c in args.cpu or ["android"]]
    args.mcc_options = args.mcc_options.split()
    args.peers = [] if args.peers == "none" else args.peers.split(",")
    args.cores = args.cores.split(",")
    for given, known in ((args.peers, engines.PEERS), (args.cores, cores.CORES)):
        for name in set(given) - set(known):
            ap.error("%s: not one of %s" % (name, ", ".join(known)))
    args.work = os.path.abspath(args.work)
    os.makedirs(args.work, exist_ok=True)
    peers = os.path.join(ROOT, "target", "peers")
    args.models += [os.path.join(peers, "zoo"), os.path.join(peers, "derived")]
    with open(ZOO, encoding="utf-8") as f:
        zoo = json.load(f)
    args.specs = {m["name"]: m["inputs"] for m in zoo["models"]}
    args.specs.update({d["name"]: args.specs[d["base"]] for d in zoo["derived"]})
    args.types = {m["name"]: m.get("dtype", "fp32") for m in zoo["models"] + zoo["derived"]}
    args.files = {name: next((p for d in args.models for p in [os.path.join(d, name + ".onnx")] if os.path.exists(p)), None)
                  for name in args.names}
    for name, path in args.files.items():
        if name not in args.specs or path is None:
            ap.error("%s: not in zoo.json, or no such file in %s" % (name, ", ".join(args.models)))
    return args


def main():
    args = arguments()
    estimator = mca.Estimator(args.work, args.llvm)
    print("llvm-mca %s; millions of instructions and cycles, thousands of missed lines" % mca.about(estimator.version))
    models, failed = [], 0
    for name, path in args.files.items():
        try:
            models.append(measure(engines.Case(name, path, make_inputs(args.specs[name]), args.work), estimator, args))
        except RuntimeError as e:
            print("%s: %s" % (name, e), file=sys.stderr)
            failed = 1
    summary(models)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump(models, f, indent=1)
    return failed


if __name__ == "__main__":
    sys.exit(main())
