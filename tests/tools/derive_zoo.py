#!/usr/bin/env python3
"""Make forms of zoo models that no package ships: QDQ int8, int4 weights, fp16, pruned.

usage: derive_zoo.py MODELS_DIR OUT_DIR [NAME ...]        (MODELS_DIR as fetch_zoo.py left it)

  ppocr_cls_qdq_s8, ddddocr_det_qdq_u8s8    QDQ int8, per channel, calibrated on four seeded inputs
  minilm_l3_int4                            weights of matrix products in blocks of 32 4-bit numbers (MatMulNBits)
  minilm_l3_codebook16                      the same weights as indices into tables of 16 numbers (codebook.py)
  minilm_l3_fp16                            half precision inside, f32 at the edges
  minilm_l3_sparse80                        the smallest 80 % of each weight zero
  ppocr_cls_channels50                      every second output channel of each convolution zero
  vit_s_blocksparse80_1x16                  the same in runs of 16 along the last axis
They come from onnxruntime's own tools, and their bytes depend on its version: compare with a reference run on the same
file. Needs onnx, onnx-ir, onnxruntime, sympy and numpy.
"""
import argparse
import json
import os
import sys

import numpy as np
import onnx
from onnx import numpy_helper, version_converter

from codebook import with_codebooks
from fetch_zoo import ZOO
from zoo_inputs import make_inputs

# Smaller tensors are biases and tables.
LEAST_PRUNED = 1024


def qdq(activations):
    def make(src, dst, specs):
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Reader(CalibrationDataReader):
            def __init__(self):
                self.data = iter([make_inputs(specs, seed) for seed in range(1, 5)])

            def get_next(self):
                return next(self.data, None)

        model = onnx.load(src)
        if next(o.version for o in model.opset_import if not o.domain) < 13:
            # DequantizeLinear has an axis since version 13.
            model = version_converter.convert_version(model, 13)
        tmp = dst + ".pre.onnx"
        onnx.save(model, tmp)
        quant_pre_process(tmp, tmp, skip_symbolic_shape=True)
        quantize_static(tmp, dst, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8,
                        activation_type=getattr(QuantType, activations))
        os.remove(tmp)
    return make


def int4(src, dst, _specs):
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    quantizer = MatMulNBitsQuantizer(onnx.load(src), block_size=32, is_symmetric=False)
    quantizer.process()
    quantizer.model.save_model_to_file(dst, use_external_data_format=False)


def fp16(src, dst, _specs):
    from onnxruntime.transformers.float16 import convert_float_to_float16
    model = onnx.shape_inference.infer_shapes(onnx.load(src))
    onnx.save(convert_float_to_float16(model, keep_io_types=True), dst)


def pruned(share, block):
    """Zeroes the weights of matrix products in the smallest runs of `block` along the last axis."""
    def make(src, dst, _specs):
        model = onnx.load(src)
        nodes = model.graph.node
        weights = {n.input[1] for n in nodes if n.op_type in ("MatMul", "Gemm") and len(n.input) > 1}
        tensors = [t for t in model.graph.initializer if t.name in weights]
        tensors += [a.t for n in nodes if n.op_type == "Constant" and n.output[0] in weights for a in n.attribute
                    if a.name == "value"]
        for t in tensors:
            w = numpy_helper.to_array(t)
            if w.dtype != np.float32 or w.size < LEAST_PRUNED or w.ndim < 2 or w.shape[-1] % block:
                continue
            runs = w.reshape(-1, block).copy()
            order = np.argsort(np.abs(runs).sum(1), kind="stable")
            runs[order[:int(len(order) * share)]] = 0
            t.CopyFrom(numpy_helper.from_array(runs.reshape(w.shape), t.name))
        onnx.save(model, dst)
    return make


def channels(src, dst, _specs):
    """Zeroes every second output channel of the convolutions, their biases and batch norms."""
    model = onnx.load(src)
    nodes = model.graph.node
    tensors = {t.name: t for t in model.graph.initializer}
    tensors.update((n.output[0], a.t) for n in nodes if n.op_type == "Constant" for a in n.attribute if a.name == "value")
    outputs = {o.name for o in model.graph.output}
    for node in nodes:
        if node.op_type not in ("Conv", "BatchNormalization") or node.output[0] in outputs:
            continue
        for name in node.input[1:4]:
            if name in tensors:
                w = numpy_helper.to_array(tensors[name]).copy()
                w[1::2] = 0
                tensors[name].CopyFrom(numpy_helper.from_array(w, name))
    onnx.save(model, dst)


RECIPES = {
    "ppocr_cls_qdq_s8": qdq("QInt8"),
    "ddddocr_det_qdq_u8s8": qdq("QUInt8"),
    "minilm_l3_int4": int4,
    "minilm_l3_codebook16": lambda src, dst, _specs: onnx.save(with_codebooks(onnx.load(src)), dst),
    "minilm_l3_fp16": fp16,
    "ppocr_cls_channels50": channels,
    "minilm_l3_sparse80": pruned(0.8, 1),
    "vit_s_blocksparse80_1x16": pruned(0.8, 16),
}


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    ap.add_argument("models", metavar="MODELS_DIR")
    ap.add_argument("out", metavar="OUT_DIR")
    ap.add_argument("names", metavar="NAME", nargs="*", help="only these (default: all)")
    args = ap.parse_args()
    if set(args.names) - set(RECIPES):
        ap.error("recipes are %s" % ", ".join(RECIPES))
    with open(ZOO, encoding="utf-8") as f:
        zoo = json.load(f)
    inputs = {m["name"]: m["inputs"] for m in zoo["models"]}
    bases = {d["name"]: d["base"] for d in zoo["derived"]}
    os.makedirs(args.out, exist_ok=True)
    failed = 0
    for name in args.names or RECIPES:
        src, dst = os.path.join(args.models, bases[name] + ".onnx"), os.path.join(args.out, name + ".onnx")
        try:
            RECIPES[name](src, dst + ".part", inputs[bases[name]])
            os.replace(dst + ".part", dst)
            print("%s: %d bytes" % (dst, os.path.getsize(dst)), flush=True)
        except Exception as e:  # one recipe must not cost the others
            print("%s: %s" % (name, (str(e).strip().splitlines() or [repr(e)])[-1]), file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
