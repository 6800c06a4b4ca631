#!/usr/bin/env python3
"""Compare compressed forms of tasks' models: made by mcc and by its peers from the same calibration data, scored alike.

usage: compare.py [--work DIR] [--mcc MCC] [--forms int8,...] [--tools mcc,...] [--samples 128] [--limit N] [--must]
                  [--force] [TASK ...]

For each task (make.py makes it first) and form, every tool that offers the form compresses the float model in a process and
a virtual environment of its own; ONNX Runtime runs all results on the task's test samples, one sample a run. The table says
what each lost: points of the task's metric with the paired 95 % interval (of resampled test samples), the relative L2
difference of the outputs from the float model's, the bytes of the file's tensors, the share of weights that are zero (forms
of another share do not compare). Models and results stay in DIR/TASK/forms (results.json there: one entry a model); a tool that refuses a model is listed with its reason. With --must,
exit status 1 when mcc refuses a form or loses more points than MAY_LOSE says.
"""
import argparse
import hashlib
import json
import os
import subprocess
import sys
import time

import environment

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PEERS = os.path.join(HERE, "peers")
REQUIREMENTS = {
    "onnxruntime_peer.py": os.path.join(HERE, "requirements.txt"),
    "reference_peer.py": os.path.join(HERE, "requirements.txt"),
    "nncf_peer.py": os.path.join(PEERS, "requirements-nncf.txt"),
    "inc_peer.py": os.path.join(PEERS, "requirements-inc.txt"),
}
# Form: tool: the options of `mcc compress`, or a peer's script and its variant.
FORMS = {
    "int8": {
        "mcc": ["--quantize", "int8"],
        "ort-minmax": ("onnxruntime_peer.py", "minmax"),
        "ort-entropy": ("onnxruntime_peer.py", "entropy"),
        "ort-percentile": ("onnxruntime_peer.py", "percentile"),
        "nncf": ("nncf_peer.py", "ptq"),
        "nncf-accurate": ("nncf_peer.py", "accurate"),
        "inc": ("inc_peer.py", "minmax"),
    },
    "int4": {
        "mcc": ["--quantize", "int4", "--block", "32"],
        "ort-nbits": ("onnxruntime_peer.py", "nbits"),
        "nncf": ("nncf_peer.py", "int4"),
        "gptq": ("reference_peer.py", "gptq4"),
        "nearest": ("reference_peer.py", "nearest4"),
    },
    "codebook4": {"mcc": ["--quantize", "codebook4"], "k-means": ("reference_peer.py", "codebook4")},
    # The shape that saves time, and the one that loses least.
    "2:4": {
        "mcc": ["--pattern", "2:4", "--recover"],
        "mcc-rows": ["--pattern", "1x2:4", "--everywhere"],
        "sparsegpt": ("reference_peer.py", "sparsegpt2:4"),
        "magnitude": ("reference_peer.py", "magnitude2:4"),
    },
    "prune70": {
        "mcc": ["--prune", "0.7", "--everywhere"],
        "sparsegpt": ("reference_peer.py", "sparsegpt0.7"),
        "magnitude": ("reference_peer.py", "magnitude0.7"),
    },
    "prune80": {
        "mcc": ["--prune", "0.8", "--everywhere", "--recover"],
        "mcc-one-shot": ["--prune", "0.8", "--everywhere"],
        "sparsegpt": ("reference_peer.py", "sparsegpt0.8"),
        "magnitude": ("reference_peer.py", "magnitude0.8"),
    },
    "blocks80": {"mcc": ["--prune", "0.8", "--pattern", "blocks", "--recover"]},
    "channels50": {"mcc": ["--prune", "0.5", "--pattern", "channels", "--recover"]},
    "prune70+int8": {
        "mcc": ["--prune", "0.7", "--everywhere", "--quantize", "int8"],
        "sparsegpt+ort": ("reference_peer.py", "sparsegpt0.7+int8"),
    },
}

# Points of accuracy that mcc's forms may lose.
MAY_LOSE = {"int8": 0.3, "int4": 0.5, "codebook4": 0.5, "2:4": 1.0, "prune70": 1.0, "prune80": 1.0, "channels50": 2.0,
            "prune70+int8": 1.0}


