"""Makes what is measured: mcc's object in a C program, and the peers' model files, and runs them on a machine.

Profiles are kept in WORK/profiles under the hash of everything that they depend on: run again, only what changed is run.
"""
import glob
import hashlib
import json
import os
import shutil
import subprocess

import numpy as np

from foreign import read_raw, run, write_raw

from . import profile

HERE = os.path.dirname(os.path.abspath(__file__))
TOOLS = os.path.dirname(HERE)
# The peers and the versions that peers.sh installs.
PEERS = {"onnxruntime": "1.32.0", "mnn": "3.6.1", "mnn-f16": "3.6.1", "ncnn": "1.0.20261020", "ncnn-f16": "1.0.20261020"}
CODES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10, "float64": 11}
PNNX_TYPES = {"float32": "f32", "float64": "f64", "float16": "f16", "int32": "i32", "int64": "i64", "int8": "i8", "uint8": "u8",
              "bool": "u8"}
# Kernels' functions are called MODEL__NUMBER_NAME.
PREFIX = "m__"
# Seconds for a converter.
PATIENCE = 1800


class Refused(Exception):
    """A peer cannot run a model; the message says why."""


def digest(*parts):
    """Of strings, and of files' contents where a part is an absolute path."""
    h = hashlib.sha256()
    for part in parts:
        if os.path.isabs(part):
            with open(part, "rb") as f:
                part = hashlib.file_digest(f, "sha256").hexdigest()
        h.update(part.encode() + b"\0")
    return h.hexdigest()[:20]


class Case:
    """A model and its inputs, the folder for all that is made of them, and ONNX Runtime's outputs on this machine."""

    def __init__(self, name, model, feeds, work):
        self.name, self.model, self.feeds, self.work = name, os.path.abspath(model), feeds, work
        self.hash = digest(self.model, *("%s %s %s" % (k, v.shape, hashlib.sha256(v.tobytes()).hexdigest()) for k, v in feeds.items()))
        self.folder = os.path.join(work, "models", "%s-%s" % (name.replace(os.sep, "_"), self.hash[:8]))
        os.makedirs(self.folder, exist_ok=True)
        self.inputs = os.path.join(self.folder, "inputs.npz")
        np.savez(self.inputs, **feeds)

    def path(self, name):
        return os.path.join(self.folder, name)

    def reference(self):
        """{output: array}"""
        path = self.path("reference.npz")
        if not os.path.exists(path):
            import onnxruntime
            onnxruntime.set_default_logger_severity(3)
            session = onnxruntime.InferenceSession(self.model, providers=["CPUExecutionProvider"])
            names = [o.name for o in session.get_outputs()]
            np.savez(path, names=names, *session.run(names, self.feeds))
        found = np.load(path)
        return {name: found["arr_%d" % n] for n, name in enumerate(found["names"])}

    def pins(self):
        """mcc's options for the inputs' shapes."""
        shaped = {k: v for k, v in self.feeds.items() if v.ndim}
        return [part for k, v in shaped.items() for part in ("--shape", "%s=%s" % (k, "x".join(map(str, v.shape))))]


def distance(got, want):
    """The worst relative L2 distance of all outputs. A peer may give them with other axes, and without a batch."""
    worst = 0.0
    if len(got) != len(want):
        raise Refused("%d outputs instead of %d" % (len(got), len(want)))
    for g, w in zip(got, want):
        w = np.asarray(w, np.float64)
        g = np.asarray(g, np.float64)
        if g.size != w.size:
            raise Refused("an output of shape %s instead of %s" % (g.shape, w.shape))
        forms = [g.reshape(w.shape)]
        if g.shape != w.shape and g.ndim == w.ndim and w.ndim > 2 and np.moveaxis(g, -1, 1).shape == w.shape:
            forms.append(np.moveaxis(g, -1, 1))
        norm = np.linalg.norm(w) or 1.0
        far = min(float(np.linalg.norm(f - w)) / norm for f in forms)
        worst = max(worst, far if np.isfinite(far) else float("inf"))
    return worst


def kept(key, make, work):
    """A profile that was made before, or is made now; a refusal is kept too (to try again, delete the file)."""
    folder = os.path.join(work, "profiles")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, key + ".json.gz")
    if os.path.exists(path):
        try:
            return profile.load(path)
        except (KeyError, ValueError, EOFError):
            pass  # another version of this tool wrote it
    try:
        found = make()
    except Refused as e:
        found = profile.Profile(refused=str(e))
    profile.save(found, path)
    return found


def compiled(case, cpu, args):
    """The program of mcc's object, the names of its inputs and outputs, and its multiply-adds; made again if anything changed."""
    made = digest(os.path.abspath(args.mcc), case.hash, cpu, *args.mcc_options, os.path.join(TOOLS, "drive.c"))
    folder = case.path("mcc-" + made)
    obj, exe, about = (os.path.join(folder, name) for name in ("m.o", "drive", "inspect.json"))
    if not os.path.exists(about):
        os.makedirs(folder, exist_ok=True)
        how = ["--target", "aarch64-unknown-linux-gnu", "--cpu", cpu] if cpu else ["--target", "aarch64-linux-android"]
        run(args.mcc, case.model, "-o", obj, "--name", "m", *how, *args.mcc_options, *case.pins())
        run("aarch64-linux-gnu-gcc", "-O1", "-std=c11", "-static", "-DMODEL=m_model", "-include", os.path.join(folder, "m.h"),
            os.path.join(TOOLS, "drive.c"), obj, "-Wl,--wrap=malloc", "-o", exe)
        os.remove(obj)
        text = run(args.mcc, "inspect", case.model, "--json", *case.pins())
        with open(about, "w", encoding="utf-8") as f:
            f.write(text[text.index("{"):])     # warnings may stand before it
    with open(about, encoding="utf-8") as f:
        report = json.load(f)
    names = [[port["name"] for port in report[side]] for side in ("inputs", "outputs")]
    return exe, *names, report.get("multiply_adds")


