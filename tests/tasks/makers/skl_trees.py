"""A random forest that scikit-learn trains on half of its digits."""
from sklearn.ensemble import RandomForestClassifier

from makers.skl import make_with


def make(_sources):
    return make_with("skl_trees", RandomForestClassifier(60, max_depth=12, random_state=3))
