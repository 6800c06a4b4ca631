#!/usr/bin/env python3
"""Hashes of the objects that mcc makes, which refactoring must leave unchanged.

usage: objects.py MCC MODEL_OR_DIR... [--jobs 2] [--against FILE]

A line an object: the first 16 digits of its SHA-256, how it was compiled, the model; "-" for a hash where mcc refused.
Models of unknown shapes are compiled as they are. --against FILE compares with lines that an earlier run wrote: only
what differs is printed, and the exit status is 1 if something does.
"""
import argparse
import concurrent.futures
import hashlib
import os
import subprocess
import sys
import tempfile

#: How each model is compiled. `native` is not among them, so that results can be compared between machines.
WAYS = [[], ["--cpu", "native"], ["--cpu", "x86-64-v2"], ["--cpu", "x86-64-v3", "--threads=2"],
        ["--cpu", "sapphirerapids", "-O0"], ["--target", "aarch64-linux-gnu", "--cpu", "generic"],
        ["--target", "aarch64-linux-gnu", "--cpu", "generic,+dotprod"]]


def models(paths):
    for path in paths:
        if os.path.isdir(path):
            for folder, _, names in sorted(os.walk(path)):
                yield from (os.path.join(folder, n) for n in sorted(names) if n.endswith(".onnx"))
        else:
            yield path


def line(mcc, model, way):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m.o")
        # Messages may contain line numbers and paths; only that a model is refused counts.
        done = subprocess.run([mcc, model, "-o", path, "--name", "m", *way], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
        digest = "-"
        if done.returncode == 0:
            with open(path, "rb") as f:
                digest = hashlib.sha256(f.read()).hexdigest()[:16]
    return "%-16s %-45s %s" % (digest, " ".join(way) or "default", os.path.splitext(os.path.basename(model))[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mcc")
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--against")
    options = parser.parse_args()
    work = [(options.mcc, model, way) for model in models(options.paths) for way in WAYS]
    if not work:
        parser.error("no models")
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        lines = list(pool.map(lambda job: line(*job), work))
    if not options.against:
        print("\n".join(lines))
        return 0
    with open(options.against) as f:
        before = dict((entry[17:], entry[:16]) for entry in f.read().splitlines())
    changed = [l for l in lines if before.get(l[17:]) != l[:16]]
    missing = set(before) - {l[17:] for l in lines}
    print("\n".join(changed + ["gone: " + m for m in sorted(missing)] + ["%d objects, %d differ" % (len(lines), len(changed))]))
    return 1 if changed or missing else 0


if __name__ == "__main__":
    sys.exit(main())
