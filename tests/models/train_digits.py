#!/usr/bin/env python3
"""Train the sample model digits.onnx: a small CNN for scikit-learn's 8x8 handwritten digits.

usage: train_digits.py [OUT_DIR]        (default: the folder of this script)

Writes digits.onnx, and ten test images that it never saw as digits/sample_N_labelL.pgm and .npy. Forward and backward
passes are plain numpy, seeded; another BLAS may round differently, so the weights need not repeat bit by bit. Fails when
the held-out accuracy is under 98 %, or when ONNX Runtime disagrees. Needs numpy, scikit-learn, onnx, onnxruntime; 10 s.
"""
import os
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED, EPOCHS, BATCH, RATE, DECAY = 7, 40, 64, 2e-3, 1e-4
F32 = np.float32


def patches(x):
    """[n,c,h,w] -> [n,h*w,c*9]: the 3x3 neighbourhood of every pixel, zero-padded."""
    n, c, h, w = x.shape
    p = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    s = np.lib.stride_tricks.sliding_window_view(p, (3, 3), axis=(2, 3))
    return np.ascontiguousarray(s.transpose(0, 2, 3, 1, 4, 5)).reshape(n, h * w, c * 9)


def conv(x, w, b):
    n, _, h, wd = x.shape
    cols = patches(x)
    y = cols @ w.reshape(len(w), -1).T + b
    return y.transpose(0, 2, 1).reshape(n, len(w), h, wd), cols


def conv_back(dy, cols, w):
    """Gradients of the input, the weight and the bias."""
    n, o, h, wd = dy.shape
    c = w.shape[1]
    flat = dy.reshape(n, o, h * wd).transpose(0, 2, 1)
    dw = (flat.reshape(-1, o).T @ cols.reshape(-1, c * 9)).reshape(w.shape)
    dcols = (flat @ w.reshape(o, -1)).reshape(n, h, wd, c, 3, 3)
    dx = np.zeros((n, c, h + 2, wd + 2), F32)
    for i in range(3):
        for j in range(3):
            dx[:, :, i:i + h, j:j + wd] += dcols[..., i, j].transpose(0, 3, 1, 2)
    return dx[:, :, 1:-1, 1:-1], dw, flat.sum((0, 1))


def forward(p, x):
    """Logits, and what the backward pass needs."""
    a1, c1 = conv(x, p["conv1.w"], p["conv1.b"])
    r1 = np.maximum(a1, 0)
    a2, c2 = conv(r1, p["conv2.w"], p["conv2.b"])
    r2 = np.maximum(a2, 0)
    n, c, h, w = r2.shape
    quads = r2.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)
    pick = quads.argmax(-1)
    pooled = quads.max(-1)
    a3, c3 = conv(pooled, p["conv3.w"], p["conv3.b"])
    flat = np.maximum(a3, 0).reshape(n, -1)
    return flat @ p["fc.w"].T + p["fc.b"], (a1, c1, a2, c2, pick, a3, c3, flat)


