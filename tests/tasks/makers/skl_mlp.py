"""A multilayer perceptron that scikit-learn trains on half of its digits."""
from sklearn.neural_network import MLPClassifier

from makers.skl import make_with


def make(_sources):
    return make_with("skl_mlp", MLPClassifier((128, 64), alpha=1e-3, max_iter=60, random_state=3))
