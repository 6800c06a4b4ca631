#!/usr/bin/env python3
"""Writes small models with run-time dimensions and values, and data for them, as cases in ONNX's layout without expected outputs.

usage: hostile_cases.py FOLDER

They are for `mcc verify --hostile`, which runs every data set and variants of the first between guard pages: models whose shapes
come from data, operators with conditions on dimensions, indices, and layers that run short of data.
"""
import itertools
import os
import shutil
import sys

import numpy as np
import onnx
from onnx import TensorProto as T, helper, numpy_helper

N = helper.make_node
F, I = T.FLOAT, T.INT64
HUGE = [2**31, 2**40, 2**62, -2**62, 2**63 - 1, -2**63]
EXTENTS = [0, 1, -1, -2, 5] + HUGE
INDICES = [0, -1, -5, 5, -6, 2**32] + HUGE


def constant(name, value, dtype=np.float32):
    return numpy_helper.from_array(np.asarray(value, dtype=dtype), name)


def noise(name, *shape):
    return constant(name, np.random.default_rng(len(name)).standard_normal(shape) / 8)


def ones(*shape):
    return np.ones(shape, np.float32)


def ints(*values):
    return np.array(values, dtype=np.int64)


def cases():
    """Name, nodes, inputs (name, shape, type), names of outputs, constants, and several sets of inputs' values."""
    total = lambda x, y="y": N("ReduceSum", [x], [y], keepdims=0)
    pairs = list(itertools.product([0, 1, -1, 5, 2**31, 2**62, -2**63], repeat=2))
    yield ("constant_of_shape", [N("ConstantOfShape", ["n"], ["c"]), total("c")], [("n", [1], I)], "y", [],
           [[ints(e)] for e in EXTENTS])
    yield ("constant_of_shape_2", [N("ConstantOfShape", ["n"], ["c"]), N("Add", ["c", "x"], ["d"]), N("Sin", ["d"], ["e"]),
                                   N("Softmax", ["e"], ["f"], axis=-1), total("f")],
           [("n", [2], I), ("x", [1], F)], "y", [], [[ints(*p), ones(1)] for p in pairs])
    yield ("range", [N("Range", ["s", "l", "d"], ["c"]), total("c")], [(n, [], I) for n in "sld"], "y", [],
           [[np.int64(v) for v in (a, b, c)] for a in (0, -5, 2**63 - 1, -2**63) for b in (7, -7, 2**63 - 1, -2**63)
            for c in (1, -1, 0, 3, 2**63 - 1, -2**63)])
    yield ("range_of_floats", [N("Range", ["s", "l", "d"], ["c"]), total("c")], [(n, [], F) for n in "sld"], "y", [],
           [[np.float32(v) for v in (a, b, c)] for a in (0, np.nan, -1e30) for b in (7, np.inf, np.nan) for c in (1, 0, -1, np.nan, 1e-30)])
    for op in ("Tile", "Expand", "Reshape"):
        yield (op.lower(), [N(op, ["x", "n"], ["c"]), N("Sin", ["c"], ["d"]), total("d")],
               [("x", [2, 3], F), ("n", [2], I)], "y", [], [[ones(2, 3), ints(*p)] for p in [(2, 3)] + pairs])
    start_end = [[ones(7), ints(a), ints(b)] for a in (0, 2, -3) + tuple(HUGE) for b in (5, 0, -1) + tuple(HUGE)]
    for step in (1, -2):
        yield ("slice_by_%d" % step, [N("Slice", ["x", "s", "e", "a", "t"], ["c"]), N("Sin", ["c"], ["y"])],
               [("x", ["N"], F), ("s", [1], I), ("e", [1], I)], "y",
               [constant("a", [0], np.int64), constant("t", [step], np.int64)], start_end)
    for op, shape in (("Gather", [3]), ("GatherElements", [3, 4])):
        for dtype in (np.int64, np.int32):
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            limits = [v for v in INDICES if np.iinfo(dtype).min <= v <= np.iinfo(dtype).max]
            yield ("%s_%s" % (op, dtype.__name__), [N(op, ["x", "i"], ["y"], axis=0)], [("x", ["N", 4], F), ("i", shape, kind)],
                   "y", [], [[ones(n, 4), np.full(shape, v, dtype)] for n in (5, 0) for v in limits])
    yield ("gather_nd", [N("GatherND", ["x", "i"], ["y"])], [("x", [5, 4], F), ("i", [3, 2], I)], "y", [],
           [[ones(5, 4), np.full((3, 2), v, np.int64)] for v in INDICES])
    for how in ("none", "add", "max"):
        yield ("scatter_nd_" + how, [N("ScatterND", ["x", "i", "u"], ["y"], reduction=how)],
               [("x", ["N", 4], F), ("i", ["K", 1], I), ("u", ["K", 4], F)], "y", [],
               [[ones(5, 4), np.full((3, 1), v, np.int64), ones(3, 4)] for v in INDICES])
        yield ("scatter_elements_" + how, [N("ScatterElements", ["x", "i", "u"], ["y"], reduction=how, axis=0)],
               [("x", ["N", 4], F), ("i", ["K", 4], I), ("u", ["K", 4], F)], "y", [],
               [[ones(5, 4), np.full((3, 4), v, np.int64), ones(3, 4)] for v in INDICES])
    yield ("embedding", [N("Gather", ["w", "i"], ["c"]), N("MatMul", ["c", "v"], ["y"])], [("i", ["B", "S"], I)], "y",
           [noise("w", 50, 16), noise("v", 16, 16)], [[np.full((2, 3), v, np.int64)] for v in INDICES])
    yield ("embedding_of_codes", [N("Gather", ["w", "i"], ["c"]), N("DequantizeLinear", ["c", "s"], ["d"]), N("MatMul", ["d", "v"], ["y"])],
           [("i", ["B", "S"], I)], "y", [constant("w", np.arange(800).reshape(50, 16) % 255 - 128, np.int8), constant("s", .1), noise("v", 16, 16)],
           [[np.full((2, 3), v, np.int64)] for v in INDICES])
    yield ("one_hot", [N("OneHot", ["i", "d", "v"], ["z"]), total("z")], [("i", [4], I), ("d", [], I)], "y", [constant("v", [0, 1])],
           [[np.full(4, v, np.int64), np.int64(d)] for v, d in [(1, 6)] + [(v, 6) for v in INDICES] + [(1, e) for e in EXTENTS]])
    yield ("reverse_sequence", [N("ReverseSequence", ["x", "l"], ["y"], time_axis=0, batch_axis=1)], [("x", ["T", 4], F), ("l", [4], I)], "y", [],
           [[ones(5, 4), np.full(4, v, np.int64)] for v in INDICES])
    yield ("max_unpool", [N("MaxUnpool", ["x", "i"], ["y"], kernel_shape=[2, 2], strides=[2, 2])], [("x", [1, 1, 3, 3], F), ("i", [1, 1, 3, 3], I)],
           "y", [], [[ones(1, 1, 3, 3), np.full((1, 1, 3, 3), v, np.int64)] for v in INDICES])
    for mode in ("avg", "max"):
        yield ("roi_align_" + mode, [N("RoiAlign", ["x", "r", "b"], ["y"], output_height=2, output_width=2, mode=mode)],
               [("x", [2, 1, 4, 4], F), ("r", [2, 4], F), ("b", [2], I)], "y", [],
               [[ones(2, 1, 4, 4), np.full((2, 4), q, np.float32), np.full(2, v, np.int64)] for v in INDICES for q in (1, np.nan, 1e30)])
    images = [[ones(n, 3, h, w)] for n in (1, 0) for h in (15, 0, 1, 2, 3, 6, 7) for w in (15, 0, 1, 3, 8)]
    yield ("convolutions", [N("Conv", ["x", "v"], ["a"], strides=[2, 2]), N("Relu", ["a"], ["b"]), N("Conv", ["b", "w"], ["c"], strides=[2, 2]),
                            N("GlobalAveragePool", ["c"], ["d"]), N("Flatten", ["d"], ["y"])],
           [("x", ["N", 3, "H", "W"], F)], "y", [noise("v", 8, 3, 3, 3), noise("w", 8, 8, 3, 3)], images)
    yield ("pools", [N("MaxPool", ["x"], ["a"], kernel_shape=[5, 5]), N("GlobalAveragePool", ["a"], ["y"])],
           [("x", ["N", 3, "H", "W"], F)], "y", [], images)
    yield ("depthwise", [N("Conv", ["x", "v"], ["a"], group=3, pads=[1, 1, 1, 1]), N("Conv", ["a", "w"], ["b"]), N("Relu", ["b"], ["y"])],
           [("x", ["N", 3, "H", "W"], F)], "y", [noise("v", 3, 1, 3, 3), noise("w", 16, 3, 1, 1)], images)
    yield ("quantized", [N("QuantizeLinear", ["x", "s", "z"], ["q"]), N("DequantizeLinear", ["q", "s", "z"], ["d"]),
                         N("DequantizeLinear", ["v", "t"], ["w"]), N("Conv", ["d", "w"], ["c"], strides=[2, 2]),
                         N("QuantizeLinear", ["c", "s", "z"], ["e"]), N("DequantizeLinear", ["e", "s", "z"], ["y"])],
           [("x", ["N", 3, "H", "W"], F)], "y",
           [constant("s", .02), constant("z", 128, np.uint8), constant("t", .01), constant("v", np.arange(16 * 27).reshape(16, 3, 3, 3) % 200 - 100, np.int8)], images)
    yield ("sparse", [N("MatMul", ["x", "w"], ["a"]), N("Relu", ["a"], ["y"])], [("x", ["N", 64], F)], "y",
           [constant("w", np.where(np.arange(64 * 64).reshape(64, 64) % 11 == 0, .25, 0))], [[ones(n, 64)] for n in (5, 0, 1, 8, 33)])
    sizes = [0, 1, 3, 7, 8, 100, -1] + HUGE
    yield ("top_k", [N("TopK", ["x", "k"], ["y", "i"], axis=-1)], [("x", ["N", 7], F), ("k", [1], I)], "yi", [], [[ones(2, 7), ints(k)] for k in sizes])
    yield ("top_k_3", [N("TopK", ["x", "k"], ["y", "i"], axis=0)], [("x", ["N", 7], F)], "yi", [constant("k", [3], np.int64)],
           [[ones(n, 7)] for n in (8, 0, 1, 2, 3)])
    yield ("split", [N("Split", ["x", "s"], ["y", "z"], axis=0)], [("x", [5, 2], F), ("s", [2], I)], "yz", [],
           [[ones(5, 2), ints(*s)] for s in ((2, 3), (2, 7), (-1, 6), (0, 5), (5, 0), (2**62, 5 - 2**62), (1, 1))])
    for mode in ("constant", "reflect", "edge", "wrap"):
        yield ("pad_" + mode, [N("Pad", ["x", "p"], ["c"], mode=mode), N("Sin", ["c"], ["y"])], [("x", ["N"], F), ("p", [2], I)], "y", [],
               [[ones(n), ints(a, b)] for n in (5, 0, 1) for a in (1, 0, -1, 4, -5, -6, 100, 2**62, -2**63) for b in (1, 0, -3, 100, 2**62)])
    yield ("empty_products", [N("MatMul", ["a", "b"], ["c"]), N("Sin", ["c"], ["d"]), total("d")], [("a", ["N", 0], F), ("b", [0, "M"], F)], "y", [],
           [[ones(3, 0), ones(0, 4)], [ones(0, 0), ones(0, 0)]])
    for op in ("ArgMax", "ReduceMax", "ReduceMean", "Hardmax", "Softmax", "LogSoftmax"):
        keys = {} if op in ("ReduceMax", "ReduceMean") else {"axis": 1}
        yield (op.lower(), [N(op, ["x"], ["y"], **keys)], [("x", ["N", "M"], F)], "y", [], [[ones(*s)] for s in ((3, 4), (3, 0), (0, 4), (0, 0))])
    # Many iterations of an outer loop around an empty one.
    yield ("reduce_around", [N("ReduceMean", ["x", "axes"], ["y"])], [("x", ["N", 3, "H", "W"], F)], "y",
           [constant("axes", [0, 2, 3], np.int64)], [[ones(*s)] for s in ((2, 3, 2, 4), (2, 3, 2, 0), (0, 3, 1, 1))])
    yield ("non_zero", [N("NonZero", ["x"], ["i"]), N("Transpose", ["i"], ["j"]), N("GatherND", ["x", "j"], ["y"])], [("x", ["N", "M"], F)], "y", [],
           [[ones(*s)] for s in ((3, 4), (3, 0), (0, 4), (1, 1))])
    # A branch that asks for an extent, one that needs data, and what comes of either.
    branch = lambda name, result, *nodes: helper.make_graph(list(nodes), name, [], [helper.make_tensor_value_info(result, F, None)])
    yield ("branches", [N("If", ["c"], ["b"],
                          then_branch=branch("then", "t", N("MatMul", ["x", "w"], ["t"])),
                          else_branch=branch("else", "s", N("Slice", ["x", "from", "to"], ["r"]), N("Softmax", ["r"], ["s"]))),
                        N("Sin", ["b"], ["y"])],
           [("x", ["N", "K"], F), ("from", [1], I), ("to", [1], I), ("c", [], T.BOOL)], "y", [noise("w", 4, 3)],
           [[ones(n, k), ints(a), ints(b), np.bool_(c)] for n, k in ((3, 4), (3, 5), (0, 4), (2, 0)) for a, b in ((0, 2), (-1, 2**62), (5, 1))
            for c in (True, False)])
    yield ("grid_sample", [N("GridSample", ["x", "g"], ["y"])], [("x", ["N", 2, "H", "W"], F), ("g", ["N", "A", "B", 2], F)], "y", [],
           [[ones(1, 2, h, w), np.full((1, 3, 2, 2), q, np.float32)] for h, w in ((3, 4), (0, 4), (1, 1)) for q in (.5, np.nan, 1e30)])


def write(folder, name, nodes, inputs, outputs, constants, feeds):
    infos = [helper.make_tensor_value_info(n, t, s) for n, s, t in inputs]
    results = [helper.make_tensor_value_info(n, F if n == "y" or name == "split" else I, None) for n in outputs]
    if name == "range":
        results = [helper.make_tensor_value_info("y", I, None)]
    if name == "argmax":
        results = [helper.make_tensor_value_info("y", I, None)]
    graph = helper.make_graph(nodes, name, infos, results, constants)
    os.makedirs(os.path.join(folder, name))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), os.path.join(folder, name, "model.onnx"))
    for n, feed in enumerate(feeds):
        data = os.path.join(folder, name, "test_data_set_%d" % n)
        os.makedirs(data)
        for i, (value, (port, _, _)) in enumerate(zip(feed, inputs)):
            with open(os.path.join(data, "input_%d.pb" % i), "wb") as f:
                f.write(numpy_helper.from_array(np.asarray(value), port).SerializeToString())


def main():
    folder = sys.argv[1]
    shutil.rmtree(folder, ignore_errors=True)
    count = 0
    for case in cases():
        write(folder, *case)
        count += 1
    print("%d cases" % count)


if __name__ == "__main__":
    main()