def backward(p, saved, dlogits):
    a1, c1, a2, c2, pick, a3, c3, flat = saved
    g = {"fc.w": dlogits.T @ flat, "fc.b": dlogits.sum(0)}
    d3 = (dlogits @ p["fc.w"]).reshape(a3.shape) * (a3 > 0)
    dpool, g["conv3.w"], g["conv3.b"] = conv_back(d3, c3, p["conv3.w"])
    n, c, h, w = dpool.shape
    quads = np.zeros((n, c, h, w, 4), F32)
    np.put_along_axis(quads, pick[..., None], dpool[..., None], -1)
    dr2 = quads.reshape(n, c, h, w, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(a2.shape)
    dr1, g["conv2.w"], g["conv2.b"] = conv_back(dr2 * (a2 > 0), c2, p["conv2.w"])
    _, g["conv1.w"], g["conv1.b"] = conv_back(dr1 * (a1 > 0), c1, p["conv1.w"])
    return g


def shifted(x, rng):
    """Each image moved by up to one pixel each way."""
    p = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    dy, dx = rng.integers(0, 3, (2, len(x)))
    return np.stack([p[k, :, dy[k]:dy[k] + 8, dx[k]:dx[k] + 8] for k in range(len(x))])


def train(x, y):
    rng = np.random.default_rng(SEED)
    shapes = {"conv1.w": (16, 1, 3, 3), "conv2.w": (32, 16, 3, 3), "conv3.w": (32, 32, 3, 3), "fc.w": (10, 512)}
    p = {}
    for name, shape in shapes.items():
        p[name] = (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(F32)
        p[name[:-1] + "b"] = np.zeros(shape[0], F32)
    m = {k: np.zeros_like(v) for k, v in p.items()}
    v = {k: np.zeros_like(w) for k, w in p.items()}
    step, steps = 0, EPOCHS * -(-len(x) // BATCH)
    for _ in range(EPOCHS):
        order = rng.permutation(len(x))
        for k in range(0, len(x), BATCH):
            take = order[k:k + BATCH]
            logits, saved = forward(p, shifted(x[take], rng))
            e = np.exp(logits - logits.max(1, keepdims=True))
            d = e / e.sum(1, keepdims=True)
            d[np.arange(len(take)), y[take]] -= 1
            grads = backward(p, saved, (d / len(take)).astype(F32))
            step += 1
            rate = RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
            for name, grad in grads.items():        # Adam with decoupled weight decay
                m[name] += F32(0.1) * (grad - m[name])
                v[name] += F32(0.001) * (grad * grad - v[name])
                mh, vh = m[name] / (1 - 0.9 ** step), v[name] / (1 - 0.999 ** step)
                p[name] -= (rate * (mh / (np.sqrt(vh) + 1e-8) + DECAY * p[name])).astype(F32)
    return p


def export(p, path):
    node, conv_attrs = helper.make_node, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        node("Conv", ["image", "conv1.w", "conv1.b"], ["conv1"], "conv1", **conv_attrs),
        node("Relu", ["conv1"], ["relu1"], "relu1"),
        node("Conv", ["relu1", "conv2.w", "conv2.b"], ["conv2"], "conv2", **conv_attrs),
        node("Relu", ["conv2"], ["relu2"], "relu2"),
        node("MaxPool", ["relu2"], ["pool"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["pool", "conv3.w", "conv3.b"], ["conv3"], "conv3", **conv_attrs),
        node("Relu", ["conv3"], ["relu3"], "relu3"),
        node("Flatten", ["relu3"], ["flat"], "flatten", axis=1),
        node("Gemm", ["flat", "fc.w", "fc.b"], ["logits"], "fc", transB=1),
        node("Softmax", ["logits"], ["probabilities"], "softmax", axis=1),
    ]
    graph = helper.make_graph(
        nodes, "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(p[k], k) for k in sorted(p)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
                              producer_name="train_digits.py")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def write_samples(folder, images, labels):
    """The first of the given images of each digit: 8x8 PGM (P2, 0..16) and the model's own input as .npy."""
    os.makedirs(folder, exist_ok=True)
    for old in os.listdir(folder):
        os.remove(os.path.join(folder, old))
    for digit in range(10):
        image = images[np.flatnonzero(labels == digit)[0]]
        stem = os.path.join(folder, "sample_%d_label%d" % (digit, digit))
        with open(stem + ".pgm", "w", encoding="ascii") as f:
            f.write("P2\n8 8\n16\n")
            for row in np.rint(image[0] * 16).astype(int):
                f.write(" ".join("%2d" % v for v in row) + "\n")
        np.save(stem + ".npy", image[None])


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    data = load_digits()
    x = (data.images[:, None] / 16).astype(F32)
    x_train, x_test, y_train, y_test = train_test_split(x, data.target, test_size=0.2, random_state=SEED,
                                                        stratify=data.target)
    p = train(x_train, y_train)
    logits = forward(p, x_test)[0]
    accuracy = (logits.argmax(1) == y_test).mean()
    print("held-out accuracy %.2f %% (%d images), training %.2f %% (%d images)"
          % (100 * accuracy, len(y_test), 100 * (forward(p, x_train)[0].argmax(1) == y_train).mean(), len(y_train)))
    if accuracy < 0.98:
        print("train_digits: under 98 %, nothing written", file=sys.stderr)
        return 1

    path = os.path.join(out, "digits.onnx")
    export(p, path)
    run = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    got = np.concatenate([run.run(None, {"image": i[None]})[0] for i in x_test])
    e = np.exp(logits - logits.max(1, keepdims=True))
    difference = np.abs(got - e / e.sum(1, keepdims=True)).max()
    print("digits.onnx: %d bytes, ONNX Runtime differs by %.1g at most" % (os.path.getsize(path), difference))
    if difference > 1e-5:
        return 1
    right = logits.argmax(1) == y_test      # an example that shows one of the few errors would only puzzle
    write_samples(os.path.join(out, "digits"), x_test[right], y_test[right])
    return 0


if __name__ == "__main__":
    sys.exit(main())
