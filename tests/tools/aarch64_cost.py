#!/usr/bin/env python3
"""Estimates the cost of a model on 64-bit Arm without such a machine: executed instructions and cycles of the hot loops.

usage: aarch64_cost.py [--mcc MCC] [--cpu generic] [--models DIR]... [--top 6] [--onnxruntime] [--show] [--json FILE] NAME...

Each NAME of zoo.json is compiled for aarch64-linux, linked with drive.c and run under qemu-aarch64 with a plugin that counts
the executions of every block of code: once with one inference and once with two, and the difference is an inference. Told
are millions of instructions by class, the hottest kernels, and of each one its innermost hot loop: cycles an iteration
by llvm-mca for every --mca core, and its multiply-adds a cycle as a share of those of a loop in registers.
--onnxruntime counts ONNX Runtime's aarch64 wheel in the same way (the newest that starts under that qemu; its Python and
libraries come from Debian's arm64 packages and are kept in --work; nothing is installed).
The counts repeat exactly; what the machine does besides does not matter.
Needs qemu-aarch64 (Debian 12's 7.2: some later packages lack plugins), gcc, aarch64-linux-gnu-gcc with its static libc, llvm-19, numpy.
"""
import argparse
import bisect
import json
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)

import numpy as np  # noqa: E402

import aarch64_loops  # noqa: E402
from fetch_zoo import ZOO  # noqa: E402
from foreign import run, write_raw  # noqa: E402
from zoo_inputs import make_inputs  # noqa: E402

CLASSES = ("ldst", "simd", "branch", "int")
CODES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10, "float64": 11}
# Kernels' functions are called MODEL__NUMBER_NAME.
PREFIX = "m__"


def plugin(work):
    """The plugin, built for this machine's qemu."""
    version = re.search(r"version (\d+)", run("qemu-aarch64", "--version"))
    api = 1 if version and int(version[1]) < 9 else 4
    path = os.path.join(work, "blocks%d.so" % api)
    source = os.path.join(HERE, "qemu_blocks.c")
    if not os.path.exists(path) or os.path.getmtime(path) < os.path.getmtime(source):
        run("gcc", "-O2", "-shared", "-fPIC", "-DAPI=%d" % api, source, "-o", path)
    return path


def count(command, work, cpu, library, prefix=()):
    """{address: (bytes, executions, instructions by class)} of a program under qemu."""
    out = os.path.join(work, "blocks.txt")
    run("qemu-aarch64", "-cpu", cpu, *prefix, "-plugin", "%s,out=%s" % (library, out), *command)
    blocks = {}
    with open(out, encoding="ascii") as f:
        for line in f:
            address, *rest = line.split()
            size, times, *classes = map(int, rest)
            old = blocks.get(int(address, 16), (size, 0, classes))
            # A block is often translated again and may then end elsewhere: the longer one is used.
            longest = max(old, (size, 0, classes), key=lambda b: b[0])
            blocks[int(address, 16)] = (longest[0], old[1] + times, longest[2])
    return blocks


def an_inference(one, two):
    """The blocks that the second run executed in addition to the first."""
    left = {a: (size, times - one.get(a, (0, 0))[1], classes) for a, (size, times, classes) in two.items()}
    return {a: b for a, b in left.items() if b[1] > 0}


def totals(blocks):
    sums = dict.fromkeys(CLASSES, 0)
    for _, times, classes in blocks.values():
        for name, n in zip(CLASSES, classes):
            sums[name] += times * n
    return {"insns": sum(sums.values()), **sums}


def symbols(executable):
    """Addresses and names of functions, sorted."""
    rows = [line.split() for line in run("aarch64-linux-gnu-nm", executable).splitlines()]
    return sorted((int(r[0], 16), r[2]) for r in rows if len(r) == 3 and r[1] in "tT" and not r[2].startswith("$"))


def by_symbol(blocks, executable):
    table = symbols(executable)
    starts, found = [a for a, _ in table], {}
    for address, block in blocks.items():
        at = bisect.bisect_right(starts, address) - 1
        found.setdefault(table[at][1] if at >= 0 else "?", {})[address] = block
    return found


def hottest_loop(blocks, code):
    """The innermost loop around the block that executes most instructions, and its number of iterations."""
    weight = lambda item: item[1][0] // 4 * item[1][1]  # noqa: E731
    address = max(blocks.items(), key=weight)[0]
    loop = aarch64_loops.innermost(code, address)
    if not loop:
        return [], 0
    last = loop[-1][0]
    return loop, sum(times for a, (size, times, _) in blocks.items() if a <= last < a + size)


def cost(name, model, specs, args):
    folder = os.path.join(args.work, name)
    os.makedirs(folder, exist_ok=True)
    feeds = make_inputs(specs)
    obj, exe = os.path.join(folder, "m.o"), os.path.join(folder, "drive")
    pins = [part for k, v in feeds.items() if v.ndim for part in ("--shape", "%s=%s" % (k, "x".join(map(str, v.shape))))]
    run(args.mcc, model, "-o", obj, "--target", "aarch64-unknown-linux-gnu", "--name", "m", "--cpu", args.cpu, *pins)
    run("aarch64-linux-gnu-gcc", "-O1", "-std=c11", "-static", "-DMODEL=m_model", "-include", os.path.join(folder, "m.h"),
        os.path.join(HERE, "drive.c"), obj, "-Wl,--wrap=malloc", "-o", exe)
    report = json.loads(run(args.mcc, "inspect", model, "--json", *pins))
    ins = []
    for n, port in enumerate(report["inputs"]):
        ins.append(os.path.join(folder, "input_%d" % n))
        write_raw(ins[-1], feeds[port["name"]], CODES[str(feeds[port["name"]].dtype)])
    outs = [os.path.join(folder, "output_%d" % n) for n in range(len(report["outputs"]))]
    library = plugin(args.work)
    runs = []
    for times in (1, 2):
        os.environ["RUNS"] = str(times)
        runs.append(count([exe, *ins, "--", *outs], folder, args.qemu_cpu, library))
    blocks = an_inference(*runs)
    functions, kernels = aarch64_loops.functions(exe), []
    for symbol, own in by_symbol(blocks, exe).items():
        row = {"symbol": symbol, **totals(own)}
        if symbol.startswith(PREFIX):
            row["loop"], row["rounds"] = hottest_loop(own, functions[symbol])
        kernels.append(row)
    kernels.sort(key=lambda r: -r["insns"])
    for row in kernels[:args.top]:
        if row.get("loop"):
            row["cost"] = aarch64_loops.report(row["loop"], args.mca)
    return {"name": name, "mcc": totals(blocks), "multiply_adds": report.get("multiply_adds"), "kernels": kernels[:args.top],
            "other_symbols": sorted({r["symbol"] for r in kernels if not r["symbol"].startswith(PREFIX)})}


