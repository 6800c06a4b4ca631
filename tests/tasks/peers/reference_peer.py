"""References in numpy for what no ONNX tool does to convolutions and matrix products: one layer after another, with the inputs that
the layers done before leave it.

Variants: sparsegptS, magnitudeS (S: a share such as 0.7, or N:M; "+int8" behind it: then quantized by onnxruntime_peer.py's
minmax), gptq4, nearest4 (int4 in groups of 32 inputs, each with a scale and a zero point), codebook4 (16 values per layer by k-means).
SparseGPT: Frantar and Alistarh 2023, arXiv 2301.00774. GPTQ: Frantar et al. 2022, arXiv 2210.17323. k-means: Han et al. 2015,
arXiv 1510.00149. Weights stay float in the file, rounded to what the form can hold; `effective_bytes` in the metadata is what the
form would take. Layers: Conv of one group, Gemm and MatMul with constant weights, of at least 16 inputs; the others stay as they are.
"""
import re

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from calibration import job

BLOCK, GROUP, DAMPING, LEAST_INPUTS = 128, 32, 0.01, 16
# Samples and, of each, rows of a layer's input matrix that its second moments are taken from.
SAMPLES, ROWS = 64, 512


class Layer:
    """A node with constant weights, as a matrix of outputs x inputs."""

    def __init__(self, node, tensor):
        self.node, self.tensor = node, tensor
        self.array = numpy_helper.to_array(tensor)
        self.attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        a = self.array
        self.transposed = node.op_type == "MatMul" or node.op_type == "Gemm" and not self.attributes.get("transB", 0)
        self.matrix = (a.T if self.transposed else a.reshape(len(a), -1)).astype(np.float64)

    @property
    def fits(self):
        if self.node.op_type == "Conv":
            known = self.attributes.get("auto_pad", b"NOTSET") == b"NOTSET" and self.array.ndim == 4
            return known and self.attributes.get("group", 1) == 1 and self.matrix.shape[1] >= LEAST_INPUTS
        return self.array.ndim == 2 and self.matrix.shape[1] >= LEAST_INPUTS and not self.attributes.get("transA", 0)

    def rows_of(self, x, rng):
        """The rows that the matrix is multiplied with, for an input of the node: some of them."""
        if self.node.op_type != "Conv":
            x = x.reshape(-1, x.shape[-1])
        else:
            top, left, bottom, right = self.attributes.get("pads", [0, 0, 0, 0])
            kernel, dilations = self.array.shape[2:], self.attributes.get("dilations", [1, 1])
            strides = self.attributes.get("strides", [1, 1])
            x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
            size = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
            x = np.lib.stride_tricks.sliding_window_view(x, size, (2, 3))
            x = x[:, :, ::strides[0], ::strides[1], ::dilations[0], ::dilations[1]].transpose(0, 2, 3, 1, 4, 5)
            at = np.arange(np.prod(x.shape[:3]))
            at = rng.choice(at, ROWS, replace=False) if len(at) > ROWS else at
            x = x[np.unravel_index(at, x.shape[:3])].reshape(len(at), -1)
        return x[rng.choice(len(x), ROWS, replace=False)] if len(x) > ROWS else x

    def store(self, matrix):
        a = matrix.T if self.transposed else matrix.reshape(self.array.shape)
        self.tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(a, self.array.dtype), self.tensor.name))


