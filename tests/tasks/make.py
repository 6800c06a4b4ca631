#!/usr/bin/env python3
"""Make labelled tasks: a float model, calibration samples, and test samples with labels.

usage: make.py [--work DIR] [--force] [TASK ...]              (default: all tasks, into target/tasks)

Writes DIR/TASK/{model.onnx, calib.npz, test.npz, labels.npy or labels.txt, task.json} and prints the float model's score
on the test samples, by ONNX Runtime. Everything is made of packages of the usual registries (pip, npm, Debian), with fixed
seeds; calibration and test samples have nothing in common. The Python that it needs goes into virtual environments of its
own, DIR/venv*. As root it installs missing Debian packages, otherwise it names them.
"""
import argparse
import importlib
import os
import sys
import time

import environment

os.environ["OPENBLAS_NUM_THREADS"] = "1"       # sums in one order, on every machine
HERE = os.path.dirname(os.path.abspath(__file__))
TASKS = ("mnist", "digits", "ocr_rec", "ocr_det", "captcha", "vad", "magika", "sentences", "skl_mlp", "skl_trees", "ddddocr_det_yolox",
         "resnet50_rand")

TRAINED = {"mnist"}     # by frameworks that the others do without


def arguments():
    ap = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    ap.add_argument("tasks", metavar="TASK", nargs="*", help="(default: %s)" % " ".join(TASKS))
    ap.add_argument("--work", default=os.path.join(HERE, os.pardir, os.pardir, "target", "tasks"), help="default: target/tasks")
    ap.add_argument("--force", action="store_true", help="make tasks again that exist already")
    args = ap.parse_args()
    if set(args.tasks) - set(TASKS):
        ap.error("tasks are %s" % ", ".join(TASKS))
    args.work = os.path.abspath(args.work)
    return args


def main():
    args = arguments()
    kind = "-training" if TRAINED & set(args.tasks or TASKS) else ""
    environment.enter(__file__, os.path.join(HERE, "requirements%s.txt" % kind), os.path.join(args.work, "venv" + kind))
    import score
    import task as tasks
    sources = tasks.Sources(os.path.join(args.work, "sources"))
    for name in args.tasks or TASKS:
        folder = os.path.join(args.work, name)
        start = time.time()
        if args.force or not os.path.exists(os.path.join(folder, "task.json")):
            tasks.write(importlib.import_module("makers." + name).make(sources), folder)
            made = "made in %.0f s" % (time.time() - start)
        else:
            made = "exists already"
        task = score.Loaded(folder)
        result = task.score(task.run(os.path.join(folder, "model.onnx")))
        print("%s: %s; %s; float model: %s" % (name, made, task.about["items"], result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
