"""Zoo models without a task of their own: seeded inputs, no labels; what counts is the distance from the float model."""
import json
import os
import subprocess
import sys

import numpy as np

from task import TOOLS, Task
from fetch_zoo import ZOO
from zoo_inputs import make_inputs

CALIB, TEST = range(1, 65), range(1001, 1065)       # seeds, one a sample


def samples(specs, seeds):
    each = [make_inputs(specs, seed) for seed in seeds]
    return {name: np.concatenate([s[name] for s in each]) for name in specs}


def make_with(sources, name, base=None):
    """`base` names the zoo's model that derive_light.py makes this one of."""
    with open(ZOO, encoding="utf-8") as f:
        specs = next(m["inputs"] for m in json.load(f)["models"] if m["name"] == (base or name))
    model = sources.zoo(base or name)
    if base:
        folder = os.path.join(sources.folder, "zoo")
        subprocess.run([sys.executable, os.path.join(TOOLS, "derive_light.py"), "--forms", "rand", folder, folder,
                        base.removeprefix("light_")], check=True, stdout=subprocess.DEVNULL)
        with open(os.path.join(folder, name + ".onnx"), "rb") as f:
            model = f.read()
    return Task(name, "distance", "%s; seeded inputs of zoo_inputs.py" % name, model, samples(specs, CALIB), samples(specs, TEST), None,
                "%d inputs" % len(TEST))
