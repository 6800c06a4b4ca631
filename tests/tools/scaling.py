"""Models of any size, to measure how compile time grows: each function returns a graph with about `n` nodes."""
import numpy
from onnx import TensorProto, helper, numpy_helper


def _info(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _chain(n, shape, node, initializers=()):
    """A chain of `n` nodes; `node(i, x, y)` makes one."""
    name = lambda i: "x" if i == 0 else "y" if i == n else "t%d" % i
    nodes = [node(i, name(i), name(i + 1)) for i in range(n)]
    return helper.make_graph(nodes, "chain", [_info("x", shape)], [_info("y", shape)], list(initializers))


def elementwise(n):
    """Element-wise nodes, which are fused."""
    operators = ["Sigmoid", "Sin", "Tanh", "Relu"]
    return _chain(n, [4], lambda i, x, y: helper.make_node(operators[i % 4], [x], [y]))


def kernels(n):
    """Equal nodes with a kernel each."""
    return _chain(n, [4, 8], lambda i, x, y: helper.make_node("Softmax", [x], [y]))


def products(n):
    """Layers with different weights."""
    r = numpy.random.default_rng(1)
    weights = [numpy_helper.from_array(r.standard_normal((8, 8)).astype(numpy.float32), "w%d" % i) for i in range(n)]
    return _chain(n, [4, 8], lambda i, x, y: helper.make_node("MatMul", [x, "w%d" % i], [y]), weights)


def residual(n):
    """Residual blocks of four nodes."""
    nodes, last = [], "x"
    for i in range(n // 4):
        a, b, c, d = ("%s%d" % (letter, i) for letter in "abcd")
        nodes += [helper.make_node("Relu", [last], [a]), helper.make_node("Transpose", [a], [b], perm=[1, 0]),
                  helper.make_node("Softmax", [b], [c]), helper.make_node("Add", [c, last], [d])]
        last = d
    return helper.make_graph(nodes, "residual", [_info("x", [8, 8])], [_info(last, [8, 8])])


def split(n):
    """One Split with `n` outputs, which are the model's outputs."""
    names = ["y%d" % i for i in range(n)]
    node = helper.make_node("Split", ["x"], names, axis=0, num_outputs=n)
    return helper.make_graph([node], "split", [_info("x", [n])], [_info(y, [1]) for y in names])


def scan(n):
    """A recurrence over `n / 4` steps, unrolled."""
    steps = n // 4
    body = helper.make_graph(
        [helper.make_node("MatMul", ["s", "w"], ["m"]), helper.make_node("Add", ["m", "x"], ["a"]),
         helper.make_node("Tanh", ["a"], ["next"]), helper.make_node("Identity", ["next"], ["o"])],
        "body", [_info("s", [1, 8]), _info("x", [1, 8])], [_info("next", [1, 8]), _info("o", [1, 8])])
    weights = numpy.random.default_rng(1).standard_normal((8, 8)).astype(numpy.float32)
    node = helper.make_node("Scan", ["first", "xs"], ["last", "ys"], body=body, num_scan_inputs=1)
    return helper.make_graph([node], "scan", [_info("first", [1, 8]), _info("xs", [steps, 1, 8])],
                             [_info("last", [1, 8]), _info("ys", [steps, 1, 8])],
                             [numpy_helper.from_array(weights, "w")])


def forest(n):
    """An isolation forest as skl2onnx writes it, of `n / 8` trees: the samples in a tree's leaf, through a table and a
    formula, added up over the trees; rows are a run's."""
    nodes, last = [], "one"
    for i in range(n // 8):
        g, leaf, code, size, most, depth, term, total = ("%s%d" % (part, i) for part in (
            "gathered", "leaf", "code", "size", "most", "depth", "term", "total"))
        nodes += [
            helper.make_node("Gather", ["x", "columns"], [g], axis=1),
            helper.make_node(
                "TreeEnsembleRegressor", [g], [leaf], domain="ai.onnx.ml", n_targets=1, nodes_treeids=[0] * 3,
                nodes_nodeids=[0, 1, 2], nodes_featureids=[i % 4, 0, 0], nodes_values=[i % 7 / 7, 0.0, 0.0],
                nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0],
                target_treeids=[0, 0], target_nodeids=[1, 2], target_ids=[0, 0], target_weights=[1.0, 2.0]),
            helper.make_node("Cast", [leaf], [code], to=TensorProto.INT64),
            helper.make_node("LabelEncoder", [code], [size], domain="ai.onnx.ml", keys_int64s=[1, 2],
                             values_floats=[float(i % 5), float(i % 3 + 2)]),
            helper.make_node("Max", [size, "one"], [most]), helper.make_node("Log", [most], [depth]),
            helper.make_node("Mul", [depth, leaf], [term]), helper.make_node("Add", [last, term], [total])]
        last = total
    constants = [numpy_helper.from_array(numpy.arange(4), "columns"),
                 numpy_helper.from_array(numpy.ones([1, 1], numpy.float32), "one")]
    return helper.make_graph(nodes, "forest", [_info("x", ["rows", 8])], [_info(last, ["rows", 1])], constants)


#: Name, function, and number of nodes of the smaller of two graphs that are compared.
MODELS = [("elementwise", elementwise, 20000), ("kernels", kernels, 4000), ("products", products, 2000),
          ("residual", residual, 4000), ("split", split, 10000), ("scan", scan, 2000), ("forest", forest, 8000)]


def save(graph, path):
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=10)
    with open(path, "wb") as f:
        f.write(model.SerializeToString())
