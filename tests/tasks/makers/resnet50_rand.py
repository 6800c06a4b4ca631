"""ResNet-50 with random weights (derive_light.py), on seeded images."""
from makers.distance import make_with


def make(sources):
    return make_with(sources, "resnet50_rand", "light_resnet50")
