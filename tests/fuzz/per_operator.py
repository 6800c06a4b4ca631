#!/usr/bin/env python3
"""Prints the folders of a few cases of every operator, the smallest ones, out of a tree of cases in ONNX's layout.

usage: per_operator.py CASES [N]

For checks that take too long for all cases, such as `mcc verify --hostile`.
"""
import os
import sys

import onnx


def main():
    root, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
    cases = {}
    for folder, _, files in os.walk(root):
        if "model.onnx" in files:
            path = os.path.join(folder, "model.onnx")
            graph = onnx.load(path, load_external_data=False).graph
            for operator in {(n.domain, n.op_type) for n in graph.node}:
                cases.setdefault(operator, []).append((len(graph.node), os.path.getsize(path), folder))
    chosen = {folder for found in cases.values() for _, _, folder in sorted(found)[:count]}
    print("\n".join(sorted(chosen)))


if __name__ == "__main__":
    main()
