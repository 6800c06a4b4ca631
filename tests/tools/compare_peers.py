#!/usr/bin/env python3
"""Time mcc, ONNX Runtime and OpenVINO on the development zoo, in turn within one process per model, and check their outputs.

usage: compare_peers.py [--mcc MCC] [--cpu native] [--threads 1[,2]] [--rounds N] [--seconds 4] [--out PREFIX]
                        [--work DIR] [--models DIR]... [--engines mcc,onnxruntime,openvino] [--precision fp32] [NAME ...]

One command from a fresh clone (after `cargo build --release`): it makes a virtual environment with the peers of
requirements-peers.txt, fetches the zoo, derives the models that no package ships, compiles each with mcc into a shared
library, and loads that with ctypes beside the peers' sessions in one process. The engines run in turns of a few
inferences each; the least time of all turns counts, since whatever else the machine does only ever adds. The table goes to
PREFIX.md and PREFIX.json (default: DIR/peers) and to stdout: milliseconds; ratio = mcc over the better peer, less than 1:
mcc is faster; GFLOP/s by the multiply-adds that the model's operators define; the share of the peak that mcc measures on
this core; first result = loading plus the first run. Loading is all that comes before: a session of the peers, whose
libraries are loaded already; of mcc the object, its shapes and its memory.

NAMEs default to the zoo's models (the light_ ones in their _rand forms: equal weights prove nothing) and the derived ones.
--models adds folders to look for NAME.onnx in before anything is fetched. An engine that refuses a model is listed with
its reason. Exit status 1 when mcc failed on a model or gives another result than ONNX Runtime.
"""
import argparse
import ctypes
import json
import math
import os
import platform
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
REQUIREMENTS = os.path.join(HERE, "requirements-peers.txt")
ENGINES = ("mcc", "onnxruntime", "openvino")
# Models that spend most of their time in 3x3 convolutions.
HEAVY_3X3 = {"ddddocr_det_yolox", "mlsd_tiny_512", "densenet121_rand", "terrain_unet"}
# Length of a turn: long enough for an engine to bring its data into the caches again.
TURN_SECONDS = 0.03
# Relative L2 difference from ONNX Runtime's outputs: for floats, and where 8-bit rounding may differ.
LIMIT = {"fp32": 1e-3, "int8": 5e-2}
# Weight formats that represent exact numbers: their models compute in fp32.
EXACT = ("fp32", "sparse", "channels", "codebook")


class Tensor(ctypes.Structure):
    """mcc_tensor"""
    _fields_ = [("data", ctypes.c_void_p), ("dims", ctypes.POINTER(ctypes.c_int64)), ("rank", ctypes.c_int32),
                ("dtype", ctypes.c_int32)]


class Port(ctypes.Structure):
    """mcc_port"""
    _fields_ = [("name", ctypes.c_char_p), ("dims", ctypes.POINTER(ctypes.c_int64)), ("dim_names", ctypes.c_void_p),
                ("rank", ctypes.c_int32), ("dtype", ctypes.c_int32)]


class Model(ctypes.Structure):
    """mcc_model"""
    _fields_ = [("abi_version", ctypes.c_int32), ("input_count", ctypes.c_int32), ("output_count", ctypes.c_int32),
                ("threads", ctypes.c_int32), ("name", ctypes.c_char_p), ("inputs", ctypes.POINTER(Port)),
                ("outputs", ctypes.POINTER(Port)), ("arena_size", ctypes.c_int64), ("shapes", ctypes.c_void_p),
                ("invoke", ctypes.c_void_p), ("cpu_features", ctypes.c_char_p)]


NUMPY_TYPES = {1: "f4", 2: "u1", 3: "i1", 4: "u2", 5: "i2", 6: "i4", 7: "i8", 9: "?", 10: "f2", 11: "f8", 12: "u4", 13: "u8"}
CODES = {0: "ok", 1: "a pointer is null", 2: "wrong rank", 3: "wrong element type", 4: "wrong dimension",
         5: "the arena is too small", 6: "the arena is misaligned", 7: "bad value"}


