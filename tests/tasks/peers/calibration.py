"""What the peers' scripts share: their command line, MODEL CALIB.npz OUT.onnx VARIANT SAMPLES, and the calibration feeds."""
import os
import sys

import numpy as np
import onnx

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
from score import feeds  # noqa: E402


class Job:
    def __init__(self, arguments):
        self.path, calib, self.out, self.variant, samples = arguments
        self.model = onnx.load(self.path)
        constants = {t.name for t in self.model.graph.initializer}
        inputs = [i for i in self.model.graph.input if i.name not in constants]
        ranks = {i.name: len(i.type.tensor_type.shape.dim) for i in inputs}
        with np.load(calib) as z:
            arrays = {k: z[k][:int(samples)] for k in z.files if k in ranks}
        self.feeds = list(feeds(arrays, ranks))


def job():
    return Job(sys.argv[1:])