def mcc(case, cpu, machine, args, check=True):
    """The profile of mcc's object, its program, and the multiply-adds that the model's operators define.

    `cpu` is for --cpu; empty: the default object for Android. `args` has mcc, mcc_options and work, all as on the command line."""
    exe, inputs, outputs, multiply_adds = compiled(case, cpu, args)
    folder = os.path.dirname(exe)

    def make():
        ins = [os.path.join(folder, "input_%d" % n) for n in range(len(inputs))]
        for path, name in zip(ins, inputs):
            write_raw(path, case.feeds[name], CODES[str(case.feeds[name].dtype)])
        outs = [os.path.join(folder, "output_%d" % n) for n in range(len(outputs))]
        os.environ["RUNS"] = "2"
        found = profile.count([exe, *ins, "--", *outs], machine, args.work)
        if check:
            want = case.reference()
            found.distance = distance([read_raw(p) for p in outs], [want[name] for name in outputs])
        return found
    return kept(digest("mcc", exe, case.hash, repr(machine), profile.SOURCE), make, args.work), exe, multiply_adds


def converted(case, engine, peers):
    """A peer's model file, made by its converter once."""
    def ran(command, log, folder=case.folder):
        with open(case.path(log), "w", encoding="utf-8") as f:
            try:
                # Converters that call others by name find them beside themselves.
                env = {**os.environ, "PATH": os.path.dirname(command[0]) + os.pathsep + os.environ["PATH"]}
                code = subprocess.run(command, stdout=f, stderr=subprocess.STDOUT, cwd=folder, timeout=PATIENCE, check=False,
                                      env=env).returncode
            except subprocess.TimeoutExpired as e:
                # Says more of this machine than of the converter, so it is not kept.
                raise RuntimeError("%s: no end within %d minutes" % (os.path.basename(command[0]), PATIENCE / 60)) from e
        if code:
            with open(case.path(log), encoding="utf-8", errors="replace") as f:
                last = [line for line in f.read().splitlines() if line.strip()]
            raise Refused("%s: exit %s: %s" % (os.path.basename(command[0]), code, last[-1][:120] if last else ""))

    if engine == "mnn":
        path = case.path("m.mnn")
        if not os.path.exists(path):
            ran([os.path.join(peers, "convert/bin/mnnconvert"), "-f", "ONNX", "--modelFile", case.model, "--MNNModel", path], "mnn.log")
        if not os.path.exists(path):
            raise Refused("mnnconvert: conversion failed")
        with open(path + ".outputs", "w", encoding="utf-8") as f:
            f.write("\n".join(case.reference()))
        return path
    if not os.path.exists(case.path("m.ncnn.bin")):
        shutil.copyfile(case.model, case.path("m.onnx"))
        shapes = ",".join("[%s]%s" % (",".join(map(str, v.shape)), PNNX_TYPES[str(v.dtype)]) for v in case.feeds.values())
        program = glob.glob(os.path.join(peers, "convert/lib/python3*/site-packages/pnnx/pnnx"))[0]
        ran([program, "m.onnx", "inputshape=" + shapes, "fp16=0"], "pnnx.log")
        os.remove(case.path("m.onnx"))
    return case.path("m.ncnn")


def peer(case, engine, machine, args):
    """The profile of a peer's wheel."""
    def make():
        peers = os.path.join(args.work, "peers")
        run(os.path.join(HERE, "peers.sh"), peers)
        model = case.model if engine == "onnxruntime" else converted(case, engine.partition("-")[0], peers)
        root = os.path.join(peers, "root")
        for path, text in (("proc/cpuinfo", cpuinfo(machine)), ("sys/devices/system/cpu/possible", "0\n"),
                           ("sys/devices/system/cpu/present", "0\n")):
            os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="ascii") as f:
                f.write(text)
        outputs, maps = case.path(engine + ".npz"), case.path(engine + ".maps")
        os.environ["PYTHONHASHSEED"] = "0"
        try:
            found = profile.count([os.path.join(root, "usr/bin/python3.11"), os.path.join(HERE, "guest.py"), os.path.join(peers, "site"),
                                   engine, model, case.inputs, outputs, maps], machine, args.work, root)
        except RuntimeError as e:
            raise Refused(str(e).strip().splitlines()[-1][-160:]) from e
        got = np.load(outputs)
        found.distance = distance([got[k] for k in got.files], list(case.reference().values()))
        with open(maps, encoding="utf-8") as f:
            for line in f:
                words = line.split()
                if len(words) > 5 and "x" in words[1]:
                    found.maps.append([*(int(a, 16) for a in words[0].split("-")), os.path.basename(words[5])])
        return found
    key = digest(engine, PEERS[engine], case.hash, repr(machine), profile.SOURCE, os.path.join(HERE, "guest.py"))
    return kept(key, make, args.work)


def cpuinfo(machine):
    """/proc/cpuinfo of one core: libraries choose kernels by it."""
    return ("processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: %s\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x1\n"
            "CPU part\t: 0x%x\nCPU revision\t: 0\n\n" % (machine.features, machine.part))