class Mcc:
    """A model compiled by mcc, in this process."""

    def __init__(self, library, symbol, feeds, runtime, threads):
        # The time of a C program before it runs the model: loading it, its shapes, its memory; without making the tensors' structs.
        self.load = 0.0
        self.library = self.loading(ctypes.CDLL, library)
        model = Model.in_dll(self.library, symbol + "_model")
        pointer = ctypes.c_void_p
        shapes = ctypes.CFUNCTYPE(ctypes.c_int32, pointer, pointer, pointer)(model.shapes)
        self.call = ctypes.CFUNCTYPE(ctypes.c_int32, pointer, pointer, pointer, ctypes.c_size_t, pointer)(model.invoke)
        self.pool = None
        if threads > 1:
            new = ctypes.CDLL(runtime).mcc_pool_new
            new.restype = pointer
            self.pool = self.loading(new, threads)
        self.keep = []
        self.inputs = (Tensor * max(1, model.input_count))()
        for k in range(model.input_count):
            port = model.inputs[k]
            self.fill(self.inputs[k], feeds[port.name.decode()], port.dtype)
        self.outputs, self.names, self.dims = (Tensor * max(1, model.output_count))(), [], []
        for k in range(model.output_count):
            port, t = model.outputs[k], self.outputs[k]
            dims = (ctypes.c_int64 * max(1, port.rank))()
            self.dims.append(dims)
            t.rank, t.dtype, t.dims = port.rank, port.dtype, dims
            self.names.append(port.name.decode())
        size = ctypes.c_int64()
        self.check(self.loading(shapes, self.inputs, self.outputs, ctypes.byref(size)))
        self.upper = [list(t.dims[:t.rank]) for t in self.outputs[:model.output_count]]
        self.arrays = [np.zeros(shape, NUMPY_TYPES[t.dtype]) for shape, t in zip(self.upper, self.outputs)]
        for t, a in zip(self.outputs, self.arrays):
            t.data = a.ctypes.data
        self.arena_bytes = size.value
        self.memory = self.loading(np.zeros, size.value + 64, np.uint8)
        self.arena = -(-self.memory.ctypes.data // 64) * 64

    def loading(self, step, *arguments):
        start = time.perf_counter()
        result = step(*arguments)
        self.load += time.perf_counter() - start
        return result

    def fill(self, t, array, dtype):
        array = np.require(array, requirements="C")
        dims = (ctypes.c_int64 * max(1, array.ndim))(*array.shape)
        self.keep += [array, dims]
        t.data, t.dims, t.rank, t.dtype = array.ctypes.data, dims, array.ndim, dtype

    @staticmethod
    def check(code):
        if code:
            raise RuntimeError("the model refuses: %s" % CODES.get(code, code))

    def run(self):
        for dims, shape in zip(self.dims, self.upper):
            dims[:len(shape)] = shape
        self.check(self.call(self.inputs, self.outputs, self.arena, self.arena_bytes, self.pool))

    def results(self):
        out = {}
        for name, a, dims, upper in zip(self.names, self.arrays, self.dims, self.upper):
            shape = dims[:len(upper)]
            out[name] = a.reshape(-1)[:math.prod(shape)].reshape(shape)
        return out


class OnnxRuntime:
    def __init__(self, path, feeds, threads):
        import onnxruntime as ort
        ort.set_default_logger_severity(4)
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.feeds, self.last = feeds, None

    def run(self):
        self.last = self.session.run(None, self.feeds)

    def results(self):
        return {o.name: np.asarray(v) for o, v in zip(self.session.get_outputs(), self.last)}


class OpenVino:
    def __init__(self, path, feeds, threads):
        import openvino as ov
        core = ov.Core()
        model = core.read_model(path)
        model.reshape({k: list(v.shape) for k, v in feeds.items()})
        hints = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        self.request = core.compile_model(model, "CPU", hints).create_infer_request()
        self.feeds, self.model = feeds, model

    def run(self):
        self.request.infer(self.feeds, share_inputs=True)

    def results(self):
        ports = self.request.model_outputs
        return {name: np.array(self.request.get_tensor(p).data) for p in ports for name in p.get_names()}


def difference(got, want):
    """The largest relative L2 difference of common outputs; for other element types, the share of unequal elements."""
    worst = 0.0
    for name, w in want.items():
        g = got.get(name)
        if g is None or g.shape != w.shape:
            return math.inf if g is not None else worst
        if w.dtype.kind != "f":
            worst = max(worst, float(np.mean(g != w)) if w.size else 0.0)
            continue
        g, w = g.astype(np.float64), w.astype(np.float64)
        both = np.isfinite(w)
        if not np.array_equal(both, np.isfinite(g)):
            return math.inf
        norm = float(np.linalg.norm(w[both]))
        worst = max(worst, float(np.linalg.norm((g - w)[both])) / norm if norm else float(np.abs(g[both]).max(initial=0)))
    return worst


def least_turn(engine, seconds, count):
    """Runs a turn: `count` inferences, or as many as TURN_SECONDS take; the minimum time in ms, and all times."""
    times, end = [], time.perf_counter() + seconds
    while not times or len(times) < count and time.perf_counter() < end:
        start = time.perf_counter()
        engine.run()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def time_in_turns(job):
    """The measurements of one model, in a separate process: its row of the table."""
    feeds = make_inputs(job["inputs"])
    row, engines = {}, {}
    makers = {
        "mcc": lambda: Mcc(job["library"], job["symbol"], feeds, job["runtime"], job["threads"]),
        "onnxruntime": lambda: OnnxRuntime(job["model"], feeds, job["threads"]),
        "openvino": lambda: OpenVino(job["model"], feeds, job["threads"]),
    }
    modules = {"onnxruntime": "onnxruntime", "openvino": "openvino"}
    for name in job["engines"]:
        if name in modules:
            __import__(modules[name])       # what a program pays once is not this model's load
        try:
            start = time.perf_counter()
            engine = makers[name]()
            load = getattr(engine, "load", time.perf_counter() - start)
            start = time.perf_counter()
            engine.run()
            row[name] = {"load_ms": load * 1e3, "first_ms": (load + time.perf_counter() - start) * 1e3}
            engines[name] = engine
        except Exception as e:      # a refusal is a result
            row[name] = {"error": (str(e).strip().splitlines() or [repr(e)])[-1][:200]}
    times = {name: [] for name in engines}
    end = time.perf_counter() + job["seconds"]
    turn = 0
    while engines and turn < job["rounds"] and (turn < 3 or time.perf_counter() < end):
        for name, engine in engines.items():
            times[name] += least_turn(engine, TURN_SECONDS, 1000)
        turn += 1
    for name, t in times.items():
        row[name].update(min_ms=min(t), median_ms=sorted(t)[len(t) // 2], runs=len(t))
    if "mcc" in engines:
        row["mcc"]["arena_bytes"] = engines["mcc"].arena_bytes
    if "onnxruntime" in engines:
        want = engines["onnxruntime"].results()
        for name in engines:
            if name != "onnxruntime":
                row[name]["difference"] = difference(engines[name].results(), want)
    return row


def told(command, specs):
    """The output of a command of mcc, with the inputs' shapes pinned."""
    pins = [part for k, s in specs.items() for part in ("--shape", "%s=%s" % (k, "x".join(map(str, s["shape"])))) if s["shape"]]
    done = subprocess.run(command + pins, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=900)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["exit %d" % done.returncode])[0][:200])
    return done.stdout


def compile_model(mcc, cpu, threads, model, symbol, specs, folder):
    """The shared library, and the output of `mcc inspect` for the model."""
    library = os.path.join(folder, symbol + ".so")
    told([mcc, model, "--emit", "shared", "-o", library, "--name", symbol, "--cpu", cpu, "--threads=%d" % threads], specs)
    return library, json.loads(told([mcc, "inspect", model, "--json", "--cpu", cpu], specs))


def object_bytes(mcc, model, symbol, specs, folder):
    """Size of the object for the default CPUs."""
    path = os.path.join(folder, symbol + ".o")
    told([mcc, model, "-o", path, "--name", symbol], specs)
    return os.path.getsize(path)


def measure(name, model, specs, threads, args):
    row = {"name": name, "precision": args.precisions[name], "threads": threads}
    engines, job = list(args.engines), {}
    if "mcc" in engines:
        try:
            symbol = "m%d_%s" % (threads, name)
            job["library"], report = compile_model(args.mcc, args.cpu, threads, model, symbol, specs, args.objects)
            job["symbol"], row["text_bytes"] = symbol, report["text_bytes"]
            row["weights_bytes"], row["multiply_adds"] = report["weights_bytes"], report.get("multiply_adds")
        except (RuntimeError, subprocess.TimeoutExpired) as e:
            row["mcc"] = {"error": str(e)}
            engines.remove("mcc")
    job.update(inputs=specs, model=model, threads=threads, engines=engines, seconds=args.seconds * len(engines), rounds=args.rounds,
               runtime=args.runtime)
    child = subprocess.run([sys.executable, os.path.abspath(__file__), "--child"], input=json.dumps(job),
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=3600)
    try:
        row.update(json.loads(child.stdout.splitlines()[-1]))
    except (IndexError, ValueError):
        tail = (child.stderr.strip().splitlines() or ["no answer"])[-1][:200]
        row.setdefault("mcc", {"error": "the process ended with %s: %s" % (child.returncode, tail)})
    peers = [row[p]["min_ms"] for p in ENGINES[1:] if "min_ms" in row.get(p, {})]
    if peers:
        row["best_peer_ms"] = min(peers)
        if "min_ms" in row.get("mcc", {}):
            row["ratio"] = row["mcc"]["min_ms"] / min(peers)
    return row


def precision(dtype):
    """One word for zoo.json's "dtype"."""
    return "trees" if "tree" in dtype else "w8" if "weight-only" in dtype else dtype.split(" ")[0]


def geometric(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def groups(rows):
    """Name of a group: its rows that have a ratio."""
    rows = [r for r in rows if "ratio" in r]
    float_rows = [r for r in rows if r["precision"] == "fp32"]
    return {
        "fp32": float_rows,
        "int8": [r for r in rows if r["precision"] == "int8"],
        "under 1 ms": [r for r in float_rows if r["best_peer_ms"] < 1],
        "fp32, 1 ms and more": [r for r in float_rows if r["best_peer_ms"] >= 1],
        "3x3-heavy": [r for r in float_rows if r["name"] in HEAVY_3X3],
    }


def sooner(rows):
    """Speed-up of mcc over ONNX Runtime in loading and in time to the first result: geometric means."""
    both = [(r["mcc"], r["onnxruntime"]) for r in rows if all("min_ms" in r.get(e, {}) for e in ("mcc", "onnxruntime"))]
    return {key: geometric([theirs[key] / mine[key] for mine, theirs in both]) for key in ("load_ms", "first_ms")}


def cell(form, value):
    return form % value if value is not None else ""


def markdown(rows, peaks, args):
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            cpu = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), cpu)
    lines = ["%s, --cpu %s; peak of one core: %s. ONNX Runtime %s, OpenVINO %s; milliseconds, the least of all runs in turns." % (
        cpu, args.cpu, ", ".join("%s %.0f GFLOP/s" % p for p in peaks.items() if p[1]) or "not measured", *versions())]
    for threads in args.threads:
        mine = [r for r in rows if r["threads"] == threads]
        lines += ["", "%d thread%s" % (threads, "s" if threads > 1 else ""), "",
                  "| model | precision | mcc ms | ORT ms | OpenVINO ms | ratio | GFLOP/s | of peak | arena kB | code kB | first result, "
                  "mcc / ORT / OpenVINO ms | differs |", "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"]
        for r in mine:
            m = r.get("mcc", {})
            work, peak = r.get("multiply_adds") or None, peaks.get("int8" if r["precision"] == "int8" else "fp32")
            gflops = 2e-6 * work / m["min_ms"] if work and "min_ms" in m else None
            share = 100 * gflops / peak / threads if gflops and peak else None
            r["gflops"], r["peak_share"] = gflops, share and share / 100
            ms = ["%.4g" % r[e]["min_ms"] if "min_ms" in r.get(e, {}) else r.get(e, {}).get("error", "").replace("|", "/")[:60]
                  for e in ENGINES]
            first = " / ".join(cell("%.3g", r.get(e, {}).get("first_ms")) or "-" for e in ENGINES)
            lines.append("| %s |" % " | ".join(
                [r["name"], r["precision"], *ms, cell("%.2f", r.get("ratio")), cell("%.1f", gflops), cell("%.0f %%", share),
                 cell("%.0f", m["arena_bytes"] / 1e3 if "arena_bytes" in m else None),
                 cell("%.0f", r["text_bytes"] / 1e3 if "text_bytes" in r else None), first, cell("%.1g", m.get("difference"))]))
        lines += ["", "| group | models | geometric mean of the ratios | worst |", "|---|--:|--:|---|"]
        for name, group in groups(mine).items():
            if group:
                worst = max(group, key=lambda r: r["ratio"])
                lines.append("| %s | %d | %.3f | %.2f %s |" % (name, len(group), geometric([r["ratio"] for r in group]),
                                                             worst["ratio"], worst["name"]))
        times = sooner(mine)
        if times["load_ms"]:
            lines += ["", "Loaded %.0f times sooner than ONNX Runtime, first result %.1f times sooner (geometric means)." % tuple(times.values())]
    return "\n".join(lines) + "\n"


