#!/usr/bin/env python3
"""Measures the gain of pruning and quantization: compressed models and their dense fp32 forms, all compiled by mcc.

usage: compare_forms.py [--mcc MCC] [--cpu native] [--seconds 3] [--work DIR] [--models DIR]... [--out PREFIX]
                        [--deepsparse] [--python311 PYTHON] [NAME ...]

A line a model: milliseconds of the dense form and of this one, in turns within one process, the least of all turns;
their ratio; bytes of the shared objects' weights, of the arenas, and their ratios; bytes of the model's file and of the
object that mcc makes of it by default, which has code for several CPU levels; the difference from ONNX Runtime's
results on the same file. --deepsparse adds DeepSparse 1.8.0, the one engine that gains by zeros, for the models whose
weights are sparse fp32: it lives in an environment of its own (WORK/deepsparse, made with PYTHON, a Python 3.11), takes
its turns between the others', and is compared with, nothing else.

NAMEs default to all derived models of zoo.json that have a dense form. The environment and the models are those of
compare_peers.py, which makes, fetches and derives them. The table goes to PREFIX.md and PREFIX.json (default: WORK/forms).
Exit status 1 when a model fails, differs from ONNX Runtime, or is slower than its dense form by more than 2 %.
"""
import argparse
import json
import os
import subprocess
import sys
import time

import compare_peers as peers

HERE = os.path.dirname(os.path.abspath(__file__))
SLOWEST = 1.02
DEEPSPARSE = ["deepsparse==1.8.0", "numpy<2"]


def dense_of(derived):
    """{compressed model: its dense form}."""
    dense = {base: name for name, base in derived.items() if name.endswith("_rand")}
    return {name: dense.get(base, base) for name, base in derived.items() if not name.endswith("_rand")}


