"""Seeded inputs for the zoo's models, from the "inputs" of an entry of zoo.json (needs numpy).

    feeds = make_inputs(entry["inputs"])          # {input name: array}, in the listed order

One generator, numpy.random.default_rng(seed), is drawn from in the order of the inputs.
"""
import numpy as np


def normal(rng, shape, spec):
    return rng.standard_normal(shape) * spec["scale"]


def uniform(rng, shape, spec):
    return rng.random(shape) * (spec["hi"] - spec["lo"]) + spec["lo"]


def randint(rng, shape, spec):
    """Integers from lo up to, not including, hi."""
    return rng.integers(spec["lo"], spec["hi"], shape)


def const(_rng, shape, spec):
    return np.full(shape, spec["value"])


def blocks(rng, shape, spec):
    """An image of random squares of cell x cell pixels."""
    cell, nchw = spec["cell"], spec["layout"] == "NCHW"
    n, h, w, c = (shape[0], shape[2], shape[3], shape[1]) if nchw else shape
    a = rng.random((n, -(-h // cell), -(-w // cell), c)).repeat(cell, 1).repeat(cell, 2)[:, :h, :w]
    a = a * (spec["hi"] - spec["lo"]) + spec["lo"]
    return a.transpose(0, 3, 1, 2) if nchw else a


def textlike(rng, shape, spec):
    """NCHW: lines of words made of random strokes, ink = lo on paper = hi; text detectors respond to it."""
    cell = spec["cell"]
    n, channels, h, w = shape
    rows, cols = -(-h // cell), -(-w // cell)
    ink = rng.random((n, rows, cols)) < 0.55
    words = (rng.random((n, -(-cols // 5))) < 0.85).repeat(5, 1)[:, :cols]
    ink &= (np.arange(rows) % 9 < 5)[None, :, None] & (np.arange(cols) % 5 < 4)[None, None, :]
    ink &= words[:, None, :]
    a = np.where(ink, spec["lo"], spec["hi"]).repeat(cell, 1).repeat(cell, 2)[:, :h, :w]
    return np.repeat(a[:, None], channels, 1)


KINDS = {f.__name__: f for f in (normal, uniform, randint, const, blocks, textlike)}


def make_inputs(specs, seed=0):
    rng = np.random.default_rng(seed)
    feeds = {}
    for name, spec in specs.items():
        shape = tuple(spec["shape"])
        a = np.asarray(KINDS[spec["gen"]](rng, shape, spec)).astype(spec["dtype"])
        feeds[name] = np.ascontiguousarray(a) if shape else a
    return feeds