def versions():
    from importlib import metadata
    return [metadata.version(p) for p in ENGINES[1:]]


def runtime_library(work):
    """mcc's thread pool as a shared library."""
    target = os.path.join(work, "runtime")
    subprocess.run(["cargo", "rustc", "--quiet", "--release", "-p", "mcc-runtime", "--features", "threads", "--crate-type", "cdylib",
                    "--target-dir", target], cwd=ROOT, check=True)
    return os.path.join(target, "release", "libmcc_runtime.so")


def peaks(args):
    """GFLOP/s of one core, as `mcc bench --profile` measures them."""
    if "mcc" not in args.engines:
        return {}
    model = os.path.join(ROOT, "tests", "models", "digits.onnx")
    done = subprocess.run([args.mcc, "bench", model, "--profile", "--json", "--seconds", "0.2", "--cpu", args.cpu],
                          stdout=subprocess.PIPE, check=True, text=True)
    report = json.loads(done.stdout)
    return {"fp32": report["peak_gflops"], "int8": report["peak_int8_gops"]}


def own_environment(work, script=__file__):
    """Restarts the script in a virtual environment with the peers, unless they are installed here."""
    try:
        import numpy, onnx, onnxruntime, openvino, onnx_ir  # noqa: F401, E401
        return
    except ImportError:
        pass
    folder = os.path.join(work, "venv")
    python, stamp = os.path.join(folder, "bin", "python"), os.path.join(folder, "installed")
    with open(REQUIREMENTS, encoding="utf-8") as f:
        want = f.read()
    if not os.path.exists(stamp) or open(stamp, encoding="utf-8").read() != want:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", REQUIREMENTS], check=True)
        with open(stamp, "w", encoding="utf-8") as f:
            f.write(want)
    if os.path.realpath(sys.prefix) == os.path.realpath(folder):
        sys.exit("compare_peers: %s lacks what it should have; remove it and try again" % folder)
    os.execv(python, [python, os.path.abspath(script)] + sys.argv[1:])


