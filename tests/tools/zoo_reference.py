#!/usr/bin/env python3
"""Write zoo models as ONNX test cases, with ONNX Runtime's outputs as the reference.

usage: zoo_reference.py [--zoo ZOO.json] [--force] MODELS_DIR OUT_DIR [NAME ...]

For each MODELS_DIR/NAME.onnx that zoo.json knows (a model of its own or a derived one):
  OUT_DIR/NAME/model.onnx                 a link to the model
  OUT_DIR/NAME/test_data_set_0/           input_N.pb, output_N.pb in the graph's order, names set
  OUT_DIR/NAME/tolerance                  a line "RTOL ATOL" an output, see below
  OUT_DIR/NAME/reference.json             what the reference was made from; unchanged: nothing is done
Tolerance: rtol 1e-3; atol is 1e-5, or three times the model's own noise where that is larger. The noise is
measured on ONNX Runtime alone: the largest change of an output when graph optimisations are turned off, and when all
weights and inputs move by one unit in the last place. Correct programs that round in another order differ that much, and in a
dynamically quantized or recurrent model it can be far more than 1e-5.
A model whose outputs change from run to run, or change their shape with the noise, is reported as not stable ("stable":
false in reference.json) and keeps the plain tolerance: no comparison of numbers says anything about it.
Needs onnx, onnxruntime and numpy.
"""
import argparse
import hashlib
import json
import os
import shutil
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from fetch_zoo import ZOO, sha256_file
from zoo_inputs import make_inputs

RTOL, ATOL, NOISE_FACTOR = 1e-3, 1e-5, 3.0
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


def read_zoo(path):
    """{name: specs of its inputs}, derived models included."""
    with open(path, encoding="utf-8") as f:
        zoo = json.load(f)
    specs = {m["name"]: m["inputs"] for m in zoo["models"]}
    specs.update({d["name"]: specs[d["base"]] for d in zoo["derived"]})
    return specs


def session(path, level=ort.GraphOptimizationLevel.ORT_ENABLE_ALL, threads=1):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = level
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def graphs(graph):
    yield graph
    for node in graph.node:
        for a in node.attribute:
            for g in [a.g] if a.HasField("g") else a.graphs:
                yield from graphs(g)


def nudge(a, rng):
    """Each number one unit in the last place up or down; multiples of 1/256, which may be exponents or sizes, stay."""
    if not np.issubdtype(a.dtype, np.floating):
        return a
    exact = a.astype(np.float64)
    way = (rng.integers(0, 2, a.shape, dtype=np.int8) * 2 - 1) * (exact * 256 != np.rint(exact * 256))
    return (exact * (1 + way * float(np.finfo(a.dtype).eps))).astype(a.dtype)


def nudged_outputs(path, feeds, seed):
    """What comes out when every weight and every input is nudged."""
    rng = np.random.default_rng(seed)
    model = onnx.load(path)
    for g in graphs(model.graph):
        tensors = list(g.initializer) + [a.t for n in g.node if n.op_type == "Constant" for a in n.attribute if a.HasField("t")]
        for t in tensors:
            if t.data_type in FLOATS:
                t.CopyFrom(numpy_helper.from_array(nudge(numpy_helper.to_array(t), rng), t.name))
    return session(model.SerializeToString()).run(None, {k: nudge(v, rng) for k, v in feeds.items()})


def noise(a, b):
    """Largest difference; infinities and NaNs count as equal, as do whole numbers."""
    if not np.issubdtype(a.dtype, np.floating):
        return 0.0
    if a.shape != b.shape:
        return float("inf")
    a, b = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    return float(np.abs(a - b)[finite].max(initial=0.0))


def same(a, b):
    return all(x.dtype == y.dtype and x.shape == y.shape and
               np.array_equal(x, y, equal_nan=np.issubdtype(x.dtype, np.floating)) for x, y in zip(a, b))


