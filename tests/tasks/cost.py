#!/usr/bin/env python3
"""What compressed forms of tasks' models save: time on this machine, bytes of weights, instructions on 64-bit Arm.

usage: cost.py [--work DIR] [--mcc MCC] [--forms int8,...] [--rounds 3] [--arm CPU]... [TASK ...]

Takes the models that compare.py left in DIR/TASK/forms. Each is timed in turns with the float model, on one thread and for
this machine's CPU, with the shapes of the first test sample; the least time of all rounds counts. Weights are those of the
object. --arm counts the instructions of an inference, as ../tools/aarch64_cost.py does (what it needs is told there), on
an object for that CPU. The last rows are geometric means.
"""
import argparse
import json
import os
import sys

import environment

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TOOLS = os.path.join(ROOT, "tests", "tools")
SECONDS = "0.7"


def arguments():
    ap = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    ap.add_argument("tasks", metavar="TASK", nargs="*", help="(default: those that exist in DIR)")
    ap.add_argument("--work", default=os.path.join(ROOT, "target", "tasks"), help="default: target/tasks")
    ap.add_argument("--mcc", default=os.path.join(ROOT, "target", "release", "mcc"))
    ap.add_argument("--forms", default="int8,2:4,blocks80,channels50", help="comma-separated")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--arm", action="append", default=[], metavar="CPU", help="such as generic or generic,+dotprod")
    args = ap.parse_args()
    args.work, args.mcc = os.path.abspath(args.work), os.path.abspath(args.mcc)
    return args


def json_of(text):
    """Warnings may stand before it."""
    return json.loads(text[text.index("{"):])


def bench(args, model, feed):
    from foreign import run
    pins = [part for k, v in feed.items() if v.ndim for part in ("--shape", "%s=%s" % (k, "x".join(map(str, v.shape))))]
    said = json_of(run(args.mcc, "bench", model, "--cpu", "native", "--seconds", SECONDS, "--json", *pins))
    return said["min_ms"], said["weights_bytes"]


def instructions(args, cpu, name, model, feed):
    from arm_cost import cores, engines, profile
    case = engines.Case("%s-%s" % (name, cpu), model, feed, os.path.join(args.work, "aarch64"))
    how = argparse.Namespace(mcc=args.mcc, mcc_options=[], work=case.work)
    return profile.totals(engines.mcc(case, cpu, cores.MACHINES["v9"], how, check=False)[0])["insns"]


def costs(args, task, forms):
    """Of each form: how many times less of everything than the float model."""
    import onnx
    import score
    model = os.path.join(task.folder, "model.onnx")
    ranks = {i.name: len(i.type.tensor_type.shape.dim) for i in onnx.load(model, load_external_data=False).graph.input}
    feed = next(score.feeds(task.test, ranks))
    arm = [instructions(args, cpu, task.about["name"] + "-float", model, feed) for cpu in args.arm]
    for form, path in forms.items():
        rounds = [(bench(args, model, feed), bench(args, path, feed)) for _ in range(args.rounds)]
        (before, full), (after, small) = ((min(r[k][0] for r in rounds), rounds[0][k][1]) for k in (0, 1))
        name = "%s-%s" % (task.about["name"], form.replace(":", "_"))
        fewer = [n / instructions(args, cpu, name, path, feed) for n, cpu in zip(arm, args.arm)]
        yield form, [before / after, full / small, *fewer], "%.4f -> %.4f ms, %d -> %d bytes" % (before, after, full, small)


def main():
    args = arguments()
    environment.enter(__file__, os.path.join(HERE, "requirements.txt"), os.path.join(args.work, "venv"))
    sys.path.insert(0, TOOLS)
    import numpy as np
    import score
    names = args.tasks or sorted(n for n in os.listdir(args.work) if os.path.exists(os.path.join(args.work, n, "task.json")))
    columns = ["time", "weights", *("instructions, " + cpu for cpu in args.arm)]
    print("| task | form | %s | |" % " | ".join(columns))
    print("|---" * (len(columns) + 3) + "|")
    found = {}
    for name in names:
        folder = os.path.join(args.work, name)
        paths = {f: os.path.join(folder, "forms", "%s-mcc.onnx" % f.replace(":", "_")) for f in args.forms.split(",")}
        there = {form: path for form, path in paths.items() if os.path.exists(path)}
        for form, row, text in costs(args, score.Loaded(folder, 1), there) if there else ():
            found.setdefault(form, []).append(row)
            print("| %s | %s | %s | %s |" % (name, form, " | ".join("%.2fx" % v for v in row), text), flush=True)
    for form, rows in found.items():
        means = np.exp(np.log(rows).mean(0))
        print("| mean of %d | %s | %s | |" % (len(rows), form, " | ".join("%.2fx" % v for v in means)))


if __name__ == "__main__":
    main()
