#!/usr/bin/env python3
"""Time mcc against ONNX Runtime, one thread each, in turn within one run.

usage: compare_peers.py [--mcc MCC] [--rounds 5] [--seconds 1] [--markdown OUT.md] [--json OUT.json] MODELS_DIR... [NAME ...]

For each NAME.onnx of the MODELS_DIRs that zoo.json knows (or the NAMEs), `rounds` times: `mcc bench`, then ONNX Runtime
for `seconds`, in a process of its own. Compared are the minima over all rounds, since other users of a machine
only ever add time; the ratio is mcc's time over ONNX Runtime's, so less than 1 means that mcc is faster.
A model that either can't run is listed with the reason. Exit status 1 when mcc failed on any.
Needs onnxruntime and numpy.
"""
import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from fetch_zoo import ZOO
from zoo_inputs import make_inputs
from zoo_reference import read_zoo

BENCH_KEYS = ("min_ms", "median_ms", "runs", "load_ms", "arena_bytes", "text_bytes", "weights_bytes")


def time_onnxruntime(model, inputs, seconds):
    """What the child process does: one JSON object on stdout."""
    import onnxruntime as ort
    from zoo_reference import session
    ort.set_default_logger_severity(4)
    feeds = dict(np.load(inputs))
    start = time.perf_counter()
    run = session(model)
    load = (time.perf_counter() - start) * 1e3
    run.run(None, feeds)
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        run.run(None, feeds)
        times.append((time.perf_counter() - start) * 1e3)
    print(json.dumps({"min_ms": min(times), "median_ms": statistics.median(times), "runs": len(times), "load_ms": load}))


def child(cmd):
    """The last line of a command's stdout as JSON, or {"error": its last line of stderr}."""
    try:
        p = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=600)
    except subprocess.TimeoutExpired:
        return {"error": "no answer within 10 minutes"}
    try:
        if p.returncode == 0:
            return json.loads(p.stdout)
        lines = [line for line in p.stderr.strip().splitlines() if line.strip()]
        return {"error": "exit %d: %s" % (p.returncode, lines[0].strip()[:200] if lines else "")}
    except ValueError:
        return {"error": "no JSON on stdout"}


def merge(rounds):
    """One result of several rounds of the same command."""
    for r in rounds:
        if "error" in r:
            return r
    out = {k: rounds[0][k] for k in BENCH_KEYS if k in rounds[0]}
    out.update(min_ms=min(r["min_ms"] for r in rounds), median_ms=statistics.median(r["median_ms"] for r in rounds),
               load_ms=min(r["load_ms"] for r in rounds), runs=sum(r["runs"] for r in rounds))
    return out


def compare(name, model, specs, args, tmp):
    feeds = make_inputs(specs)
    packed = os.path.join(tmp, "inputs.npz")
    with open(packed, "wb") as f:
        np.savez(f, **{k: v for k, v in feeds.items()})
    bench = [args.mcc, "bench", model, "--json"]
    for k, (key, value) in enumerate(feeds.items()):
        path = os.path.join(tmp, "%d.npy" % k)
        np.save(path, value)
        bench += ["-i", "%s=%s" % (key, path)]
        # Dynamic dimensions: what an application that knows its sizes would say.
        bench += ["--shape", "%s=%s" % (key, "x".join(map(str, value.shape)))] if value.ndim else []
    peer = [sys.executable, os.path.abspath(__file__), "--child", model, packed, str(args.seconds)]
    mine, theirs = [], []
    for _ in range(args.rounds):
        mine.append(child(bench + args.mcc_arg))
        theirs.append(child(peer))
        if "error" in mine[-1] or "error" in theirs[-1]:
            break
    row = {"name": name, "mcc": merge(mine), "onnxruntime": merge(theirs)}
    if "error" not in row["mcc"] and "error" not in row["onnxruntime"]:
        row["ratio"] = row["mcc"]["min_ms"] / row["onnxruntime"]["min_ms"]
    return row


def markdown(rows, args):
    import onnxruntime as ort
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            cpu = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), cpu)
    lines = ["mcc against ONNX Runtime %s, one thread each, in turn, %d rounds; %s." % (ort.__version__, args.rounds, cpu),
             "Milliseconds are minima; ratio = mcc / ONNX Runtime, less than 1: mcc is faster.", "",
             "| model | mcc ms | ORT ms | ratio | mcc load ms | ORT load ms | code kB | weights kB | arena kB |",
             "|---|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for r in rows:
        m, o = r["mcc"], r["onnxruntime"]
        if "ratio" in r:
            kb = ["%.0f" % (m[k] / 1000) for k in ("text_bytes", "weights_bytes", "arena_bytes")]
            cells = ["%.3g" % m["min_ms"], "%.3g" % o["min_ms"], "%.2f" % r["ratio"], "%.2g" % m["load_ms"],
                     "%.0f" % o["load_ms"]] + kb
            lines.append("| %s | %s |" % (r["name"], " | ".join(cells)))
        else:
            who = "mcc" if "error" in m else "ONNX Runtime"
            why = m.get("error") or o["error"]
            lines.append("| %s | %s: %s | | | | | | | |" % (r["name"], who, why.replace("|", "/")))
    ratios = [r["ratio"] for r in rows if "ratio" in r]
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        lines += ["", "%d models, geometric mean of the ratios %.2f, mcc faster on %d, slowest ratio %.2f."
                  % (len(ratios), mean, sum(r < 1 for r in ratios), max(ratios))]
    return "\n".join(lines) + "\n"


def main():
    if sys.argv[1:2] == ["--child"]:
        return time_onnxruntime(sys.argv[2], sys.argv[3], float(sys.argv[4]))
    ap = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    ap.add_argument("args", metavar="MODELS_DIR... NAME...", nargs="+")
    ap.add_argument("--mcc", default="mcc", help="the compiler (default: from PATH)")
    ap.add_argument("--mcc-arg", action="append", default=[], help="passed on to mcc bench")
    ap.add_argument("--zoo", default=ZOO)
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--seconds", type=float, default=1.0, help="ONNX Runtime's time a round (default: 1)")
    ap.add_argument("--markdown", metavar="FILE")
    ap.add_argument("--json", metavar="FILE")
    args = ap.parse_args()
    specs = read_zoo(args.zoo)
    dirs = [a for a in args.args if os.path.isdir(a)]
    names = [a for a in args.args if a not in dirs]
    models = {n: p for d in dirs for n in names or specs for p in [os.path.join(d, n + ".onnx")] if os.path.exists(p)}
    missing = [n for n in names if n not in models or n not in specs]
    if missing or not models:
        ap.error("no such model: %s" % ", ".join(missing or dirs or names))
    rows = []
    with tempfile.TemporaryDirectory(prefix="compare-") as tmp:
        for name, model in models.items():
            rows.append(compare(name, model, specs[name], args, tmp))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    table = markdown(rows, args)
    if args.markdown:
        with open(args.markdown, "w", encoding="utf-8") as f:
            f.write(table)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump(rows, f, indent=1)
    print(table, end="")
    return 1 if any("error" in r["mcc"] for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