def find(names, args, zoo, derived):
    """{name: path}: models that exist already, can be fetched, or can be derived."""
    found = {}
    folders = args.models + [os.path.join(args.work, "zoo"), os.path.join(args.work, "derived")]
    for name in names:
        found[name] = next((p for d in folders for p in [os.path.join(d, name + ".onnx")] if os.path.exists(p)), None)
    missing = [n for n, p in found.items() if p is None]
    bases = sorted({derived[n] if n in derived else n for n in missing})
    base_at = {b: next((p for d in folders for p in [os.path.join(d, b + ".onnx")] if os.path.exists(p)), None) for b in bases}
    zoo_dir, derived_dir = folders[-2:]
    run = lambda *c: subprocess.run([sys.executable, *c], stdout=sys.stderr)  # noqa: E731
    fetch = [b for b in bases if base_at[b] is None]
    if fetch:
        run(os.path.join(HERE, "fetch_zoo.py"), "--cache", os.path.join(args.work, "packages"), zoo_dir, *fetch)
    os.makedirs(zoo_dir, exist_ok=True)
    for b, path in base_at.items():
        link = os.path.join(zoo_dir, b + ".onnx")
        if path is not None and not os.path.lexists(link):
            os.symlink(os.path.abspath(path), link)
    light = [n for n in missing if derived.get(n, "").startswith("light_")]
    for base in sorted({derived[n] for n in light}):
        forms = ",".join(sorted(n.rsplit("_", 1)[1] for n in light if derived[n] == base))
        run(os.path.join(HERE, "derive_light.py"), "--forms", forms, zoo_dir, derived_dir, base.removeprefix("light_"))
    others = [n for n in missing if n in derived and n not in light]
    if others:
        run(os.path.join(HERE, "derive_zoo.py"), zoo_dir, derived_dir, *others)
    for name in missing:
        found[name] = next((p for d in folders[-2:] for p in [os.path.join(d, name + ".onnx")] if os.path.exists(p)), None)
    return found