def arguments():
    ap = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    ap.add_argument("tasks", metavar="TASK", nargs="*", help="(default: those that exist in DIR)")
    ap.add_argument("--work", default=os.path.join(ROOT, "target", "tasks"), help="default: target/tasks")
    ap.add_argument("--mcc", default=os.path.join(ROOT, "target", "release", "mcc"))
    ap.add_argument("--forms", default=",".join(FORMS), help="comma-separated (default: all)")
    ap.add_argument("--tools", help="comma-separated (default: all)")
    ap.add_argument("--samples", type=int, default=128, help="calibration samples for every tool (default: 128)")
    ap.add_argument("--limit", type=int, help="only the first N test samples")
    ap.add_argument("--extra", action="append", default=[], metavar="NAME=OPTIONS",
                    help="one more way of mcc for the forms asked for: options added to those of its form")
    ap.add_argument("--force", action="store_true", help="make and run again what has a result already")
    ap.add_argument("--must", action="store_true", help="fail where mcc loses too much")
    ap.add_argument("--out", metavar="FILE.md", help="write the tables there, too")
    args = ap.parse_args()
    args.work, args.mcc = os.path.abspath(args.work), os.path.abspath(args.mcc)
    args.forms = args.forms.split(",")
    if set(args.forms) - set(FORMS):
        ap.error("forms are %s" % ", ".join(FORMS))
    args.tools = args.tools and args.tools.split(",")
    args.extra = dict(e.split("=", 1) for e in args.extra)
    return args


def command(way, model, calib, out, args):
    """What makes a model: the command, in the environment that it needs."""
    if isinstance(way, list):
        return [args.mcc, "compress", model, "-o", out, "--calib", calib, "--samples", str(args.samples), *way]
    script, variant = way
    own = os.path.dirname(REQUIREMENTS[script]) == PEERS
    folder = os.path.join(args.work, "venv-" + script.partition("_")[0] if own else "venv")
    python = environment.made(REQUIREMENTS[script], folder)
    return [python, os.path.join(PEERS, script), model, calib, out, variant, str(args.samples)]


def compress(way, model, calib, out, args):
    """Makes a model: seconds, or an error."""
    folder = os.path.dirname(out)
    tool = command(way, model, calib, out, args)
    start = time.time()
    try:
        done = subprocess.run(tool, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", timeout=3600)
    except subprocess.TimeoutExpired:
        return None, "no result within an hour"
    with open(out + ".log", "w", encoding="utf-8") as f:
        f.write(done.stdout)
    if done.returncode or not os.path.exists(out):
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()] or ["exit status %d" % done.returncode]
        first = [k for k, line in enumerate(lines) if "rror" in line]
        # mcc's message starts with its first line; a traceback ends with it.
        said = lines[first[0] if first else 0:] if isinstance(way, list) else lines[first[-1] if first else -1:][:1]
        return None, " ".join(said)[:200]
    return time.time() - start, None


def tensors(model):
    """Every tensor of a model's file: initializers and constants, those of inner graphs included."""
    import onnx

    def of(graph):
        yield from graph.initializer
        for node in graph.node:
            for a in node.attribute:
                if a.type == onnx.AttributeProto.TENSOR:
                    yield a.t
                elif a.type == onnx.AttributeProto.GRAPH:
                    yield from of(a.g)
    return of(model.graph)


