#!/usr/bin/env python3
"""Give the `onnx` package's light CNNs random weights; on request pruned and quantized forms too.

usage: derive_light.py [--forms rand,s80,s90,s95,qdq] MODELS_DIR OUT_DIR [NAME ...]

MODELS_DIR is as fetch_zoo.py left it; NAME is resnet50, densenet121 or shufflenet (default: every light_NAME.onnx).
The light models' weights are all one number, so they show nothing of speed, sparsity or quantization.
  NAME_rand.onnx        He-initialised weights, seeded; batch-norm statistics near 1 and 0; opset 17; without the
                        last Softmax, which would make random logits one-hot and hide errors
  NAME_s80.onnx ...     the same with the smallest 80 (90, 95) % of each weight zero; the first convolution and
                        depthwise ones stay dense
  NAME_r80.onnx ...     the same by runs of 16 output channels
  NAME_f80.onnx ...     the same by blocks of 4 output channels
  NAME_c50.onnx ...     the same with 50 % of each convolution's output channels zero, batch norms included
  NAME_k50.onnx ...     the same with these batch norms as they are, which makes constants of such channels
  NAME_qdq.onnx         the same as QDQ int8: u8 activations, s8 per-channel weights
  NAME_q80.onnx ...     NAME_s80 as QDQ int8
  NAME_t80.onnx ...     the same by blocks of 16 output and 4 input channels
  NAME_b16.onnx ...     weights as indices into tables of 16 numbers (codebook.py)
They are for speed and for comparison with a reference run on the same file; their accuracy means nothing.
Needs onnx and numpy, and for qdq and q80 onnxruntime and sympy.
"""
import argparse
import glob
import os
import re
import sys

import numpy as np
import onnx
from onnx import numpy_helper, version_converter

from codebook import with_codebooks


# Output by input channels that become zero together, if that is more than one weight.
BLOCKS = {"r": (16, 1), "t": (16, 4), "f": (4, 1)}


def norm_numbers(nodes):
    return [name for node in nodes if node.op_type == "BatchNormalization" for name in node.input[1:]]


def prune_channels(nodes, weights, share, norms):
    """Zeroes the same output channels, evenly spread, of every convolution, so that residual sums lose channels too."""
    def gone(count):
        at = np.arange(count)
        return np.floor((at + 1) * share) > np.floor(at * share)
    for node in nodes:
        if node.op_type == "Conv":
            for name in node.input[1:]:
                weights[name][gone(len(weights[name]))] = 0
        elif node.op_type == "BatchNormalization" and norms:
            for name in node.input[1:4]:                      # scale, shift, mean
                weights[name][gone(len(weights[name]))] = 0


def magnitudes(w, block):
    """The sum of magnitudes in the block of output by input channels that each weight is in."""
    grown = np.pad(np.abs(w), [(0, -n % b) for n, b in zip(w.shape, block)] + [(0, 0)] * (w.ndim - 2))
    for axis, b in enumerate(block):
        grown = np.repeat(np.add.reduceat(grown, range(0, grown.shape[axis], b), axis), b, axis)
    return grown[:w.shape[0], :w.shape[1]]