def arguments():
    ap = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    ap.add_argument("names", metavar="NAME", nargs="*")
    ap.add_argument("--mcc", default=os.path.join(ROOT, "target", "release", "mcc"))
    ap.add_argument("--cpu", default="native", help="for mcc (default: native)")
    ap.add_argument("--threads", default="1", help="comma-separated (default: 1)")
    ap.add_argument("--rounds", type=int, default=1000, help="maximum turns per engine (default: 1000)")
    ap.add_argument("--seconds", type=float, default=4, help="time per engine and model (default: 4; at least 3 turns)")
    ap.add_argument("--engines", default=",".join(ENGINES), help="comma-separated (default: all)")
    ap.add_argument("--precision", help="only models of this precision: fp32, int8, fp16, ...")
    ap.add_argument("--work", default=os.path.join(ROOT, "target", "peers"), help="for models, objects, the environment")
    ap.add_argument("--models", action="append", default=[], metavar="DIR", help="look here for NAME.onnx first")
    ap.add_argument("--out", metavar="PREFIX", help="write PREFIX.md and PREFIX.json (default: WORK/peers)")
    args = ap.parse_args()
    args.threads = [int(t) for t in args.threads.split(",")]
    args.engines = args.engines.split(",")
    if set(args.engines) - set(ENGINES):
        ap.error("engines are %s" % ", ".join(ENGINES))
    args.out = args.out or os.path.join(args.work, "peers")
    return args


