"""Classifiers of scikit-learn, on its digits as 64 numbers, written by skl2onnx."""
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skl2onnx import to_onnx

from task import Task

SEED, CALIB = 3, 512


def make_with(name, classifier):
    data = load_digits()
    x = (data.data / 16).astype(np.float32)
    train, test, known, labels = train_test_split(x, data.target, test_size=0.5, random_state=SEED, stratify=data.target)
    classifier.fit(train, known)
    model = to_onnx(classifier, train[:1], target_opset={"": 17, "ai.onnx.ml": 3}, options={"zipmap": False})
    made_of = "%s of scikit-learn on half of its digits" % type(classifier).__name__
    return Task(name, "top1", made_of, model.SerializeToString(), {"X": train[:CALIB]}, {"X": test}, labels.astype(np.int64),
                "%d images" % len(test), "grey values 0..1", {"output": "probabilities"})
