"""Models of one quantized layer each, in every way that tools write it: `CASES[name]` is a function that writes it, what its
results may be off by, its opset and the steps that integers may be off by.
"""

import numpy as np
from onnx import TensorProto as T
from onnx import helper, numpy_helper

KINDS = {"u8": T.UINT8, "s8": T.INT8, "u16": T.UINT16, "s16": T.INT16, "u4": T.UINT4, "s4": T.INT4, "u2": T.UINT2,
         "s2": T.INT2, "f32": T.FLOAT, "f16": T.FLOAT16, "bf16": T.BFLOAT16, "f8": T.FLOAT8E4M3FN, "f8e5": T.FLOAT8E5M2,
         "s32": T.INT32, "s64": T.INT64, "bool": T.BOOL}
LIMITS = {k: (0, 2 ** int(k[1:]) - 1) if k[0] == "u" else (-(2 ** (int(k[1:]) - 1)), 2 ** (int(k[1:]) - 1) - 1)
          for k in KINDS if k[0] in "us"}
MS = "com.microsoft"
MOVES = ("max_pool", "resize nearest", "reshape", "transpose", "slice", "gather", "squeeze", "flatten", "pad", "pad reflect",
         "expand", "depth_to_space")
CASES = {}


class Model:
    """A model under construction, with the data of its inputs."""

    def __init__(self, opset=21):
        self.random = np.random.default_rng(7)
        self.opset, self.nodes, self.constants, self.inputs, self.feed, self.count = opset, [], [], [], {}, 0

    def name(self, stem):
        self.count += 1
        return "%s%d" % (stem, self.count)

    def constant(self, values, kind):
        name = self.name("c")
        values = np.asarray(values)
        flat = values.reshape(-1)
        flat = flat.astype(np.float32) if kind[0] in "fb" else flat.astype(np.int64)
        if kind in ("u8", "s8", "u16", "s16", "s32", "s64", "f32", "f16"):
            array = values.astype(helper.tensor_dtype_to_np_dtype(KINDS[kind]))
            self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        else:
            self.constants.append(helper.make_tensor(name, KINDS[kind], values.shape, flat.tolist()))
        return name

    def input(self, shape, kind="f32"):
        name = "x%d" % len(self.inputs)
        if kind == "s64":
            values = self.random.integers(0, 50, shape)
        elif kind[0] in "us":
            low, high = LIMITS[kind]
            values = self.random.integers(low, high + 1, shape)
        else:
            values = self.random.standard_normal(shape)
        self.inputs.append(helper.make_tensor_value_info(name, KINDS[kind], shape))
        self.feed[name] = values.astype(helper.tensor_dtype_to_np_dtype(KINDS[kind]))
        return name

    def op(self, operator, operands, domain="", results=1, **attributes):
        names = [self.name("v") for _ in range(results)]
        node = helper.make_node(operator, operands, names, domain=domain, **attributes)
        node.name = "%s_%d" % (operator, self.count)
        self.nodes.append(node)
        return names[0] if results == 1 else names

    def scale(self, value, kind="f32"):
        return self.constant(np.float32(value), kind)

    def q(self, x, code, **attributes):
        scale, zero, kind = code
        return self.op("QuantizeLinear", [x, self.constant(scale, "f32"), self.constant(zero, kind)], **attributes)

    def dq(self, x, code, scale_kind="f32", **attributes):
        scale, zero, kind = code
        zero = [] if zero is None else [self.constant(zero, kind)]
        return self.op("DequantizeLinear", [x, self.constant(scale, scale_kind)] + zero, **attributes)

    def qdq(self, x, code):
        return self.dq(self.q(x, code), code)

    def codes(self, shape, kind, bound=None):
        low, high = LIMITS[kind]
        return self.random.integers(low if bound is None else -bound, (high if bound is None else bound) + 1, shape)

    def weights(self, shape, kind="s8", axis=0, per="channel", zeros=False):
        """Dequantized weights: `per` is tensor, channel or a block's size along the axis before."""
        codes = self.constant(self.codes(shape, kind), kind)
        low, high = LIMITS[kind]
        middle = 0 if kind[0] == "s" else (low + high + 1) // 2
        fan = np.sqrt(np.prod(shape) / shape[axis]) * (high - low) / 6
        if per == "tensor":
            zero = middle + (3 if zeros else 0)
            return self.dq(codes, (1 / fan, zero, kind))
        if per == "channel":
            n = shape[axis]
            zero = middle + (self.random.integers(-1, 2, n) if zeros else np.zeros(n, int))
            return self.dq(codes, ((1 + np.arange(n) / n) / fan, zero, kind), axis=axis)
        blocks = list(shape)
        blocks[axis] = -(-shape[axis] // per)
        zero = middle + (self.random.integers(-1, 2, blocks) if zeros else np.zeros(blocks, int))
        return self.dq(codes, ((1 + self.random.random(blocks)) / fan, zero, kind), axis=axis, block_size=per)

    def finish(self, y, kind):
        outputs = [helper.make_tensor_value_info(y, KINDS[kind], None)]
        graph = helper.make_graph(self.nodes, "forms", self.inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MS, 1)]
        model = helper.make_model(graph, opset_imports=opsets)
        model.ir_version = 13 if self.opset > 24 else 10
        return model


