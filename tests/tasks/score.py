"""Runs a model on a task's test samples in ONNX Runtime and scores its output.

A metric turns the stacked output into rows, one a sample (a word, an image, a page, a pair), and rows into a score in
percent, more is better: `Loaded.score(output)`; `Loaded.interval(before, after)` is what was lost between the rows of two
models, with the paired 95 % interval of resampled rows.
"""
import json
import os
from dataclasses import dataclass
from typing import Callable

import numpy as np
import onnxruntime as ort
from scipy import ndimage

RESAMPLES = 1000


def top1(output, labels, _decode):
    """1 for a right answer, 0 for a wrong one."""
    return (output.reshape(len(labels), -1).argmax(1) == labels).astype(np.float64)


def distance(a, b):
    """Levenshtein's: the fewest insertions, deletions and replacements of a character that turn `a` into `b`."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def read(indices, decode):
    """Greedy CTC: repetitions count once, blanks not at all."""
    kept = [k for n, k in enumerate(indices) if k != decode["blank"] and (n == 0 or k != indices[n - 1])]
    text = "".join(decode["vocabulary"][k] for k in kept)
    return text.lower() if decode.get("case") == "any" else text


def edits(output, labels, decode):
    """Wrong characters and characters of each text. Output: indices, or scores of every character."""
    indices = output if output.dtype.kind in "iu" else output.argmax(-1)
    texts = [read(row.reshape(-1).tolist(), decode) for row in indices]
    return np.array([(distance(text, label), len(label)) for text, label in zip(texts, labels)], np.float64)


def found(chances, decode):
    """Boxes of a map of chances: connected parts above the threshold, grown as DB's training shrank them."""
    parts, _ = ndimage.label(chances > decode["threshold"])
    boxes = []
    for k, (rows, columns) in enumerate(ndimage.find_objects(parts), 1):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if min(height, width) < 3 or chances[rows, columns][parts[rows, columns] == k].mean() < decode["least_score"]:
            continue
        grown = decode["unclip"] * height * width / (2 * (height + width))
        boxes.append((columns.start - grown, rows.start - grown, columns.stop + grown, rows.stop + grown))
    return np.array(boxes).reshape(-1, 4)


def matches(output, labels, decode):
    """Of each page: boxes found right, boxes found, boxes that are there. A box is right once, by intersection over union."""
    result = []
    for chances, want in zip(output, labels):
        want = want[want[:, 0] >= 0].astype(np.float64)
        got = found(chances.reshape(chances.shape[-2:]), decode)
        size = np.minimum(got[:, None, 2:], want[None, :, 2:]) - np.maximum(got[:, None, :2], want[None, :, :2])
        both = size.clip(0).prod(2)
        area_of = lambda b: (b[:, 2:] - b[:, :2]).prod(1)  # noqa: E731
        iou = both / (area_of(got)[:, None] + area_of(want)[None] - both)
        right = 0
        while iou.size and iou.max() >= decode["iou"]:
            g, w = np.unravel_index(iou.argmax(), iou.shape)
            iou[g], iou[:, w] = -1, -1
            right += 1
        result.append((right, len(got), len(want)))
    return np.array(result, np.float64)


def scored(output, labels, decode):
    """The score and the label of each sample: vectors of pairs by their cosine; other outputs are scores."""
    if decode.get("pairs"):
        v = output.reshape(len(output), -1).astype(np.float64)
        v /= np.linalg.norm(v, axis=1, keepdims=True)
        output = (v[0::2] * v[1::2]).sum(1)
    return np.stack([output.reshape(labels.shape), labels], -1).reshape(len(labels), -1, 2).astype(np.float64)


def mean(rows):
    return 100 * rows.mean()


def f1(rows):
    right, got, want = rows.sum(0)
    return 100 * 2 * right / (got + want)


def right_characters(rows):
    return 100 * (1 - rows[:, 0].sum() / rows[:, 1].sum())


def area(rows):
    """Area under the ROC curve: the share of pairs of a positive and a negative whose scores are in order."""
    scores, labels = rows.reshape(-1, 2).T
    _, where, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[where]        # ties share the middle rank
    positives = labels.sum()
    return 100 * (rank[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(labels) - positives))


@dataclass
class Metric:
    each: Callable       # (output, labels, decode) -> array, one row per sample
    total: Callable      # rows -> percent
    says: str            # what the percentage is of


METRICS = {
    "top1": Metric(top1, mean, "right"),
    "cer": Metric(edits, right_characters, "of characters right (100 % - character error rate)"),
    "boxes": Metric(matches, f1, "F1 of boxes at IoU 0.5"),
    "auc": Metric(scored, area, "area under the ROC curve"),
}


class Loaded:
    """A task as `task.write` left it."""

    def __init__(self, folder, limit=None):
        self.folder = folder
        with open(os.path.join(folder, "task.json"), encoding="utf-8") as f:
            self.about = json.load(f)
        self.metric = METRICS.get(self.about["metric"])       # none: only the distance counts
        with np.load(os.path.join(folder, "test.npz")) as z:
            self.test = {k: z[k][:limit] for k in z.files}
        with np.load(os.path.join(folder, "calib.npz")) as z:
            self.calib = {k: z[k] for k in z.files}
        self.labels = labels(folder) if self.metric else None
        if limit and self.metric:       # of pairs, two samples have one label
            self.labels = self.labels[:limit * len(self.labels) // self.about["test_samples"]]

    def run(self, model, threads=1):
        """The output that the metric decodes, of all test samples, one sample a run, stacked."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        ranks = {i.name: len(i.shape) for i in session.get_inputs()}
        name = self.about["decode"].get("output", session.get_outputs()[0].name)
        return np.stack([session.run([name], feed)[0] for feed in feeds(self.test, ranks)])

    def rows(self, output):
        return self.metric.each(output, self.labels, self.about["decode"])

    def score_of(self, output):
        return "%.2f %%" % self.metric.total(self.rows(output))

    def score(self, output):
        if not self.metric:
            return "no labels"
        return "%s %s" % (self.score_of(output), self.metric.says)

    def interval(self, before, after):
        """Points lost from `before` to `after` (rows of both), and the 95 % interval of that, by resampling samples."""
        rng = np.random.default_rng(1)
        total = self.metric.total
        lost = [total(before[k]) - total(after[k]) for k in (rng.integers(0, len(before), len(before)) for _ in range(RESAMPLES))]
        return total(before) - total(after), np.percentile(lost, 2.5), np.percentile(lost, 97.5)


def labels(folder):
    path = os.path.join(folder, "labels.npy")
    if os.path.exists(path):
        return np.load(path)
    with open(os.path.join(folder, "labels.txt"), encoding="utf-8") as f:
        return [line.rstrip("\n") for line in f]


def relative_l2(got, want):
    """Of stacked outputs, a sample at a time: some are gigabytes."""
    square = lambda a: float(np.square(a, dtype=np.float64).sum())  # noqa: E731
    return (sum(square(g - w) for g, w in zip(got, want)) / sum(map(square, want))) ** 0.5


def feeds(samples, ranks):
    """One feed per sample. An array of an input's own rank has the batch as its first axis; one of a rank more has whole
    inputs behind it."""
    count = len(next(iter(samples.values())))
    for k in range(count):
        yield {n: a[k:k + 1] if a.ndim == ranks[n] else a[k] for n, a in samples.items()}