class DeepSparse:
    """Runs an engine in a separate process: a line of input requests a turn, a line of output is its minimum time."""

    def __init__(self, python, model, specs):
        job = json.dumps({"model": model, "inputs": specs})
        self.process = subprocess.Popen([python, os.path.abspath(__file__), "--deepsparse-child"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.process.stdin.write(job + "\n")

    def turn(self, seconds):
        self.process.stdin.write("%g\n" % seconds)
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        while line and not line.startswith("ms "):
            line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("DeepSparse ended")
        return float(line.split()[1])

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def deepsparse_child():
    import deepsparse
    from zoo_inputs import make_inputs
    job = json.loads(sys.stdin.readline())
    engine = deepsparse.compile_model(job["model"], batch_size=1, num_cores=1)
    feeds = make_inputs(job["inputs"])
    inputs = [feeds[name] for name in engine.input_names]
    for line in sys.stdin:
        times, end = [], time.perf_counter() + float(line)
        while len(times) < 2 or time.perf_counter() < end:
            start = time.perf_counter()
            engine.run(inputs)
            times.append((time.perf_counter() - start) * 1e3)
        print("ms %g" % min(times), flush=True)


def deepsparse_python(args):
    """A Python with DeepSparse installed."""
    folder = os.path.join(args.work, "deepsparse")
    python, stamp = os.path.join(folder, "bin", "python"), os.path.join(folder, "installed")
    if not os.path.exists(stamp):
        subprocess.run([args.python311, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *DEEPSPARSE], check=True)
        open(stamp, "w", encoding="utf-8").close()
    return python


def measure(name, dense, paths, specs, args, python):
    from zoo_inputs import make_inputs
    peers.np, peers.make_inputs = __import__("numpy"), make_inputs
    feeds = make_inputs(specs)
    row, engines = {"name": name, "dense": dense}, {}
    for role, model in (("dense", dense), ("form", name)):
        symbol = "f_" + model
        library, report = peers.compile_model(args.mcc, args.cpu, 1, paths[model], symbol, specs, args.objects)
        engines[role] = peers.Mcc(library, symbol, feeds, None, 1)
        row[role] = {"weights_bytes": report["weights_bytes"], "arena_bytes": engines[role].arena_bytes,
                     "file_bytes": os.path.getsize(library), "least": float("inf")}
        engines[role].run()
    row["form"]["model_bytes"] = os.path.getsize(paths[name])
    row["form"]["object_bytes"] = peers.object_bytes(args.mcc, paths[name], "f_" + name, specs, args.objects)
    other = DeepSparse(python, paths[name], specs) if python else None
    row["deepsparse_ms"] = float("inf")
    end, turns = time.perf_counter() + args.seconds * (2 + bool(other)), 0
    while turns < 3 or time.perf_counter() < end:
        for role, engine in engines.items():
            row[role]["least"] = min(row[role]["least"], *peers.least_turn(engine, peers.TURN_SECONDS, 1000))
        if other:
            row["deepsparse_ms"] = min(row["deepsparse_ms"], other.turn(3 * peers.TURN_SECONDS))
        turns += 1
    if other:
        other.close()
    reference = peers.OnnxRuntime(paths[name], feeds, 1)
    reference.run()
    row["difference"] = peers.difference(engines["form"].results(), reference.results())
    return row


def markdown(rows):
    lines = ["| model | dense ms | ms | faster | weights kB | smaller | arena kB | smaller | file kB | object kB | "
             "differs | DeepSparse ms | faster |",
             "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for r in rows:
        if "error" in r:
            lines.append("| %s | %s |" % (r["name"], r["error"].replace("|", "/")))
            continue
        d, f = r["dense"], r["form"]
        size = lambda key: ("%.0f" % (f[key] / 1e3), "%.2fx" % (d[key] / max(1, f[key])))  # noqa: E731
        rival = r["deepsparse_ms"]
        told = ("%.4g" % rival, "%.2fx" % (rival / f["least"])) if rival < float("inf") else ("", "")
        lines.append("| %s |" % " | ".join([r["name"], "%.4g" % d["least"], "%.4g" % f["least"], "%.2fx" % (d["least"] / f["least"]),
                                           *size("weights_bytes"), *size("arena_bytes"), "%.0f" % (f["model_bytes"] / 1e3),
                                           "%.0f" % (f["object_bytes"] / 1e3), "%.1g" % r["difference"], *told]))
    return "\n".join(lines) + "\n"


def arguments():
    ap = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    ap.add_argument("names", metavar="NAME", nargs="*")
    ap.add_argument("--mcc", default=os.path.join(peers.ROOT, "target", "release", "mcc"))
    ap.add_argument("--cpu", default="native", help="for mcc (default: native)")
    ap.add_argument("--seconds", type=float, default=3, help="time per engine and model (default: 3; at least 3 turns)")
    ap.add_argument("--work", default=os.path.join(peers.ROOT, "target", "peers"), help="for models, objects, the environments")
    ap.add_argument("--models", action="append", default=[], metavar="DIR", help="look here for NAME.onnx first")
    ap.add_argument("--deepsparse", action="store_true", help="also time DeepSparse 1.8.0 on sparse fp32 models")
    ap.add_argument("--python311", default="python3.11", help="creates DeepSparse's environment (default: python3.11)")
    ap.add_argument("--out", metavar="PREFIX", help="write PREFIX.md and PREFIX.json (default: WORK/forms)")
    return ap.parse_args()


def main():
    if sys.argv[1:] == ["--deepsparse-child"]:
        return deepsparse_child()
    args = arguments()
    peers.own_environment(args.work, __file__)
    from fetch_zoo import ZOO
    with open(ZOO, encoding="utf-8") as f:
        listed = json.load(f)
    inputs = {m["name"]: m["inputs"] for m in listed["models"]}
    derived = {d["name"]: d["base"] for d in listed["derived"]}
    precisions = {d["name"]: d["dtype"] for d in listed["derived"]}
    dense = dense_of(derived)
    names = args.names or list(dense)
    unknown = [n for n in names if n not in dense]
    if unknown:
        print("compare_forms: no derived models of zoo.json: %s" % ", ".join(unknown), file=sys.stderr)
        return 2
    args.objects = os.path.join(args.work, "objects")
    os.makedirs(args.objects, exist_ok=True)
    paths = peers.find(sorted({*names, *(dense[n] for n in names)}), args, inputs, derived)
    python = deepsparse_python(args) if args.deepsparse else None
    rows, failed = [], False
    for name in names:
        rival = python if precisions[name] == "sparse" else None
        try:
            row = measure(name, dense[name], paths, inputs[derived[name]], args, rival)
            limit = peers.LIMIT["fp32" if precisions[name] in peers.EXACT else "int8"]
            failed |= row["difference"] > limit or row["form"]["least"] > SLOWEST * row["dense"]["least"]
        except Exception as e:      # one model must not cost the others
            row, failed = {"name": name, "error": (str(e).strip().splitlines() or [repr(e)])[-1][:200]}, True
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    table, prefix = markdown(rows), args.out or os.path.join(args.work, "forms")
    with open(prefix + ".md", "w", encoding="utf-8") as f:
        f.write(table)
    with open(prefix + ".json", "w", encoding="utf-8") as f:
        json.dump(rows, f, indent=1)
    print(table, end="")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
