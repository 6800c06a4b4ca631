#!/usr/bin/env python3
"""Checks every way to write a quantized layer, as a small model each: its form, and whether its results are right.

    quantized_forms.py MCC [--cpu NAME] [-O LEVEL] [--only TEXT]

Results are compared with ONNX Runtime's unoptimised run, or with onnx's reference where that lacks the operator: integers may
differ by one step, in few places (ties); floats by 1e-5 of the result's norm, or what the case says (`within`), such as a step
of what is quantized on the way. `form` is what `mcc inspect` tells of the layer, `bytes` (numbers of 8 bits multiplied) or
the reason why not.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator

from quantized_cases import CASES, Model


def reference(model, feed):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, feed)[0], ""
    except Exception as error:
        reason = str(error).splitlines()[0][:120]
    try:
        return ReferenceEvaluator(model).run(None, feed)[0], " (onnx reference)"
    except Exception as error:
        return None, " no reference: %s / %s" % (reason, str(error).splitlines()[0][:100])


def form(mcc, options, path):
    told = subprocess.run([mcc, "inspect", path, "--json", *options], capture_output=True, text=True)
    if told.returncode:
        return told.stderr.strip()
    told = json.loads(told.stdout)
    layers = [l for l in told["layers"] if l["subject"] in ("precision", "weights")]
    said = ["bytes" if l["form"].startswith("int8") else "%s: %s" % (l["form"], l["reason"]) for l in layers]
    steps = sorted(told["optimised_operations"])
    return "; ".join(said) or "operations " + " ".join(s for s in steps if s not in ("input",))


def compare(got, want, within, most):
    if got.shape != want.shape:
        return False, "shape %s, not %s" % (got.shape, want.shape)
    if want.dtype.kind in "iub":
        steps = np.abs(got.astype(np.int64) - want.astype(np.int64))
        share = np.mean(steps > 0)
        rare = share <= 0.02 or want.itemsize > 1
        return steps.max() <= most and rare, "max %d, %.2g %%" % (steps.max(), 100 * share)
    if got.dtype.kind == "V":
        got = got.view(want.dtype)
    a, b = got.astype(np.float64), want.astype(np.float64)
    error = np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30)
    return bool(error <= within), "rel %.1e" % error


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mcc")
    parser.add_argument("--cpu", default="native")
    parser.add_argument("-O", dest="level", default="3")
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    options, wrong = ["--cpu", args.cpu, "-O", args.level], 0
    with tempfile.TemporaryDirectory() as folder:
        path, results = os.path.join(folder, "m.onnx"), os.path.join(folder, "results")
        for name, (write, within, opset, steps) in CASES.items():
            if args.only not in name:
                continue
            m = Model(opset)
            y, kind = write(m)
            model = m.finish(y, kind)
            onnx.save(model, path)
            want, note = reference(model, m.feed)
            command = [args.mcc, "run", path, *options, "-o", results]
            for key, value in m.feed.items():
                file = os.path.join(folder, key + ".npy")
                np.save(file, value)
                command += ["-i", "%s=%s" % (key, file)]
            told = subprocess.run(command, capture_output=True, text=True)
            if told.returncode:
                good, said = False, told.stderr.strip()
            elif want is None:
                good, said = False, "runs,"
            else:
                good, said = compare(np.load(os.path.join(results, y + ".npy")), want, within, steps)
            wrong += not good
            print("%s | %s | %s%s | %s" % ("ok" if good else "WRONG", name, said, note, form(args.mcc, options, path)), flush=True)
    print("%d cases, %d wrong" % (len(CASES), wrong))
    sys.exit(int(wrong > 0))


if __name__ == "__main__":
    main()
