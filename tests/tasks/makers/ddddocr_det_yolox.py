"""The zoo's largest detector of one stage, on seeded images."""
from makers.distance import make_with


def make(sources):
    return make_with(sources, "ddddocr_det_yolox")