def weighed(path):
    """Bytes of a model's tensors, and the share of zeros among the elements of the large ones."""
    import numpy as np
    import onnx
    from onnx import numpy_helper
    model = onnx.load(path)
    total = zeros = elements = 0
    for t in tensors(model):
        a = numpy_helper.to_array(t)
        packed = t.data_type in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4)
        total += -(-a.size // 2) if packed else a.nbytes
        if a.size >= 1024 and a.ndim > 1 and a.dtype.kind == "f":
            zeros, elements = zeros + int((a == 0).sum()), elements + a.size
    # References keep floats in the file, and say what their form takes.
    total = next((int(p.value) for p in model.metadata_props if p.key == "effective_bytes"), total)
    return total, zeros / elements if elements else None


def measured(task, before, path):
    """What a model scores, loses and weighs, against the float model's output `before`."""
    from score import relative_l2
    after = task.run(path)
    row = {"relative_l2": relative_l2(after, before)}
    row["bytes"], row["zeros"] = weighed(path)
    if task.metric:
        rows = task.rows(after)
        lost, low, high = task.interval(task.rows(before), rows)
        row.update(score=float(task.metric.total(rows)), lost=float(lost), low=float(low), high=float(high))
    return row


def digest(*parts):
    h = hashlib.sha256()
    for p in parts:
        h.update(repr(p).encode())
    return h.hexdigest()[:16]


def stamp(way, task, args):
    """Changes when a result is out of date."""
    tool = args.mcc if isinstance(way, list) else os.path.join(PEERS, way[0])
    with open(tool, "rb") as f:
        return digest(hashlib.sha256(f.read()).hexdigest(), way, task.about["model_sha256"], args.samples, args.limit)


def table(task, base, rows):
    says = task.metric.says if task.metric else "no labels"
    lines = ["### %s: %s; float model %s (%s)" % (task.about["name"], task.about["items"], base, says), "",
             "| form | tool | points lost | 95 % interval | relative L2 | bytes | smaller | zeros | seconds |",
             "|---|---|---|---|---|---|---|---|---|"]
    full, _ = weighed(os.path.join(task.folder, "model.onnx"))
    for r in rows:
        if "error" in r:
            lines.append("| %s | %s | refused: %s | | | | | | |" % (r["form"], r["tool"], r["error"].replace("|", "/")))
            continue
        lost = ["%.2f" % r["lost"], "%.2f .. %.2f" % (r["low"], r["high"])] if "lost" in r else ["", ""]
        zeros = "%.0f %%" % (100 * r["zeros"]) if r.get("zeros") else ""
        lines.append("| " + " | ".join([r["form"], r["tool"], *lost, "%.4f" % r["relative_l2"], str(r["bytes"]),
                                         "%.2fx" % (full / r["bytes"]), zeros, "%.0f" % r["seconds"]]) + " |")
    return "\n".join(lines) + "\n"


def compare(task, args):
    folder = os.path.join(task.folder, "forms")
    os.makedirs(folder, exist_ok=True)
    results_path = os.path.join(folder, "results.json")
    results = {}
    if os.path.exists(results_path):
        with open(results_path, encoding="utf-8") as f:
            results = json.load(f)
    model, calib = (os.path.join(task.folder, name) for name in ("model.onnx", "calib.npz"))
    before = task.run(model)
    rows = []
    for form in args.forms:
        ways = dict(FORMS[form])
        ways.update((name, ways["mcc"] + options.split()) for name, options in args.extra.items())
        for tool, way in ways.items():
            if args.tools and tool not in args.tools and tool not in args.extra:
                continue
            key, want = "%s/%s" % (form, tool), stamp(way, task, args)
            if args.force or results.get(key, {}).get("stamp") != want:
                out = os.path.join(folder, "%s-%s.onnx" % (form.replace(":", "_"), tool))
                seconds, error = compress(way, model, calib, out, args)
                row = {"form": form, "tool": tool, "stamp": want}
                try:
                    row.update({"error": error} if error else dict(measured(task, before, out), seconds=seconds))
                except Exception as e:      # a model that ONNX Runtime refuses is a result
                    row["error"] = "its model fails: " + (str(e).strip().splitlines() or [repr(e)])[-1][:140]
                results[key] = row
                with open(results_path, "w", encoding="utf-8") as f:
                    json.dump(results, f, indent=1)
            rows.append(results[key])
            print(json.dumps(results[key]), file=sys.stderr, flush=True)
    base = task.score_of(before) if task.metric else "-"
    return table(task, base, rows), [r for r in rows if r["tool"] == "mcc" and r.get("lost", 100) > MAY_LOSE.get(r["form"], 100)]


def main():
    args = arguments()
    environment.enter(__file__, os.path.join(HERE, "requirements.txt"), os.path.join(args.work, "venv"))
    import score
    names = args.tasks or sorted(n for n in os.listdir(args.work) if os.path.exists(os.path.join(args.work, n, "task.json")))
    if not names:
        sys.exit("compare: no task in %s; make.py makes them" % args.work)
    tables, failed = [], False
    for name in names:
        text, worse = compare(score.Loaded(os.path.join(args.work, name), args.limit), args)
        tables.append(text)
        print(text, flush=True)
        for r in worse if args.must else []:
            failed = True
            why = r.get("error") or "loses %.2f points, %.2f may be" % (r["lost"], MAY_LOSE[r["form"]])
            print("%s, %s: %s" % (name, r["form"], why), file=sys.stderr)
        if args.out:
            with open(args.out, "w", encoding="utf-8") as f:
                f.write("\n".join(tables))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