def layers(model):
    constants = {t.name: t for t in model.graph.initializer}
    constants.update((n.output[0], a.t) for n in model.graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value")
    seen = set()
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in constants and node.input[1] not in seen:
            seen.add(node.input[1])
            yield Layer(node, constants[node.input[1]])


def moments(model, layer, feeds, rng):
    """X^T X of the layer's inputs, in the model as it now is."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    del cut.graph.output[:]
    cut.graph.output.append(onnx.helper.make_empty_tensor_value_info(layer.node.input[0]))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(cut.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = {i.name for i in session.get_inputs()}
    h, count = np.zeros((layer.matrix.shape[1],) * 2), 0
    for feed in feeds[:SAMPLES]:
        x = layer.rows_of(session.run(None, {k: v for k, v in feed.items() if k in inputs})[0], rng).astype(np.float64)
        h, count = h + x.T @ x, count + len(x)
    return h / max(1, count)


def inverse(h, w):
    """The upper Cholesky factor of the damped inverse; inputs that are always zero get no weight."""
    dead = np.diag(h) <= 0
    h[dead, dead] = 1
    w[:, dead] = 0
    h[np.diag_indices_from(h)] += DAMPING * np.diag(h).mean()
    return np.linalg.cholesky(np.linalg.inv(h)).T


def reconstructed(w, factor, choose):
    """Columns become choose(column, its number, all columns as they now are); later columns make up for the error (OBS)."""
    w = w.copy()
    for start in range(0, w.shape[1], BLOCK):
        end = min(start + BLOCK, w.shape[1])
        errors = np.zeros((len(w), end - start))
        for k in range(start, end):
            new = choose(w[:, k], k, w)
            error = (w[:, k] - new) / factor[k, k]
            w[:, k] = new
            w[:, k + 1:end] -= np.outer(error, factor[k, k + 1:end])
            errors[:, k - start] = error
        w[:, end:] -= errors @ factor[start:end, end:]
    return w


def smallest(scores, pattern):
    """True where a weight goes: the share of all, or all but N of each M."""
    if isinstance(pattern, float):
        count = round(pattern * scores.size)
        gone = np.zeros(scores.size, bool)
        gone[np.argsort(scores, axis=None, kind="stable")[:count]] = True
        return gone.reshape(scores.shape)
    keep, of = pattern
    rank = np.argsort(np.argsort(scores.reshape(len(scores), -1, of), axis=2, kind="stable"), axis=2)
    return (rank < of - keep).reshape(scores.shape)


def sparse(w, factor, pattern):
    """Weights go by w^2 / [H^-1]_kk, chosen a block of columns (or the M of N:M) at a time."""
    step = BLOCK if isinstance(pattern, float) else pattern[1]
    gone = {}

    def choose(column, k, w):
        if k % step == 0:
            end = min(k + step, w.shape[1])
            scores = (w[:, k:end] / np.diag(factor)[k:end]) ** 2
            gone[0] = smallest(scores, pattern)
        return np.where(gone[0][:, k % step], 0, column)
    return reconstructed(w, factor, choose)


def nearest(w, low, scale):
    return np.clip(np.rint((w - low) / scale), 0, 15) * scale + low


def scales(w):
    """Least value and step of 16 values, zero among them, per row."""
    low, high = np.minimum(w.min(1), 0), np.maximum(w.max(1), 0)
    scale = np.where(high > low, (high - low) / 15, 1)
    return np.rint(low / scale) * scale, scale


def int4(w, factor):
    if factor is None:
        out = w.copy()
        for k in range(0, w.shape[1], GROUP):
            low, scale = scales(w[:, k:k + GROUP])
            out[:, k:k + GROUP] = nearest(w[:, k:k + GROUP], low[:, None], scale[:, None])
        return out
    group = {}

    def choose(column, k, w):
        if k % GROUP == 0:
            group[0] = scales(w[:, k:k + GROUP])
        return nearest(column, *group[0])
    return reconstructed(w, factor, choose)


def codebook(w):
    values = np.sort(w, axis=None)
    table = np.quantile(values, (np.arange(16) + 0.5) / 16)
    sums = np.concatenate([[0], np.cumsum(values)])
    for _ in range(100):
        at = np.concatenate([[0], np.searchsorted(values, (table[1:] + table[:-1]) / 2), [len(values)]])
        counts = np.diff(at)
        new = np.where(counts > 0, (sums[at[1:]] - sums[at[:-1]]) / np.maximum(counts, 1), table)
        if np.allclose(new, table, rtol=1e-6, atol=0):
            break
        table = np.sort(new)
    return table[np.searchsorted((table[1:] + table[:-1]) / 2, w)]


def bits_saved(method, w):
    """Bytes that a layer's form takes less than floats."""
    if method == "codebook":
        return w.size * 4 - (w.size / 2 + 64)
    if method in ("gptq", "nearest"):
        groups = -(-w.shape[1] // GROUP) * len(w)
        return w.size * 4 - (w.size / 2 + groups * 4.5)
    return 0


def main():
    task = job()
    method, pattern, then = re.fullmatch(r"(sparsegpt|magnitude|gptq|nearest|codebook)([\d.:]+)(\+int8)?", task.variant).groups()
    if method in ("sparsegpt", "magnitude"):
        pattern = tuple(map(int, pattern.split(":"))) if ":" in pattern else float(pattern)
    rng = np.random.default_rng(0)
    saved = 0
    for layer in layers(task.model):
        w = layer.matrix
        if not layer.fits or isinstance(pattern, tuple) and w.shape[1] % pattern[1]:
            continue
        factor = None
        if method in ("sparsegpt", "gptq"):
            w = w.copy()
            factor = inverse(moments(task.model, layer, task.feeds, rng), w)
        if method == "sparsegpt":
            w = sparse(w, factor, pattern)
        elif method == "magnitude":
            w = np.where(smallest(np.abs(w), pattern), 0, w)
        elif method == "codebook":
            w = codebook(w)
        else:
            w = int4(w, factor)
        layer.store(w)
        saved += bits_saved(method, w)
        print(layer.node.name or layer.node.output[0], w.shape, flush=True)
    if saved:
        total = sum(numpy_helper.to_array(t).nbytes for t in task.model.graph.initializer)
        total += sum(numpy_helper.to_array(a.t).nbytes for n in task.model.graph.node if n.op_type == "Constant"
                     for a in n.attribute if a.name == "value")
        task.model.metadata_props.add(key="effective_bytes", value=str(int(total - saved)))
    if then:
        from onnxruntime_peer import static
        task.variant = "minmax"
        static(task)
    else:
        onnx.save(task.model, task.out)


if __name__ == "__main__":
    main()