def main():
    global np, make_inputs
    if sys.argv[1:2] == ["--child"]:
        import numpy as np
        from zoo_inputs import make_inputs
        print(json.dumps(time_in_turns(json.load(sys.stdin))))
        return 0
    args = arguments()
    own_environment(args.work)
    from fetch_zoo import ZOO
    with open(ZOO, encoding="utf-8") as f:
        listed = json.load(f)
    zoo = {m["name"]: m for m in listed["models"]}
    derived = {d["name"]: d["base"] for d in listed["derived"]}
    args.precisions = {n: precision(m["dtype"]) for n, m in zoo.items()}
    args.precisions.update({d["name"]: d["dtype"] for d in listed["derived"]})
    names = args.names or [n for n in zoo if not n.startswith("light_")] + list(derived)
    unknown = [n for n in names if n not in args.precisions]
    if unknown:
        print("compare_peers: not in zoo.json: %s" % ", ".join(unknown), file=sys.stderr)
        return 2
    names = [n for n in names if args.precision in (None, args.precisions[n])]
    args.objects = os.path.join(args.work, "objects")
    os.makedirs(args.objects, exist_ok=True)
    paths = find(names, args, zoo, derived)
    args.runtime = runtime_library(args.work) if max(args.threads) > 1 and "mcc" in args.engines else None
    rows, failed, limits = [], False, peaks(args)
    for name in names:
        if paths[name] is None:
            print("%s: not available" % name, file=sys.stderr)
            continue
        specs = zoo[derived.get(name, name)]["inputs"]
        for threads in args.threads:
            row = measure(name, paths[name], specs, threads, args)
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
            mine = row.get("mcc", {})
            limit = LIMIT["fp32" if row["precision"] in EXACT else "int8"]
            failed |= "error" in mine or mine.get("difference", 0) > limit
    table = markdown(rows, limits, args)
    with open(args.out + ".md", "w", encoding="utf-8") as f:
        f.write(table)
    with open(args.out + ".json", "w", encoding="utf-8") as f:
        json.dump({"peaks": limits, "rows": rows,
                   "groups": {t: {g: geometric([r["ratio"] for r in rs])
                                  for g, rs in groups([r for r in rows if r["threads"] == t]).items()} for t in args.threads}},
                  f, indent=1)
    print(table, end="")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