U8, S8 = (0.025, 117, "u8"), (0.028, -5, "s8")
U16, S16 = (0.0001, 32000, "u16"), (0.0001, 0, "s16")
CODES = {"u8": U8, "s8": S8, "u16": U16, "s16": S16}


def case(name, within=1e-5, opset=21, steps=1):
    """Registers a case: a function that writes a model and returns its result and the kind of its numbers."""
    def register(write):
        CASES[name] = (write, within, opset, steps)
        return write
    return register


def layer(name, data, out, write, same=False, **options):
    """QDQ around a layer: `write` makes a value of the dequantized input; `same` scale and zero point at both ends, or not."""
    @case(name, **options)
    def _(m):
        y = write(m, data)
        scale, zero, kind = CODES[out]
        return m.q(y, (scale if same else scale * 0.83, zero, kind)), out


def qdq_cases():
    for data in ("u8", "s8", "u16", "s16"):
        for kind, per, zeros in (("s8", "channel", False), ("s8", "tensor", False), ("u8", "tensor", True),
                                 ("u8", "channel", True), ("s16", "tensor", False), ("s4", "channel", False)):
            if data[1:] == "16" and kind == "u8" and per == "channel":
                continue
            weights = "%s %s%s" % (kind, per, " offsets" if zeros else "")

            def conv(m, data, kind=kind, per=per, zeros=zeros, shape=(24, 8, 3, 3), x=(1, 8, 9, 11), **attributes):
                x = m.qdq(m.input(x), CODES[data])
                w = m.weights(shape, kind, per=per, zeros=zeros)
                bias = m.constant(m.random.standard_normal(shape[0]) * 0.1, "f32")
                return m.op("Conv", [x, w, bias], **attributes)

            def matmul(m, data, kind=kind, per=per, zeros=zeros):
                x = m.qdq(m.input((7, 48)), CODES[data])
                return m.op("MatMul", [x, m.weights((48, 40), kind, 1, per, zeros)])

            layer("qdq conv %s x %s" % (data, weights), data, data, lambda m, d, f=conv: f(m, d, pads=[1] * 4))
            layer("qdq matmul %s x %s" % (data, weights), data, data, matmul)
            if data in ("u8", "u16") and kind in ("s8", "u8") and per == "tensor":
                layer("qdq conv depthwise %s x %s" % (data, weights), data, data,
                      lambda m, d, f=conv: f(m, d, shape=(24, 1, 3, 3), x=(1, 24, 9, 11), group=24, pads=[1] * 4))
                layer("qdq conv groups of 4 %s x %s" % (data, weights), data, data,
                      lambda m, d, f=conv: f(m, d, shape=(24, 4, 3, 3), x=(1, 24, 9, 11), group=6, pads=[1] * 4))
                layer("qdq conv 1-d %s x %s" % (data, weights), data, data,
                      lambda m, d, f=conv: f(m, d, shape=(24, 16, 5), x=(1, 16, 40), pads=[2] * 2))
                layer("qdq conv 1-d depthwise %s x %s" % (data, weights), data, data,
                      lambda m, d, f=conv: f(m, d, shape=(24, 1, 5), x=(1, 24, 40), group=24, pads=[2] * 2))

    def gemm(m, data, bias="s32", transposed=1):
        x = m.qdq(m.input((7, 48)), CODES[data])
        w = m.weights((40, 48) if transposed else (48, 40), "s8", 0 if transposed else 1)
        if bias == "s32":
            c = m.dq(m.constant(m.codes((40,), "s16"), "s32"), (1e-5, None, "s32"))
        else:
            c = m.constant(m.random.standard_normal(40), "f32")
        return m.op("Gemm", [x, w, c], transB=transposed)
    layer("qdq gemm, bias of codes", "u8", "u8", gemm)
    layer("qdq gemm, bias of floats, not transposed", "s8", "s8", lambda m, d: gemm(m, d, "f32", 0))

    def conv_transpose(m, data, kind="s8", per="tensor", strides=(2, 2), kernel=(4, 4), group=1, **attributes):
        x = m.qdq(m.input((1, 16) + (7, 9)[:len(kernel)]), CODES[data])
        w = m.weights((16, 12 // group) + kernel, kind, 1, per)
        b = m.constant(m.random.standard_normal(12) * 0.1, "f32")
        return m.op("ConvTranspose", [x, w, b], strides=strides, group=group, **attributes)
    layer("qdq conv_transpose, 4x4 strides 2", "u8", "u8", lambda m, d: conv_transpose(m, d, pads=[1] * 4))
    layer("qdq conv_transpose, per channel", "u8", "u8", lambda m, d: conv_transpose(m, d, per="channel", pads=[1] * 4))
    layer("qdq conv_transpose, 2x2 strides 2", "s8", "s8", lambda m, d: conv_transpose(m, d, kernel=(2, 2)))
    layer("qdq conv_transpose, 3x3 strides 1", "u8", "u8",
          lambda m, d: conv_transpose(m, d, strides=(1, 1), kernel=(3, 3), pads=[1] * 4))
    layer("qdq conv_transpose, 3x3 strides 2, output_padding", "u8", "u8",
          lambda m, d: conv_transpose(m, d, kernel=(3, 3), pads=[1] * 4, output_padding=[1, 1]))
    layer("qdq conv_transpose, groups", "u8", "u8", lambda m, d: conv_transpose(m, d, group=2, pads=[1] * 4))
    layer("qdq conv_transpose, 1-d", "u8", "u8",
          lambda m, d: conv_transpose(m, d, strides=(2,), kernel=(4,), pads=[1] * 2))
    layer("qdq conv_transpose, u8 weights", "u8", "u8", lambda m, d: conv_transpose(m, d, kind="u8", pads=[1] * 4))

    # PyTorch QAT exports: batch norm between a convolution and its quantization, and weights quantized in the model.
    def trained(m, data, norm=True):
        x = m.qdq(m.input((1, 8, 9, 11)), CODES[data])
        codes = (np.linspace(0.01, 0.02, 24), np.zeros(24, int), "s8")
        w = m.constant(m.random.standard_normal((24, 8, 3, 3)) * 0.5, "f32")
        w = m.dq(m.q(w, codes, axis=0), codes, axis=0)
        y = m.op("Conv", [x, w], pads=[1] * 4)
        if norm:
            r = m.random
            n = [r.random(24) + 0.5, r.standard_normal(24) * 0.1, r.standard_normal(24) * 0.1, r.random(24) * 8 + 4]
            y = m.op("BatchNormalization", [y] + [m.constant(v, "f32") for v in n])
        return m.op("Relu", [y])
    layer("fake-quant weights", "u8", "u8", lambda m, d: trained(m, d, False))
    layer("fake-quant weights, batch norm", "u8", "u8", trained)
    layer("fake-quant weights, batch norm", "s8", "s8", trained)

    def residual(m, data):
        x = m.qdq(m.input((1, 16, 9, 11)), CODES[data])
        w = [m.weights((16, 16, 1, 1)) for _ in range(2)]
        a, c = [m.qdq(m.op("Conv", [x, w]), CODES[data]) for w in w]
        return m.op("Relu", [m.op("Add", [a, c])])
    # Each operand may be off by one step.
    layer("qdq residual sum", "u8", "u8", residual, steps=2)

    def einsum(m, data):
        x = m.qdq(m.input((2, 7, 48)), CODES[data])
        return m.op("MatMul", [x, m.weights((48, 40), "s8", 1)])
    layer("qdq matmul of rank 3", "u8", "u8", einsum)

    # Larger than layers that stay floats because they are small.
    def large(m, data, kind="s8", per="channel", k=384):
        return m.op("MatMul", [m.qdq(m.input((32, k)), CODES[data]), m.weights((k, 160), kind, 1, per)])
    for data in ("u8", "u16", "s16"):
        for kind in ("s8", "s4", "s16"):
            layer("qdq matmul of 384 rows %s x %s" % (data, kind), data, data, lambda m, d, k=kind: large(m, d, k))

    def deep(m, data):
        x = m.qdq(m.input((1, 128, 14, 14)), CODES[data])
        return m.op("Conv", [x, m.weights((64, 128, 3, 3))], pads=[1] * 4)
    for data in ("u8", "u16"):
        layer("qdq conv of 128 channels %s x s8" % data, data, data, deep)

    def both(m, data):
        x, y = m.qdq(m.input((2, 3, 7, 16)), CODES[data]), m.qdq(m.input((2, 3, 16, 9)), CODES[data])
        return m.op("MatMul", [x, y])
    layer("qdq matmul of activations u8", "u8", "u8", both)
    layer("qdq matmul of activations s8", "s8", "s8", both)
    layer("qdq matmul of activations u16", "u16", "u16", both)


def exporter_cases():
    """Patterns that exporters write around layers."""
    image, filters = (1, 16, 9, 11), (24, 16, 1, 1)

    def clipped(m, x, code, low, high):
        scale, zero, kind = code
        q = m.op("Clip", [m.q(x, code), m.constant(low, kind), m.constant(high, kind)])
        return m.dq(q, code)

    # PyTorch, whose quantizers have special ranges, and Brevitas.
    def narrow(m, data):
        x = clipped(m, m.input(image), (0.05, 64, "u8"), 0, 127)
        w = m.constant(m.random.standard_normal(filters) * 0.5, "f32")
        codes = (np.full(24, 0.01), np.zeros(24, int), "s8")
        q = m.op("Clip", [m.q(w, codes, axis=0), m.constant(-127, "s8"), m.constant(127, "s8")])
        return m.op("Conv", [x, m.dq(q, codes, axis=0)])
    layer("clipped codes", "u8", "u8", narrow)

    def biased(m, data):
        x = m.qdq(m.input(image), CODES[data])
        codes = (np.full(24, 1e-5), np.zeros(24, int), "s32")
        b = m.dq(m.constant(m.codes((24,), "s16"), "s32"), codes, axis=0)
        return m.op("Conv", [x, m.weights(filters), b])
    layer("bias of codes, one scale a channel", "u8", "u8", biased)

    # Operators of ONNX Runtime's domain, also with 16 bits.
    def own(m, data):
        scale, zero, kind = CODES[data]
        p = [m.scale(scale), m.constant(zero, kind)]
        x = m.op("QuantizeLinear", [m.input(image)] + p, MS)
        return m.op("Conv", [m.op("DequantizeLinear", [x] + p, MS), m.weights(filters)])
    for data in ("u8", "u16"):
        layer("com.microsoft QDQ " + data, data, data, own)

    # Weights that are moved after dequantizing: HWIO of TensorFlow, transposed and reshaped.
    def moved(m, data, how):
        x = m.qdq(m.input(image), CODES[data])
        if how == "transpose":
            w = m.op("Transpose", [m.weights((1, 1, 16, 24), axis=3)], perm=[3, 2, 0, 1])
        else:
            w = m.op("Reshape", [m.weights((24, 16)), m.constant(filters, "s64")])
        return m.op("Conv", [x, w])
    for how in ("transpose", "reshape"):
        layer("weights behind a " + how, "u8", "u8", lambda m, d, h=how: moved(m, d, h))

    def unsqueezed(m, data):
        x = m.op("Reshape", [m.qdq(m.input((7, 48)), CODES[data]), m.constant((1, 7, 48), "s64")])
        w = m.op("Transpose", [m.weights((40, 48))], perm=[1, 0])
        return m.op("MatMul", [x, w])
    layer("weights and data that move", "s8", "s8", unsqueezed)

    # Layers in 16-bit floats, with 16-bit scales.
    def half(m, data, kind):
        def pair(x, scale, zero, k, **a):
            p = [m.constant(scale, kind), m.constant(zero, k)]
            return m.op("DequantizeLinear", [m.op("QuantizeLinear", [x] + p, **a)] + p, **a)
        x = pair(m.input(image, kind), 0.025, 0, "s8")
        w = m.dq(m.constant(m.codes(filters, "s8"), "s8"), (np.full(24, 0.004), np.zeros(24, int), "s8"), kind, axis=0)
        y = m.op("Conv", [x, w])
        return m.op("QuantizeLinear", [y, m.constant(0.03125, kind), m.constant(0, "s8")])
    case("QDQ in f16")(lambda m: (half(m, "s8", "f16"), "s8"))

    # Requantized: two scales in sequence.
    def twice(m, data):
        x = m.qdq(m.qdq(m.input(image), CODES[data]), (0.0413, 100, "u8"))
        return m.op("Conv", [x, m.weights(filters)])
    layer("requantized data", "u8", "u8", twice)

    # One quantization read by several layers, and one layer read by several quantizations.
    def shared(m, data):
        x = m.qdq(m.input(image), CODES[data])
        a, b = [m.op("Relu", [m.op("Conv", [x, m.weights(filters)])]) for _ in range(2)]
        a = m.qdq(a, (0.05, 0, "u8"))
        return m.op("Concat", [a, m.qdq(b, (0.06, 0, "u8"))], axis=1)
    layer("branches of two scales", "u8", "u8", shared)


def unary_cases():
    unary = {
        "relu": lambda m, x: m.op("Relu", [x]),
        "leaky_relu": lambda m, x: m.op("LeakyRelu", [x], alpha=0.1),
        "sigmoid": lambda m, x: m.op("Sigmoid", [x]),
        "hard_swish": lambda m, x: m.op("HardSwish", [x]),
        "gelu": lambda m, x: m.op("Gelu", [x]),
        "clip": lambda m, x: m.op("Clip", [x, m.scale(0.0), m.scale(1.5)]),
        "prelu": lambda m, x: m.op("PRelu", [x, m.constant(np.full((8, 1, 1), 0.2), "f32")]),
        "softmax": lambda m, x: m.op("Softmax", [x], axis=-1),
        "average_pool": lambda m, x: m.op("AveragePool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        "max_pool": lambda m, x: m.op("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        "global_average_pool": lambda m, x: m.op("GlobalAveragePool", [x]),
        "reduce_mean": lambda m, x: m.op("ReduceMean", [x, m.constant([2, 3], "s64")], keepdims=0),
        "resize nearest": lambda m, x: m.op("Resize", [x, "", m.constant([1, 1, 2, 2], "f32")], mode="nearest"),
        "resize linear": lambda m, x: m.op("Resize", [x, "", m.constant([1, 1, 2, 2], "f32")], mode="linear"),
        "instance_norm": lambda m, x: m.op("InstanceNormalization", [x, m.constant(np.ones(8), "f32"),
                                                                    m.constant(np.zeros(8), "f32")]),
        "layer_norm": lambda m, x: m.op("LayerNormalization", [x, m.constant(np.ones(11), "f32")]),
        "reshape": lambda m, x: m.op("Reshape", [x, m.constant([4, 2, -1], "s64")]),
        "transpose": lambda m, x: m.op("Transpose", [x], perm=[0, 2, 3, 1]),
        "slice": lambda m, x: m.op("Slice", [x, m.constant([1], "s64"), m.constant([7], "s64"),
                                             m.constant([1], "s64"), m.constant([2], "s64")]),
        "gather": lambda m, x: m.op("Gather", [x, m.constant([3, 0, 5], "s64")], axis=1),
        "squeeze": lambda m, x: m.op("Squeeze", [x, m.constant([0], "s64")]),
        "flatten": lambda m, x: m.op("Flatten", [x]),
        "pad": lambda m, x: m.op("Pad", [x, m.constant([0, 0, 1, 1, 0, 0, 1, 2], "s64")]),
        "pad reflect": lambda m, x: m.op("Pad", [x, m.constant([0, 0, 1, 1, 0, 0, 1, 2], "s64")], mode="reflect"),
        "expand": lambda m, x: m.op("Expand", [x, m.constant([3, 8, 9, 11], "s64")]),
        "depth_to_space": lambda m, x: m.op("DepthToSpace", [x], blocksize=2),
    }
    for data in ("u8", "s8", "u16"):
        for name, write in unary.items():
            layer("qdq %s %s" % (name, data), data, data,
                  lambda m, d, f=write: f(m, m.qdq(m.input((1, 8, 9, 11)), CODES[d])), same=name in MOVES)
        binary = {"add": "Add", "mul": "Mul", "sub": "Sub", "div": "Div", "max": "Max"}
        for name, operator in binary.items():
            def two(m, d, operator=operator):
                x, y = m.qdq(m.input((1, 8, 9, 11)), CODES[d]), m.qdq(m.input((8, 1, 1)), CODES[d])
                return m.op(operator, [x, y])
            layer("qdq %s %s" % (name, data), data, data, two)

        def concat(m, d):
            return m.op("Concat", [m.qdq(m.input((1, 8, 9)), CODES[d]), m.qdq(m.input((1, 5, 9)), CODES[d])], axis=1)

        def where(m, d):
            c = m.op("Greater", [m.input((1, 8, 9)), m.scale(0.1)])
            return m.op("Where", [c, m.qdq(m.input((1, 8, 9)), CODES[d]), m.qdq(m.input((1, 8, 9)), CODES[d])])

        def split(m, d):
            parts = m.op("Split", [m.qdq(m.input((1, 8, 9)), CODES[d])], results=2, axis=1, num_outputs=2)
            return m.op("Concat", [m.qdq(parts[1], CODES[d]), m.qdq(parts[0], CODES[d])], axis=1)
        for name, write in (("concat", concat), ("where", where), ("split", split)):
            layer("qdq %s %s" % (name, data), data, data, write)


def qoperator_cases():
    for data in ("u8", "s8"):
        scale, zero, _ = CODES[data]
        for kind, per, zeros in (("s8", "channel", 0), ("s8", "tensor", 0), ("u8", "tensor", 3), ("u8", "channel", 1)):
            if data == "s8" and kind == "u8":
                continue

            def pair(m, c):
                return [m.scale(c[0]), m.constant(c[1], c[2])]

            def conv(m, data=data, kind=kind, per=per, zeros=zeros):
                n = 24 if per == "channel" else ()
                middle = (128 if kind == "u8" else 0) + zeros
                w = [m.constant(m.codes((24, 8, 3, 3), kind), kind),
                     m.constant(np.full(n, 0.002) if n == () else 0.002 + np.arange(24) * 1e-4, "f32"),
                     m.constant(np.full(n, middle), kind)]
                x = m.q(m.input((1, 8, 9, 11)), CODES[data])
                bias = m.constant(m.codes((24,), "s16") // 16, "s32")
                return m.op("QLinearConv", [x] + pair(m, CODES[data]) + w + pair(m, CODES[data]) + [bias],
                            pads=[1] * 4), data

            def matmul(m, data=data, kind=kind, per=per, zeros=zeros):
                n = 40 if per == "channel" else ()
                middle = (128 if kind == "u8" else 0) + zeros
                w = [m.constant(m.codes((48, 40), kind), kind), m.constant(np.full(n, 0.002), "f32"),
                     m.constant(np.full(n, middle), kind)]
                x = m.q(m.input((7, 48)), CODES[data])
                return m.op("QLinearMatMul", [x] + pair(m, CODES[data]) + w + pair(m, CODES[data])), data

            def gemm(m, data=data, kind=kind, per=per, zeros=zeros, out=True):
                n = 40 if per == "channel" else ()
                middle = (128 if kind == "u8" else 0) + zeros
                w = [m.constant(m.codes((40, 48), kind), kind), m.constant(np.full(n, 0.002), "f32"),
                     m.constant(np.full(n, middle), kind)]
                x = m.q(m.input((7, 48)), CODES[data])
                bias = m.constant(m.codes((40,), "s16") // 16, "s32")
                tail = pair(m, CODES[data]) if out else []
                return m.op("QGemm", [x] + pair(m, CODES[data]) + w + [bias] + tail, MS, transB=1), data if out else "f32"
            what = "%s x %s %s%s" % (data, kind, per, " offsets" if zeros else "")
            case("QLinearConv " + what)(conv)
            case("QLinearMatMul " + what)(matmul)
            case("QGemm " + what)(gemm)
            case("QGemm to floats " + what)(lambda m, f=gemm: f(m, out=False))

        def one(m, x, operator, out=None, data=data, **attributes):
            c = [m.scale(CODES[data][0]), m.constant(CODES[data][1], data)]
            out = out or (0.0193, CODES[data][1], data)
            r = [m.scale(out[0]), m.constant(out[1], data)]
            return m.op(operator, [x] + c + r, MS, **attributes), data
        unit = (1 / 256, 0 if data == "u8" else -128, data)
        image = (1, 8, 9, 11)
        for operator, out, attributes in (("QLinearSigmoid", unit, {}), ("QLinearLeakyRelu", None, {"alpha": 0.1}),
                                          ("QLinearAveragePool", None, {"kernel_shape": [3, 3], "pads": [1] * 4}),
                                          ("QLinearAveragePool", None, {"kernel_shape": [2, 2], "channels_last": 1}),
                                          ("QLinearGlobalAveragePool", None, {"channels_last": 0}),
                                          ("QLinearGlobalAveragePool", None, {"channels_last": 1}),
                                          ("QLinearSoftmax", unit, {"axis": -1, "opset": 13}),
                                          ("QLinearSoftmax", unit, {"axis": 1, "opset": 12})):
            name = " ".join([operator, data] + ["%s=%s" % a for a in attributes.items() if a[0] in ("channels_last", "axis")])
            case(name)(lambda m, o=operator, r=out, a=attributes, f=one, d=data:
                       f(m, m.q(m.input(image), CODES[d]), o, r, **a))

        def many(m, operator, shapes, data=data):
            parts = []
            for s in shapes:
                parts += [m.q(m.input(s), CODES[data]), m.scale(CODES[data][0]), m.constant(CODES[data][1], data)]
            r = [m.scale(0.0437), m.constant(CODES[data][1], data)]
            if operator == "QLinearConcat":
                return m.op(operator, r + parts, MS, axis=1), data
            if operator == "QLinearWhere":
                return m.op(operator, [m.op("Greater", [m.input(shapes[0]), m.scale(0.1)])] + parts + r, MS), data
            return m.op(operator, parts + r, MS), data
        for operator, shapes in (("QLinearAdd", [image, image]), ("QLinearAdd", [image, (8, 1, 1)]),
                                 ("QLinearMul", [image, (1, 8, 1, 1)]), ("QLinearConcat", [image, (1, 3, 9, 11)]),
                                 ("QLinearWhere", [image, image])):
            name = "%s %s%s" % (operator, data, "" if shapes[1][-1] > 1 else " broadcast")
            case(name)(lambda m, o=operator, s=shapes, f=many: f(m, o, s))


def dynamic_cases():
    # quantize_dynamic's spelling: one scale for the data, one in total or per column for the weights.
    for kind, per, zeros in (("s8", "channel", 0), ("s8", "tensor", 0), ("u8", "tensor", 3), ("u8", "channel", 1)):
        n = () if per == "tensor" else 40
        middle = (128 if kind == "u8" else 0) + zeros

        def weights(m, shape, kind=kind, n=n, middle=middle):
            return [m.constant(m.codes(shape, kind), kind), m.constant(np.full(n, 0.002), "f32"),
                    m.constant(np.full(n, middle), kind)]

        def matmul(m, weights=weights):
            x, scale, zero = m.op("DynamicQuantizeLinear", [m.input((2, 7, 48))], results=3)
            w, w_scale, w_zero = weights(m, (48, 40))
            y = m.op("MatMulInteger", [x, w, zero, w_zero])
            y = m.op("Mul", [m.op("Cast", [y], to=T.FLOAT), m.op("Mul", [scale, w_scale])])
            return m.op("Add", [y, m.constant(m.random.standard_normal(40), "f32")]), "f32"

        def conv(m, weights=weights):
            x, scale, zero = m.op("DynamicQuantizeLinear", [m.input((1, 8, 9, 11))], results=3)
            w, w_scale, w_zero = weights(m, (40, 8, 3, 3))
            y = m.op("ConvInteger", [x, w, zero, w_zero], pads=[1] * 4)
            y = m.op("Cast", [y], to=T.FLOAT)
            return m.op("Mul", [y, scale]), "f32"

        def fused(m, weights=weights):
            w, w_scale, w_zero = weights(m, (48, 40))
            return m.op("DynamicQuantizeMatMul", [m.input((2, 7, 48)), w, w_scale, w_zero], MS), "f32"

        def to_float(m, weights=weights):
            x = m.q(m.input((7, 48)), U8)
            w, w_scale, w_zero = weights(m, (48, 40))
            operands = [x, w, m.scale(0.025), w_scale, m.constant(117, "u8"), w_zero]
            return m.op("MatMulIntegerToFloat", operands, MS), "f32"

        def lstm(m, kind=kind, per=per, middle=middle):
            n = (1,) if per == "tensor" else (1, 64)
            w, r = [m.constant(m.codes((1, k, 64), kind), kind) for k in (24, 16)]
            p = [m.constant(np.full(n, 0.003), "f32"), m.constant(np.full(n, middle), kind)]
            operands = [m.input((5, 2, 24)), w, r, "", "", "", "", ""] + p + p
            return m.op("DynamicQuantizeLSTM", operands, MS, results=1, hidden_size=16), "f32"
        what = " %s %s%s" % (kind, per, " offsets" if zeros else "")
        case("MatMulInteger dynamic" + what)(matmul)
        if per == "tensor":
            case("ConvInteger dynamic" + what)(conv)
        case("DynamicQuantizeMatMul" + what)(fused)
        case("MatMulIntegerToFloat" + what)(to_float)
        case("DynamicQuantizeLSTM" + what, within=2e-3)(lstm)


def weight_cases():
    for kind in ("s8", "u8", "s4", "u4", "s2", "u2", "s16"):
        for per, zeros in (("tensor", 0), ("channel", 0), (16, 0), (16, 1), ("channel", 1)):
            def matmul(m, kind=kind, per=per, zeros=zeros):
                axis = 0 if isinstance(per, int) else 1
                return m.op("MatMul", [m.input((7, 256)), m.weights((256, 160), kind, axis, per, bool(zeros))]), "f32"
            what = per if isinstance(per, str) else "blocks"
            opset = 25 if kind[1:] == "2" else 21
            case("weight-only matmul %s %s%s" % (kind, what, " offsets" if zeros else ""), 3e-4, opset)(matmul)
    for per in ("tensor", "channel", 4):
        def conv(m, per=per):
            w = m.weights((96, 64, 3, 3), "s8", 1 if isinstance(per, int) else 0, per)
            return m.op("Conv", [m.input((1, 64, 9, 11)), w]), "f32"
        case("weight-only conv s8 %s" % per, 3e-4)(conv)
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        for kind, per in (("s8", "channel"), ("u8", "tensor"), ("s4", "channel"), ("s4", 16)):
            def recurrent(m, op=op, gates=gates, kind=kind, per=per):
                axis = 2 if isinstance(per, int) else 1
                w, r = [m.weights((1, gates * 48, k), kind, axis, per) for k in (40, 48)]
                return m.op(op, [m.input((6, 1, 40)), w, r], results=1, hidden_size=48), "f32"
            what = per if isinstance(per, str) else "blocks"
            case("weight-only %s %s %s" % (op, kind, what), 3e-4, 21)(recurrent)
    for bits in (2, 4, 8):
        for zeros in ("none", "packed") + ("floats",) * (bits < 8):
            def nbits(m, bits=bits, zeros=zeros):
                k, n, block = 240, 160, 32
                blocks = -(-k // block)
                operands = [m.input((7, k)), m.constant(m.codes((n, blocks, block * bits // 8), "u8"), "u8"),
                            m.constant(0.01 + m.random.random(n * blocks) * 0.01, "f32")]
                if zeros == "packed":
                    operands.append(m.constant(m.codes((n * -(-blocks * bits // 8),), "u8"), "u8"))
                elif zeros == "floats":
                    operands.append(m.constant(m.random.random(n * blocks) * 3 + 6, "f32"))
                return m.op("MatMulNBits", operands, MS, K=k, N=n, bits=bits, block_size=block), "f32"
            case("MatMulNBits %d bits, zero points %s" % (bits, zeros), 3e-4)(nbits)
    def ordered(m):
        order = m.constant(m.random.permutation(np.arange(256) // 32), "s32")
        operands = [m.input((7, 256)), m.constant(m.codes((160, 8, 16), "u8"), "u8"),
                    m.constant(0.01 + m.random.random(160 * 8) * 0.01, "f32"), "", order]
        return m.op("MatMulNBits", operands, MS, K=256, N=160, bits=4, block_size=32), "f32"
    case("MatMulNBits 4 bits, g_idx", 3e-4)(ordered)
    for kind in ("s8", "u8"):
        def cast(m, kind=kind):
            w = m.op("Cast", [m.constant(m.codes((256, 160), kind), kind)], to=T.FLOAT)
            if kind == "u8":
                w = m.op("Sub", [w, m.scale(128.0)])
            w = m.op("Mul", [w, m.constant(0.002 + np.arange(160) * 1e-4, "f32")])
            return m.op("MatMul", [m.input((7, 256)), w]), "f32"
        case("cast and scaled weights " + kind, 3e-4)(cast)
    for kind in ("s4", "u4", "u8"):
        for zeros in (False, True):
            def gather(m, kind=kind, zeros=zeros):
                shape = (50, 64)
                if kind == "u8":
                    data, bits = m.constant(m.codes((50, 32), "u8"), "u8"), 4
                else:
                    data, bits = m.constant(m.codes(shape, kind), kind), 4
                operands = [data, m.input((2, 7), "s64"), m.constant(0.01 + m.random.random((50, 4)) * 0.01, "f32")]
                if zeros:
                    z = m.codes((50, 2), "u8") if kind == "u8" else m.codes((50, 4), kind)
                    operands.append(m.constant(z, kind))
                extra = {"bits": bits} if kind == "u8" else {}
                return m.op("GatherBlockQuantized", operands, MS, gather_axis=0, quantize_axis=1, block_size=16, **extra), "f32"
            case("GatherBlockQuantized %s%s" % (kind, " offsets" if zeros else ""))(gather)
    for entries in (4, 16, 256):
        def codebook(m, entries=entries):
            table = m.constant(m.random.standard_normal(entries), "f32")
            w = m.op("Gather", [table, m.constant(m.codes((256, 160), "u8") % entries, "s32")])
            return m.op("MatMul", [m.input((7, 256)), w]), "f32"
        case("codebook of %d" % entries, 3e-4)(codebook)
    for kind in ("f16", "bf16"):
        def stored(m, kind=kind):
            w = m.op("Cast", [m.constant(m.random.standard_normal((48, 40)), kind)], to=T.FLOAT)
            return m.op("MatMul", [m.input((7, 48)), w]), "f32"
        case("%s weights, cast" % kind)(stored)

        def computed(m, kind=kind):
            return m.op("MatMul", [m.input((7, 48), kind), m.constant(m.random.standard_normal((48, 40)), kind)]), kind
        case("%s matmul" % kind, 5e-3)(computed)

        def scales(m, kind=kind):
            codes = m.constant(m.codes((48, 40), "s8"), "s8")
            w = m.dq(codes, (0.01 + np.arange(40) * 1e-3, None, "s8"), scale_kind=kind, axis=1)
            return m.op("MatMul", [m.input((7, 48), kind), w]), kind
        case("%s scales of s8 weights" % kind, 5e-3)(scales)
    for kind in ("f8", "f8e5"):
        def eight(m, kind=kind):
            codes = m.constant(m.random.standard_normal((48, 40)), kind)
            w = m.op("DequantizeLinear", [codes, m.scale(0.02), m.constant(0.0, kind)])
            x = m.op("QuantizeLinear", [m.input((7, 48)), m.scale(0.1), m.constant(0.0, kind)])
            x = m.op("DequantizeLinear", [x, m.scale(0.1), m.constant(0.0, kind)])
            return m.op("MatMul", [x, w]), "f32"
        case("%s data and weights" % kind)(eight)


for write_cases in (qdq_cases, exporter_cases, unary_cases, qoperator_cases, dynamic_cases, weight_cases):
    write_cases()
