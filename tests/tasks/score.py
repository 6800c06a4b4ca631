"""Runs a model on a task's test samples in ONNX Runtime and scores its outputs.

A metric is a function that turns outputs into one number per item (a word, an image, a frame) or, for metrics of all
items at once (area under the ROC curve), into what `Metric.total` needs: `Loaded.score(outputs)` is the score in percent,
`Loaded.interval(a, b)` the difference of two models' scores with its paired 95 % interval.
"""
import json
import os
from dataclasses import dataclass
from typing import Callable

import numpy as np
import onnxruntime as ort

RESAMPLES = 2000


def top1(outputs, labels, _decode):
    """1 for a right answer, 0 for a wrong one."""
    return (outputs[0].reshape(len(labels), -1).argmax(1) == labels).astype(np.float64)


def mean(values):
    return 100 * values.mean(axis=0)


@dataclass
class Metric:
    each: Callable       # (outputs, labels, decode) -> array, one row per sample
    total: Callable      # rows -> percent


METRICS = {
    "top1": Metric(top1, mean),
}


class Loaded:
    """A task as `task.write` left it."""

    def __init__(self, folder, limit=None):
        self.folder = folder
        with open(os.path.join(folder, "task.json"), encoding="utf-8") as f:
            self.about = json.load(f)
        self.metric = METRICS[self.about["metric"]]
        with np.load(os.path.join(folder, "test.npz")) as z:
            self.test = {k: z[k][:limit] for k in z.files}
        with np.load(os.path.join(folder, "calib.npz")) as z:
            self.calib = {k: z[k] for k in z.files}
        path = os.path.join(folder, "labels.npy")
        if os.path.exists(path):
            self.labels = np.load(path)[:limit]
        else:
            with open(os.path.join(folder, "labels.txt"), encoding="utf-8") as f:
                self.labels = [line.rstrip("\n") for line in f][:limit]

    def run(self, model, threads=2):
        """Outputs of all test samples, one sample a run: a list, one stacked array per output of the model."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        ranks = {i.name: len(i.shape) for i in session.get_inputs()}
        outputs = [session.run(None, feed) for feed in feeds(self.test, ranks)]
        return [np.stack(o) for o in zip(*outputs)]

    def rows(self, outputs):
        return self.metric.each(outputs, self.labels, self.about["decode"])

    def score(self, outputs):
        return "%.2f %%" % self.metric.total(self.rows(outputs))

    def interval(self, before, after):
        """Points lost from `before` to `after` (rows of both), and the 95 % interval of that, by resampling samples."""
        rng = np.random.default_rng(1)
        total = self.metric.total
        lost = [total(before[k]) - total(after[k]) for k in (rng.integers(0, len(before), len(before)) for _ in range(RESAMPLES))]
        return total(before) - total(after), np.percentile(lost, 2.5), np.percentile(lost, 97.5)


def feeds(samples, ranks):
    """One feed per sample. An array of an input's own rank has the batch as its first axis; one of a rank more has whole
    inputs behind it."""
    count = len(next(iter(samples.values())))
    for k in range(count):
        yield {n: a[k:k + 1] if a.ndim == ranks[n] else a[k] for n, a in samples.items()}
