#!/usr/bin/env python3
"""Write zoo models as ONNX test cases, with ONNX Runtime's outputs as the reference.

usage: zoo_reference.py [--zoo ZOO.json] [--force] MODELS_DIR OUT_DIR [NAME ...]

For each MODELS_DIR/NAME.onnx that zoo.json knows (a model of its own or a derived one):
  OUT_DIR/NAME/model.onnx                 a link to the model
  OUT_DIR/NAME/test_data_set_0/           input_N.pb, output_N.pb in the graph's order, names set
  OUT_DIR/NAME/tolerance                  a line "RTOL ATOL" an output, see below
  OUT_DIR/NAME/reference.json             what the reference was made from; unchanged: nothing is done
Tolerance: rtol 1e-3; atol is 1e-4 of the output's range (largest minus smallest finite element), 0 for integers. A model may
have an "atol_of_range" of its own in zoo.json, with the reason beside it.
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

RTOL, ATOL_OF_RANGE = 1e-3, 1e-4


def read_zoo(path):
    """{name: specs of its inputs} and {name: its atol}, derived models included."""
    with open(path, encoding="utf-8") as f:
        zoo = json.load(f)
    specs = {m["name"]: m["inputs"] for m in zoo["models"]}
    specs.update({d["name"]: specs[d["base"]] for d in zoo["derived"]})
    return specs, {m["name"]: m["atol_of_range"] for m in zoo["models"] if "atol_of_range" in m}


def session(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def absolute_tolerance(output, of_range):
    if not np.issubdtype(output.dtype, np.floating):
        return 0.0
    finite = output[np.isfinite(output)].astype(np.float64)
    return of_range * float(finite.max() - finite.min()) if finite.size else 0.0


def write_tensor(path, array, name):
    with open(path, "wb") as f:
        f.write(numpy_helper.from_array(np.asarray(array), name).SerializeToString())


def reference(model, specs, of_range, folder):
    """Writes one case."""
    run = session(model)
    feeds = make_inputs(specs)
    inputs = [i.name for i in run.get_inputs()]     # the graph's order, initializers left out
    if sorted(inputs) != sorted(feeds):
        raise ValueError("the model's inputs are %s, zoo.json has %s" % (inputs, list(feeds)))
    outputs = run.run(None, feeds)
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
    with open(os.path.join(folder, "tolerance"), "w", encoding="ascii") as f:
        for output in outputs:
            f.write("%g %.3g\n" % (RTOL, absolute_tolerance(output, of_range)))


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    ap.add_argument("models", metavar="MODELS_DIR")
    ap.add_argument("out", metavar="OUT_DIR")
    ap.add_argument("names", metavar="NAME", nargs="*", help="only these models (default: all of MODELS_DIR)")
    ap.add_argument("--zoo", default=ZOO)
    ap.add_argument("--force", action="store_true", help="make them again even if nothing changed")
    args = ap.parse_args()
    ort.set_default_logger_severity(4)
    specs, tolerances = read_zoo(args.zoo)
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
        of_range = tolerances.get(name, ATOL_OF_RANGE)
        key = {"model": sha256_file(model), "inputs": specs.get(name), "tool": tool, "atol_of_range": of_range,
               "onnxruntime": ort.__version__, "numpy": np.__version__, "onnx": onnx.__version__}
        folder = os.path.join(args.out, name)
        stamp = os.path.join(folder, "reference.json")
        if not args.force and os.path.exists(os.path.join(folder, "model.onnx")) and os.path.exists(stamp):
            with open(stamp, encoding="utf-8") as f:
                if json.load(f)["key"] == key:
                    print("%s: exists already" % name)
                    continue
        try:
            reference(model, specs[name], of_range, folder)
        except Exception as e:  # one refused model must not cost the others their references
            print("%s: %s" % (name, str(e).strip().splitlines()[-1]), file=sys.stderr)
            failed = 1
            continue
        with open(stamp, "w", encoding="utf-8") as f:
            json.dump({"key": key}, f, indent=1)
        print("%s: made" % name, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
