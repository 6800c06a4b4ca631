"""Scikit-learn's digits with the shipped sample tests/models/digits.onnx, split as its training (train_digits.py) splits them."""
import os
import sys

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from task import TOOLS, Task

MODELS = os.path.join(TOOLS, os.pardir, "models")
sys.path.append(MODELS)
from train_digits import SEED  # noqa: E402 - another split would test what the model was trained on

CALIB = 512


def make(_sources):
    data = load_digits()
    x = (data.images[:, None] / 16).astype(np.float32)
    train, test, _, labels = train_test_split(x, data.target, test_size=0.2, random_state=SEED, stratify=data.target)
    with open(os.path.join(MODELS, "digits.onnx"), "rb") as f:
        model = f.read()
    return Task("digits", "top1", "tests/models/digits.onnx; the images that it was not trained on", model, {"image": train[:CALIB]},
                {"image": test}, labels.astype(np.int64), "%d images" % len(test), "grey values 0..1")
