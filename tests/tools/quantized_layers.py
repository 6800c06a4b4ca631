#!/usr/bin/env python3
"""Compares each layer of a quantized model with ONNX Runtime's unoptimised run, given the same codes.

Each QuantizeLinear of an activation, with what is between it and the ones before, becomes a model of its own, which gets the
codes that ONNX Runtime found in the whole model. Layers that round once differ by one step at most, where what is rounded
is next to a tie; how that grows through a model is then the model's own.

    quantized_layers.py MCC MODEL.onnx [--shape NAME=1x3x48x192]... [--cpu NAME]
"""

import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mcc")
    parser.add_argument("model")
    parser.add_argument("--shape", action="append", default=[], metavar="NAME=DIMS")
    parser.add_argument("--cpu", default="native")
    return parser.parse_args()


def session(model):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


class Layers:
    def __init__(self, model):
        self.model = model
        self.constants = {i.name: i for i in model.graph.initializer}
        self.producer = {o: n for n in model.graph.node for o in n.output}
        self.codes = [n.output[0] for n in model.graph.node if self.quantizes(n)]

    def quantizes(self, node):
        return node.op_type == "QuantizeLinear" and node.input[0] not in self.constants

    def dtype(self, codes):
        zero = self.producer[codes].input[2:3]
        known = [self.constants[z].data_type for z in zero if z in self.constants]
        return known[0] if known else TensorProto.UINT8

    def whole(self):
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        del model.graph.output[:]
        model.graph.output.extend(helper.make_tensor_value_info(c, self.dtype(c), None) for c in self.codes)
        return model

    def alone(self, codes, values):
        """The part of the model that computes `codes`, and the names of its inputs."""
        inputs, seen, nodes = set(), set(), {id(self.producer[codes])}
        stack = [self.producer[codes].input[0]]
        while stack:
            name = stack.pop()
            if name in seen or name in self.constants or not name:
                continue
            seen.add(name)
            node = self.producer.get(name)
            if node is None or self.quantizes(node):
                inputs.add(name)
                continue
            nodes.add(id(node))
            stack.extend(node.input)
        nodes = [n for n in self.model.graph.node if id(n) in nodes]
        used = {i for n in nodes for i in n.input}
        info = lambda name: helper.make_tensor_value_info(  # noqa: E731
            name, helper.np_dtype_to_tensor_dtype(values[name].dtype), values[name].shape
        )
        constants = [c for name, c in self.constants.items() if name in used]
        graph = helper.make_graph(nodes, "layer", [info(i) for i in sorted(inputs)], [info(codes)], constants)
        model = helper.make_model(graph, opset_imports=self.model.opset_import)
        model.ir_version = self.model.ir_version
        return model, sorted(inputs)


def run(mcc, cpu, model, inputs, values):
    with tempfile.TemporaryDirectory() as folder:
        path, results = os.path.join(folder, "layer.onnx"), os.path.join(folder, "results")
        onnx.save(model, path)
        command = [mcc, "run", path, "--cpu", cpu, "-o", results]
        for n, name in enumerate(inputs):
            file = os.path.join(folder, "%d.npy" % n)
            np.save(file, values[name])
            command += ["-i", "%s=%s" % (name, file)]
        subprocess.run(command, check=True, capture_output=True)
        return np.load(os.path.join(results, os.listdir(results)[0]))


def main():
    args = parse()
    model = onnx.load(args.model)
    layers = Layers(model)
    shapes = {s.split("=")[0]: [int(d) for d in s.split("=")[1].split("x")] for s in args.shape}
    random, values = np.random.default_rng(0), {}
    for value in model.graph.input:
        if value.name not in layers.constants:
            dims = [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
            values[value.name] = random.standard_normal(shapes.get(value.name, dims)).astype(np.float32)
    found = session(layers.whole()).run(layers.codes, dict(values))
    values.update(zip(layers.codes, found))
    elements = differ = worst = 0
    for codes in layers.codes:
        alone, inputs = layers.alone(codes, values)
        got = run(args.mcc, args.cpu, alone, inputs, values)
        steps = np.abs(got.astype(int) - values[codes].astype(int))
        elements, differ, worst = elements + steps.size, differ + (steps > 0).sum(), max(worst, steps.max())
        if steps.max() > 1:
            print("%s: %d elements differ by up to %d steps" % (codes, (steps > 1).sum(), steps.max()))
    print("%d layers, %d of %d codes differ, by %d at most" % (len(layers.codes), differ, elements, worst))
    sys.exit(int(worst > 1))


if __name__ == "__main__":
    main()