def onnxruntime(model, specs, args):
    """The same counts of ONNX Runtime's wheel."""
    folder = os.path.join(args.work, "onnxruntime")
    run(os.path.join(HERE, "aarch64_onnxruntime.sh"), folder)
    np.savez(os.path.join(folder, "inputs.npz"), **make_inputs(specs))
    python = os.path.join(folder, "root/usr/bin/python3.11")
    os.environ["PYTHONHASHSEED"] = "0"
    runs = [count([python, os.path.join(folder, "run.py"), model, os.path.join(folder, "inputs.npz"), str(n)], folder,
                  args.qemu_cpu, plugin(args.work), ("-L", os.path.join(folder, "root"))) for n in (1, 2)]
    one, two = map(totals, runs)
    return {k: two[k] - one[k] for k in two}


def millions(counts):
    return "%8.1f  %8.1f  %8.1f  %8.1f  %8.1f" % tuple(counts[k] / 1e6 for k in ("insns", "simd", "ldst", "int", "branch"))


def tell(row, args):
    print("\n%s\n%-34s %8s  %8s  %8s  %8s  %8s" % (row["name"], "million instructions", "all", "simd", "ldst", "int", "branch"))
    print("%-34s %s" % ("mcc", millions(row["mcc"])))
    if "onnxruntime" in row:
        print("%-34s %s" % ("ONNX Runtime", millions(row["onnxruntime"])))
        print("%-34s %8.2f" % ("mcc / ONNX Runtime", row["mcc"]["insns"] / row["onnxruntime"]["insns"]))
    for k in row["kernels"]:
        print("  %-32s %s" % (k["symbol"][:32], millions(k)))
        c = k.get("cost")
        if not c:
            continue
        print("    loop of %d instructions, %d multiply-adds, %.3g million rounds" %
              (c["instructions"], c["multiply_adds"], k["rounds"] / 1e6))
        for cpu in args.mca:
            m = c[cpu]
            if m["cycles"]:
                share = ", %.2f multiply-adds a cycle, %.0f %% of the limit" % (m["per_cycle"], 100 * m["of_limit"]) \
                    if m.get("of_limit") else ""
                print("      %-12s %.1f cycles%s" % (cpu, m["cycles"], share))
        if args.show:
            print("\n".join("        %x: %s" % line for line in k["loop"]))


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    ap.add_argument("names", metavar="NAME", nargs="+")
    ap.add_argument("--mcc", default=os.path.join(ROOT, "target", "release", "mcc"))
    ap.add_argument("--cpu", default="generic", help="for mcc (default: generic)")
    ap.add_argument("--qemu-cpu", default="neoverse-n1", help="the machine (default: neoverse-n1)")
    ap.add_argument("--mca", default="neoverse-n1,cortex-a55,neoverse-v1", help="cores for llvm-mca")
    ap.add_argument("--top", type=int, default=6, help="kernels to report (default: 6)")
    ap.add_argument("--models", action="append", default=[], metavar="DIR", help="look here for NAME.onnx")
    ap.add_argument("--work", default=os.path.join(ROOT, "target", "aarch64"), help="folder for all output")
    ap.add_argument("--onnxruntime", action="store_true", help="count ONNX Runtime too")
    ap.add_argument("--show", action="store_true", help="print the loops")
    ap.add_argument("--json", metavar="FILE")
    args = ap.parse_args()
    args.mca = args.mca.split(",")
    args.work = os.path.abspath(args.work)
    os.makedirs(args.work, exist_ok=True)
    peers = os.path.join(ROOT, "target", "peers")
    args.models += [os.path.join(peers, "zoo"), os.path.join(peers, "derived")]
    with open(ZOO, encoding="utf-8") as f:
        zoo = json.load(f)
    specs = {m["name"]: m["inputs"] for m in zoo["models"]}
    specs.update({d["name"]: specs[d["base"]] for d in zoo["derived"]})
    rows, failed = [], 0
    for name in args.names:
        model = next((p for d in args.models for p in [os.path.join(d, name + ".onnx")] if os.path.exists(p)), None)
        if name not in specs or model is None:
            ap.error("%s: not in zoo.json, or no such file in %s" % (name, ", ".join(args.models)))
        try:
            row = cost(name, os.path.abspath(model), specs[name], args)
            if args.onnxruntime:
                row["onnxruntime"] = onnxruntime(os.path.abspath(model), specs[name], args)
        except RuntimeError as e:
            print("%s: %s" % (name, e), file=sys.stderr)
            failed = 1
            continue
        rows.append(row)
        tell(row, args)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump(rows, f, indent=1)
    return failed


if __name__ == "__main__":
    sys.exit(main())