def measure_noise(model, feeds, outputs):
    others = [session(model, ort.GraphOptimizationLevel.ORT_DISABLE_ALL).run(None, feeds)]
    try:
        others += [nudged_outputs(model, feeds, seed) for seed in (1, 2)]
    except Exception:  # a shape that depends on a rounded value no longer fits
        return [float("inf")] * len(outputs)
    return [max(noise(a, b) for b in values) for a, *values in zip(outputs, *others)]


def write_tensor(path, array, name):
    with open(path, "wb") as f:
        f.write(numpy_helper.from_array(np.asarray(array), name).SerializeToString())


def reference(model, specs, folder):
    """Writes one case; returns each output's noise and its largest magnitude."""
    run = session(model)
    feeds = make_inputs(specs)
    inputs = [i.name for i in run.get_inputs()]     # the graph's order, initializers left out
    if sorted(inputs) != sorted(feeds):
        raise ValueError("the model's inputs are %s, zoo.json has %s" % (inputs, list(feeds)))
    outputs = run.run(None, feeds)
    noises = measure_noise(model, feeds, outputs) if same(outputs, run.run(None, feeds)) else [float("inf")] * len(outputs)
    data = os.path.join(folder, "test_data_set_0")
    shutil.rmtree(data, ignore_errors=True)
    os.makedirs(data)
    for k, name in enumerate(inputs):
        write_tensor(os.path.join(data, "input_%d.pb" % k), feeds[name], name)
    for k, (value, meta) in enumerate(zip(outputs, run.get_outputs())):
        write_tensor(os.path.join(data, "output_%d.pb" % k), value, meta.name)
    link = os.path.join(folder, "model.onnx")
    if os.path.lexists(link):
        os.remove(link)
    os.symlink(os.path.abspath(model), link)
    stable = np.isfinite(noises).all()
    with open(os.path.join(folder, "tolerance"), "w", encoding="ascii") as f:
        for n in noises:
            f.write("%g %.3g\n" % (RTOL, max(ATOL, NOISE_FACTOR * n) if stable else ATOL))
    return noises, [float(np.abs(o, dtype=np.float64).max(initial=0)) for o in outputs]


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    ap.add_argument("models", metavar="MODELS_DIR")
    ap.add_argument("out", metavar="OUT_DIR")
    ap.add_argument("names", metavar="NAME", nargs="*", help="only these models (default: all of MODELS_DIR)")
    ap.add_argument("--zoo", default=ZOO)
    ap.add_argument("--force", action="store_true", help="make them anew even if nothing changed")
    args = ap.parse_args()
    ort.set_default_logger_severity(4)
    specs = read_zoo(args.zoo)
    with open(os.path.abspath(__file__), "rb") as f:
        tool = hashlib.sha256(f.read()).hexdigest()[:16]
    failed = 0
    for name in args.names or specs:
        model = os.path.join(args.models, name + ".onnx")
        if not os.path.exists(model):
            if args.names:
                print("%s: no %s" % (name, model), file=sys.stderr)
                failed = 1
            continue
        key = {"model": sha256_file(model), "inputs": specs.get(name), "tool": tool,
               "onnxruntime": ort.__version__, "numpy": np.__version__, "onnx": onnx.__version__}
        folder = os.path.join(args.out, name)
        stamp = os.path.join(folder, "reference.json")
        if not args.force and os.path.exists(os.path.join(folder, "model.onnx")) and os.path.exists(stamp):
            with open(stamp, encoding="utf-8") as f:
                if json.load(f)["key"] == key:
                    print("%s: there already" % name)
                    continue
        try:
            noises, peaks = reference(model, specs[name], folder)
        except Exception as e:  # one refused model must not cost the others their references
            print("%s: %s" % (name, str(e).strip().splitlines()[-1]), file=sys.stderr)
            failed = 1
            continue
        stable = bool(np.isfinite(noises).all())
        with open(stamp, "w", encoding="utf-8") as f:
            json.dump({"key": key, "stable": stable}, f, indent=1)
        print("%s: %s" % (name, "noise " + ", ".join("%.2g of %.3g" % p for p in zip(noises, peaks)) if stable
                          else "NOT STABLE, no tolerance fits"), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
