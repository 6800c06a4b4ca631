"""Stores weights as indices into a small table: non-uniform quantization, as expressed in ONNX.

A weight becomes Gather(table, Cast(indices)): `entries` numbers that Lloyd's algorithm finds from the weight's own
quantiles, and a byte an element. Needs numpy and onnx.
"""
import numpy as np
from onnx import TensorProto, helper, numpy_helper

# Smaller tensors are biases and tables.
LEAST = 1024
ROUNDS = 12


def table_of(values, entries):
    table = np.quantile(values, (np.arange(entries) + 0.5) / entries)
    for _ in range(ROUNDS):
        nearest = np.searchsorted((table[1:] + table[:-1]) / 2, values)
        sums, counts = np.bincount(nearest, values, entries), np.bincount(nearest, minlength=entries)
        table = np.sort(np.where(counts > 0, sums / np.maximum(counts, 1), table))
    return table.astype(np.float32)


def with_codebooks(model, entries=16):
    """Replaces the weights of convolutions and products in place."""
    g = model.graph
    wanted = {n.input[1] for n in g.node if n.op_type in ("Conv", "MatMul", "Gemm") and len(n.input) > 1}
    inputs = {i.name for i in g.input}
    tensors = [t for t in g.initializer if t.name in wanted and t.name not in inputs]
    constants = {n.output[0]: n for n in g.node if n.op_type == "Constant" and n.output[0] in wanted}
    tensors += [a.t for n in constants.values() for a in n.attribute if a.name == "value"]
    names = [t.name for t in g.initializer if t.name in wanted and t.name not in inputs] + list(constants)
    made = []
    for name, tensor in zip(names, tensors):
        w = numpy_helper.to_array(tensor)
        if w.dtype != np.float32 or w.size < LEAST:
            continue
        table = table_of(w.ravel().astype(np.float64), entries)
        indices = np.searchsorted((table[1:] + table[:-1]) / 2, w).astype(np.uint8)
        if name in constants:
            g.node.remove(constants[name])
        else:
            g.initializer.remove(tensor)
        g.initializer.extend([numpy_helper.from_array(table, name + "/table"), numpy_helper.from_array(indices, name + "/indices")])
        made.append(helper.make_node("Cast", [name + "/indices"], [name + "/wide"], to=TensorProto.INT32))
        made.append(helper.make_node("Gather", [name + "/table", name + "/wide"], [name], axis=0))
    nodes = made + list(g.node)
    del g.node[:]
    g.node.extend(nodes)
    return model