def randomise(model, sparsity=0.0, channels=None, block=(1, 1)):
    """Replaces weights that are ConstantOfShape nodes by seeded initializers."""
    g = model.graph
    rng = np.random.default_rng(1)
    init = {i.name: numpy_helper.to_array(i) for i in g.initializer}
    users = {}
    for node in g.node:
        for slot, name in enumerate(node.input):
            users.setdefault(name, []).append((node.op_type, slot))
    fills = [n for n in g.node if n.op_type == "ConstantOfShape"]
    weights = {}
    for fill in fills:
        shape = init[fill.input[0]].tolist()
        op, slot = users[fill.output[0]][0]
        if op in ("Conv", "Gemm", "MatMul") and len(shape) > 1:
            w = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
            if sparsity and (len(shape) == 2 or shape[1] > 3):
                size = magnitudes(w, block)
                w[size < np.quantile(size, sparsity)] = 0
        else:
            w = rng.standard_normal(shape) * 0.05
            if op == "BatchNormalization" and slot in (1, 4):     # scale, variance
                w = np.abs(w + 1)
        weights[fill.output[0]] = w.astype(np.float32)
    if channels:
        weights.update({name: init.pop(name).copy() for name in norm_numbers(g.node) if name in init})
        prune_channels(g.node, weights, *channels)
    shapes = {fill.input[0] for fill in fills}
    for fill in fills:
        g.node.remove(fill)
    for node in [n for n in g.node if n.op_type == "Softmax" and n.output[0] == g.output[0].name]:
        g.node.remove(node)
        g.output[0].name = node.input[0]
    kept = [i for i in g.initializer if i.name not in shapes and i.name not in weights]
    inputs = [i for i in g.input if i.name not in init and i.name not in weights]
    del g.initializer[:], g.input[:]
    g.initializer.extend(kept + [numpy_helper.from_array(w, n) for n, w in weights.items()])
    g.input.extend(inputs)
    model.ir_version = 8
    return version_converter.convert_version(model, 17)


def quantize(src, dst):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self, name):
            self.data = iter([{name: np.random.default_rng(k).standard_normal((1, 3, 224, 224)).astype(np.float32)}
                              for k in range(4)])

        def get_next(self):
            return next(self.data, None)

    tmp = dst + ".pre.onnx"
    quant_pre_process(src, tmp, skip_symbolic_shape=True)
    quantize_static(tmp, dst, Reader(onnx.load(tmp).graph.input[0].name), quant_format=QuantFormat.QDQ,
                    per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    os.remove(tmp)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    ap.add_argument("models", metavar="MODELS_DIR")
    ap.add_argument("out", metavar="OUT_DIR")
    ap.add_argument("names", metavar="NAME", nargs="*")
    ap.add_argument("--forms", default="rand", help="comma-separated: rand, qdq, s-, r-, f-, q-, t-, c- and kPERCENT, bENTRIES (default: rand)")
    args = ap.parse_args()
    forms = args.forms.split(",")
    percent = re.compile("[srfckqtb][1-9][0-9]?$")
    bad = [f for f in forms if f not in ("rand", "qdq") and not percent.match(f)]
    if bad:
        ap.error("unknown form %s" % ", ".join(bad))
    names = args.names or [os.path.basename(p)[len("light_"):-len(".onnx")]
                           for p in sorted(glob.glob(os.path.join(args.models, "light_*.onnx")))]
    os.makedirs(args.out, exist_ok=True)
    for name in names:
        src = os.path.join(args.models, "light_%s.onnx" % name)
        if not os.path.exists(src):
            print("derive_light: no %s (fetch_zoo.py fetches it)" % src, file=sys.stderr)
            return 1
        rand = os.path.join(args.out, name + "_rand.onnx")
        if "rand" in forms or "qdq" in forms:
            onnx.save(randomise(onnx.load(src)), rand)
        for form in forms:
            dst = os.path.join(args.out, "%s_%s.onnx" % (name, form))
            if form == "qdq":
                quantize(rand, dst)
            elif form[0] in "qt":
                sparse = dst + ".sparse.onnx"
                onnx.save(randomise(onnx.load(src), int(form[1:]) / 100, block=BLOCKS.get(form[0], (1, 1))), sparse)
                quantize(sparse, dst)
                os.remove(sparse)
            elif form[0] == "b":
                onnx.save(with_codebooks(randomise(onnx.load(src)), int(form[1:])), dst)
            elif form != "rand":
                share = int(form[1:]) / 100
                model = onnx.load(src)
                if form[0] in "srf":
                    model = randomise(model, share, block=BLOCKS.get(form[0], (1, 1)))
                else:
                    model = randomise(model, channels=(share, form[0] == "c"))
                onnx.save(model, dst)
            print(dst, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
