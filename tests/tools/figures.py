#!/usr/bin/env python3
"""Measures the figures on memory, compile time and reproducibility in docs/performance.md and docs/testing.md.

usage: figures.py MCC MODELS_DIR [BIG_MODEL.onnx]

- arena: for every zoo model in MODELS_DIR, at the inputs of zoo.json, the arena over the largest sum of live tensors;
  more than 1.3 fails.
- compile time of generated models (scaling.py) with n and 2n nodes: more than 2.8 times the processor time fails. All
  that are so are about linear; a quadratic part would show as a factor of 4.
- reproducible: every object made twice, the second time from another folder; a difference fails.
- compile time and peak memory of BIG_MODEL (resnet50_rand of derive_light.py): told, and peak memory of more than four
  times the model's size fails.
A line a model, exit 0 when all hold.
"""
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import scaling

ARENA_LIMIT, MEMORY_LIMIT, GROWTH_LIMIT = 1.3, 4.0, 2.8
HERE = os.path.dirname(os.path.abspath(__file__))


def pins(specs):
    return [part for name, s in specs.items() for part in ("--shape", "%s=%s" % (name, "x".join(map(str, s["shape"]))))
            if s["shape"]]


def arena(mcc, model, specs):
    done = subprocess.run([mcc, "inspect", model, "--json"] + pins(specs), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        return None, done.stderr.decode().strip().splitlines()[0]
    report = json.loads(done.stdout)
    if not isinstance(report["arena_bytes"], int):
        return None, "arena depends on data: %s" % report["arena_bytes"]
    return report["arena_bytes"], report["live_bytes"]


def same_twice(mcc, model, folder):
    objects = []
    for n, cwd in enumerate((".", folder)):
        path = os.path.join(folder, "%d.o" % n)
        subprocess.run([mcc, model, "-o", path], cwd=cwd, check=True, stdout=subprocess.DEVNULL)
        with open(path, "rb") as f:
            objects.append(f.read())
    return objects[0] == objects[1]


def seconds_of(mcc, model, folder):
    """Processor seconds of a compilation; the minimum of three, since the machine may be busy."""
    best = float("inf")
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([mcc, model, "-o", os.path.join(folder, "s.o"), "--cpu", "x86-64-v3"], check=True,
                       stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return best


def scales(mcc, folder):
    """The number of generated models that take more than about twice the time for twice the nodes."""
    failed = 0
    for name, graph, n in scaling.MODELS:
        times = []
        for count in (n, 2 * n):
            path = os.path.join(folder, "%s%d.onnx" % (name, count))
            scaling.save(graph(count), path)
            times.append(seconds_of(mcc, path, folder))
        growth = times[1] / times[0]
        wrong = growth > GROWTH_LIMIT
        failed += wrong
        print("%-28s %d nodes %.2f s, %d nodes %.2f s: %.2f times%s" %
              (name, n, times[0], 2 * n, times[1], growth, "  <-- not linear" if wrong else ""), flush=True)
    return failed


def main():
    if len(sys.argv) not in (3, 4):
        print(__doc__, file=sys.stderr)
        return 2
    mcc, models = os.path.abspath(sys.argv[1]), sys.argv[2]
    with open(os.path.join(HERE, "..", "zoo", "zoo.json"), encoding="utf-8") as f:
        zoo = {m["name"]: m["inputs"] for m in json.load(f)["models"]}
    with tempfile.TemporaryDirectory() as folder:
        failed = scales(mcc, folder)
        for name, specs in zoo.items():
            model = os.path.abspath(os.path.join(models, name + ".onnx"))
            if not os.path.exists(model):
                continue
            total, live = arena(mcc, model, specs)
            if total is None:
                print("%-28s %s" % (name, live))
                continue
            ratio = total / live if live else 1.0
            same = same_twice(mcc, model, folder)
            # Every buffer is aligned to 64 bytes, which dominates the size of tensors with a few elements.
            wrong = ratio > ARENA_LIMIT and total - live > 4096 or not same
            failed += wrong
            print("%-28s arena %9d bytes, %.2f of the live tensors%s%s" %
                  (name, total, ratio, "" if same else ", NOT REPRODUCIBLE", "  <-- too much" if wrong else ""), flush=True)
    if len(sys.argv) == 4:
        start, size = time.perf_counter(), os.path.getsize(sys.argv[3])
        with tempfile.TemporaryDirectory() as folder:
            child = subprocess.Popen([mcc, sys.argv[3], "-o", os.path.join(folder, "m.o")])
            _, status, usage = os.wait4(child.pid, 0)
        seconds, peak = time.perf_counter() - start, usage.ru_maxrss * 1024
        print("%s: %.2f s, peak memory %.2f times its size" % (os.path.basename(sys.argv[3]), seconds, peak / size))
        failed += status != 0 or peak > MEMORY_LIMIT * size
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
