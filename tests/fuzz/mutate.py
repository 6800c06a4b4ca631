#!/usr/bin/env python3
"""Structure-aware mutation of ONNX models: whatever the file, mcc ends with exit status 0 or 1 and says why.

usage: mutate.py MCC SEED... [--seed N] [--first I] [--count N] [--seconds S] [--jobs J] [--save DIR]

SEED is an .onnx file or a folder that is searched for them (ONNX's backend suite, as tests/tools/export_conformance.py
writes it, makes good small seeds). Mutant I of a --seed is always the same, so that --first I --count 1 makes it again.

A mutant fails when mcc is ended by a signal, exits with anything but 0 and 1, exits with 1 and says nothing, takes more
than --cpu-seconds of processor time (20) or three times that by the clock, or more than 2 GB and four times the file.
Failures are saved with their command and told once each kind. Exit status: 0 when there are none.
"""
import argparse
import collections
import concurrent.futures
import hashlib
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time

import numpy
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

MIN, MAX = -2 ** 63, 2 ** 63 - 1
INTS = [0, -1, 1, 2, 3, 7, -2, -7, 64, 1000, 2 ** 16, 2 ** 20, 2 ** 31 - 1, 2 ** 31, 2 ** 32, -2 ** 31, 2 ** 40, 2 ** 62,
        MIN, MIN + 1, MAX, MAX - 1]
FLOATS = [0.0, -0.0, -1.0, 1.0, 0.5, 1e-45, 3e38, -3e38, 1e9, 2.0 ** 31, float("inf"), float("-inf"), float("nan")]
TEXTS = ["", "x", "\0", "a" * 5000, "é\n", "..", "NOTSET", "SAME_UPPER", "linear", "reflect", "%s", "../../etc/passwd"]
TYPES = list(range(0, 28)) + [99, -1]
MEMORY, WITH_FILE = 2 << 30, 4
# Options for compiling a mutant; none twice as often as each of the others.
WAYS = [[], [], ["-O0"], ["--cpu", "x86-64-v2"], ["--cpu", "x86-64-v3"], ["--target", "aarch64-linux-gnu"],
        ["--cpu", "x86-64-v3", "--threads=4"], ["--opt-size"], ["--sparse", "force"], ["--weights", "separate"],
        ["--round-weights", "f16"]]


class Seeds:
    """The models that mutants are made from, and the names of their parts."""

    def __init__(self, paths):
        files = []
        for path in paths:
            if os.path.isdir(path):
                files += [os.path.join(d, f) for d, _, names in os.walk(path) for f in names if f.endswith(".onnx")]
            else:
                files.append(path)
        self.files = sorted(files)
        if not self.files:
            raise SystemExit("mutate.py: no models in " + " ".join(paths))
        self.cache = {}

    def load(self, path):
        if path not in self.cache:
            if len(self.cache) > 400:
                self.cache.clear()
            self.cache[path] = open(path, "rb").read()
        model = onnx.ModelProto()
        model.ParseFromString(self.cache[path])
        return model

    def pick(self, r):
        path = r.choice(self.files)
        return path, self.load(path)

    def data(self, path, n):
        """The data of input `n` in the model's test case."""
        file = os.path.join(os.path.dirname(path), "test_data_set_0", "input_%d.pb" % n)
        if not os.path.exists(file):
            return None
        tensor = TensorProto()
        try:
            with open(file, "rb") as f:
                tensor.ParseFromString(f.read())
            return tensor if tensor.data_type else None
        except Exception:  # a sequence or an optional value
            return None


def graphs(model):
    """Every graph of a model, the main one first, and bodies of functions."""
    found = []

    def walk(g):
        found.append(g)
        for n in g.node:
            for a in n.attribute:
                if a.HasField("g"):
                    walk(a.g)
                for inner in a.graphs:
                    walk(inner)

    walk(model.graph)
    return found + list(model.functions)


def nodes(model):
    return [n for g in graphs(model) for n in g.node]


def edges(model):
    names = {name for n in nodes(model) for name in list(n.input) + list(n.output)}
    names |= {i.name for i in model.graph.input} | {t.name for t in model.graph.initializer}
    return sorted(names)


def infos(model):
    return [v for g in graphs(model) if not isinstance(g, onnx.FunctionProto)
            for v in list(g.input) + list(g.output) + list(g.value_info)]


def tensors(model):
    found = [t for g in graphs(model) if not isinstance(g, onnx.FunctionProto) for t in g.initializer]
    return found + [a.t for n in nodes(model) for a in n.attribute if a.type == AttributeProto.TENSOR]


# Mutations: each changes a model in place, or leaves it unchanged if it does not apply.


def attribute_value(r, model, seeds):
    attributes = [a for n in nodes(model) for a in n.attribute]
    if attributes:
        hostile(r, r.choice(attributes))


def hostile(r, a):
    if r.random() < 0.1:
        a.type = r.choice(range(0, 15))
    elif a.type == AttributeProto.INT:
        a.i = r.choice(INTS)
    elif a.type == AttributeProto.FLOAT:
        a.f = r.choice(FLOATS)
    elif a.type == AttributeProto.STRING:
        a.s = r.choice(TEXTS).encode()
    elif a.type in (AttributeProto.INTS, AttributeProto.FLOATS):
        field, values = (a.ints, INTS) if a.type == AttributeProto.INTS else (a.floats, FLOATS)
        kind = r.randrange(5)
        if kind == 0:
            del field[:]
        elif kind == 1:
            field.append(r.choice(values))
        elif kind == 2 and field:
            field.pop()
        elif kind == 3:
            field.extend(list(field) * r.choice([1, 5, 100]))
        if field and kind > 2:
            field[r.randrange(len(field))] = r.choice(values)
    elif a.type == AttributeProto.TENSOR:
        tensor_data(r, a.t)
    elif a.type == AttributeProto.STRINGS:
        a.strings.append(r.choice(TEXTS).encode())


def attribute_set(r, model, seeds):
    ns = nodes(model)
    if not ns:
        return
    n = r.choice(ns)
    kind = r.randrange(4)
    if kind == 0 and n.attribute:
        del n.attribute[r.randrange(len(n.attribute))]
    elif kind == 1 and n.attribute:
        n.attribute.append(r.choice(n.attribute))
    else:
        # Attributes of the operator's schema.
        try:
            schema = onnx.defs.get_schema(n.op_type, domain=n.domain)
        except Exception:
            return
        if not schema.attributes:
            return
        name = r.choice(sorted(schema.attributes))
        a = n.attribute.add()
        a.name, a.type = name, int(schema.attributes[name].type.value)
        if a.type == AttributeProto.INTS:
            a.ints.extend(r.choice(INTS) for _ in range(r.randrange(5)))
        elif a.type == AttributeProto.FLOATS:
            a.floats.extend(r.choice(FLOATS) for _ in range(r.randrange(5)))
        elif a.type == AttributeProto.GRAPH:
            a.g.CopyFrom(seeds.pick(r)[1].graph)
        hostile(r, a)


def operands(r, model, seeds):
    ns = nodes(model)
    if not ns:
        return
    n = r.choice(ns)
    names = edges(model)
    field = n.output if r.random() < 0.15 else n.input
    kind = r.randrange(6)
    if kind == 0 and field:
        field.pop()
    elif kind == 1 and field:
        field.append(r.choice(field))
    elif kind == 2 and len(field) > 1:
        mixed = list(field)
        r.shuffle(mixed)
        del field[:]
        field.extend(mixed)
    elif kind == 3 and field:
        field[r.randrange(len(field))] = ""
    elif kind == 4 and field and names:
        field[r.randrange(len(field))] = r.choice(names)
    elif names:
        field.append(r.choice(names + [""]))


def extents(r, model, seeds):
    found = infos(model)
    if not found:
        return
    ty = r.choice(found).type
    while ty.HasField("sequence_type") or ty.HasField("optional_type"):
        ty = ty.sequence_type.elem_type if ty.HasField("sequence_type") else ty.optional_type.elem_type
    if r.random() < 0.1:
        ty.tensor_type.elem_type = r.choice(TYPES)
    shape = ty.tensor_type.shape
    kind = r.randrange(6)
    if kind == 0:
        if shape.dim:
            del shape.dim[r.randrange(len(shape.dim))]
    elif kind == 1:
        shape.dim.add().dim_value = r.choice([1, 2, 3, 0, 2 ** 20, 2 ** 62])
    elif kind == 2 and shape.dim:
        r.choice(shape.dim).dim_param = r.choice(["n", "m", "N", "x[0]", "batch size", "-1", "?"])
    elif kind == 3:
        ty.Clear() if r.random() < 0.2 else ty.tensor_type.ClearField("shape")
    elif shape.dim:
        r.choice(shape.dim).dim_value = r.choice(INTS)


def symbolic(r, model, seeds):
    for v in model.graph.input:
        for d in v.type.tensor_type.shape.dim:
            if r.random() < 0.5:
                d.dim_param = "d%d" % d.dim_value if r.random() < 0.7 else r.choice("abc")
    del model.graph.value_info[:]
    for v in model.graph.output:
        v.type.tensor_type.ClearField("shape")


def element_types(r, model, seeds):
    found = infos(model)
    old, new = r.choice([1, 1, 7, 6, 3, 2, 9]), r.choice(TYPES)
    everywhere = r.random() < 0.5
    for v in found if everywhere or not found else [r.choice(found)]:
        if not everywhere or v.type.tensor_type.elem_type == old:
            v.type.tensor_type.elem_type = new
    if everywhere:
        for t in tensors(model):
            if t.data_type == old:
                t.data_type = new


def tensor(r, model, seeds):
    found = tensors(model)
    if found:
        tensor_data(r, r.choice(found))


def tensor_data(r, t):
    kind = r.randrange(10)
    if kind < 4:
        # Other values with the same shape.
        try:
            array = numpy_helper.to_array(t).copy()
        except Exception:
            return
        if array.size and array.dtype.kind in "iuf":
            values = INTS if array.dtype.kind in "iu" else FLOATS
            value = r.choice(values)
            with numpy.errstate(all="ignore"):
                if array.dtype.kind in "iu":
                    low, high = numpy.iinfo(array.dtype).min, numpy.iinfo(array.dtype).max
                    value = min(max(value, low), high)
                if r.random() < 0.3:
                    array[...] = value
                else:
                    array.flat[r.randrange(array.size)] = value
            name = t.name
            t.CopyFrom(numpy_helper.from_array(array, name))
    elif kind == 4:
        t.raw_data = t.raw_data[:r.randrange(len(t.raw_data) + 1)] if r.random() < 0.5 else t.raw_data + b"\x01" * 5
    elif kind == 5 and t.dims:
        t.dims[r.randrange(len(t.dims))] = r.choice(INTS)
    elif kind == 6:
        t.dims.append(r.choice([1, 1, 2, 0, MAX])) if r.random() < 0.5 or not t.dims else t.dims.pop()
    elif kind == 7:
        t.data_type = r.choice(TYPES)
    elif kind == 8:
        t.data_location = TensorProto.EXTERNAL
        for key, value in (("location", r.choice(["weights", "/dev/zero", "/etc/passwd", "..", ".", "", "a\0b", "x" * 300])),
                           ("offset", str(r.choice(INTS))), ("length", str(r.choice(INTS)))):
            if r.random() < 0.8:
                t.external_data.add(key=key, value=value)
    else:
        t.ClearField("raw_data")


def freeze(r, model, seeds, path=None):
    """Turns an input into a constant: if it decides shapes, it does so at compile time then."""
    g = model.graph
    given = {t.name for t in g.initializer}
    for n, v in enumerate(g.input):
        if v.name in given or r.random() < 0.5:
            continue
        t = seeds.data(path, n) if path else None
        if t is None:
            dims = [d.dim_value for d in v.type.tensor_type.shape.dim]
            count = int(numpy.prod(dims, dtype=object)) if dims else 1
            kind = v.type.tensor_type.elem_type
            if not 0 <= count <= 10000 or kind not in (1, 6, 7, 9):
                continue
            values = [r.choice(FLOATS if kind == 1 else [0, 1, -1, 2, 3, 5]) for _ in range(count)]
            try:
                t = helper.make_tensor(v.name, kind, dims, values)
            except Exception:
                continue
        t.name = v.name
        g.initializer.append(t)
        if r.random() < 0.4:
            tensor_data(r, g.initializer[-1])
            g.initializer[-1].name = v.name


def thaw(r, model, seeds):
    """Turns a constant into an input."""
    g = model.graph
    if g.initializer:
        i = r.randrange(len(g.initializer))
        t = g.initializer[i]
        if t.name not in {v.name for v in g.input}:
            g.input.append(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)))
        del g.initializer[i]


def rename(r, model, seeds):
    names = edges(model)
    kind = r.randrange(4)
    if kind == 0 and nodes(model):
        r.choice(nodes(model)).name = r.choice(TEXTS + names)
    elif kind == 1 and infos(model):
        r.choice(infos(model)).name = r.choice(names + TEXTS)
    elif names:
        # Renames an edge to another one where it is produced: duplicates and cycles.
        old, new = r.choice(names), r.choice(names + TEXTS)
        for n in nodes(model):
            for field in (n.output,) if kind == 2 else (n.output, n.input):
                for i, name in enumerate(field):
                    if name == old:
                        field[i] = new


def operator(r, model, seeds):
    ns = nodes(model)
    if not ns:
        return
    n = r.choice(ns)
    other = nodes(seeds.pick(r)[1])
    if not other:
        return
    other = r.choice(other)
    n.op_type, n.domain = other.op_type, other.domain
    if r.random() < 0.5:
        del n.attribute[:]
        n.attribute.extend(other.attribute)
    domains(model)


def domains(model):
    known = {o.domain for o in model.opset_import}
    for domain in {n.domain for n in nodes(model)} - known:
        model.opset_import.add(domain=domain, version=1)


def structure(r, model, seeds):
    g = r.choice(graphs(model))
    kind = r.randrange(6)
    if not g.node:
        return
    i = r.randrange(len(g.node))
    if kind == 0:
        del g.node[i]
    elif kind == 1:
        g.node.append(g.node[i])
    elif kind == 2:
        mixed = list(g.node)
        r.shuffle(mixed)
        del g.node[:]
        g.node.extend(mixed)
    elif kind == 3 and len(g.output):
        del g.output[r.randrange(len(g.output))]
    elif kind == 4 and not isinstance(g, onnx.FunctionProto):
        g.output.add().name = r.choice(edges(model))
    elif not isinstance(g, onnx.FunctionProto) and g.input:
        del g.input[r.randrange(len(g.input))]


def graft(r, model, seeds):
    """Adds nodes of another model, fed by edges of this one, possibly within a subgraph or a function."""
    other = seeds.pick(r)[1]
    g = model.graph
    names = edges(model)
    if not other.graph.node or not names:
        return
    tag = "g%d_" % r.randrange(1000)
    inner = {o for n in other.graph.node for o in n.output}
    taken = {v.name: r.choice(names) for v in other.graph.input}
    added = []
    for n in list(other.graph.node)[:20]:
        n = n.__deepcopy__()
        for i, name in enumerate(n.input):
            n.input[i] = tag + name if name in inner else taken.get(name, name)
        for i, name in enumerate(n.output):
            n.output[i] = tag + name if name else ""
        added.append(n)
    for t in other.graph.initializer:
        taken[t.name] = t.name
        g.initializer.append(t)
    result = next((o for o in reversed(added[-1].output) if o), None)
    if result is None:
        return
    kind = r.randrange(4)
    if kind == 0:
        body = onnx.GraphProto(name="b", node=added)
        body.output.add().name = result
        g.node.append(helper.make_node("If", [r.choice(names)], [tag + "out"], then_branch=body, else_branch=body))
    elif kind == 1:
        body = onnx.GraphProto(name="b", node=added)
        for name in ("i_" + tag, "c_" + tag):
            body.input.add().name = name
        body.output.add().name = "c_" + tag
        body.output.add().name = result
        g.initializer.append(helper.make_tensor("n_" + tag, 7, [], [r.choice([0, 1, 2, 100, 5000, MAX])]))
        g.node.append(helper.make_node("Loop", ["n_" + tag, ""], [tag + "out"], body=body))
    elif kind == 2:
        f = model.functions.add(name="F" + tag, domain="f")
        f.input.extend(sorted(set(taken.values())))
        f.output.append(result)
        f.node.extend(added)
        f.opset_import.extend(model.opset_import)
        if r.random() < 0.3:
            f.node.append(helper.make_node("F" + tag, list(f.input), [tag + "again"], domain="f"))
        if r.random() < 0.3:
            # Functions that each call the previous one twice.
            for level in range(r.choice([3, 12, 40])):
                last, f = f, model.functions.add(name="F%s%d" % (tag, level), domain="f")
                f.input.extend(last.input)
                f.output.append("o2")
                f.opset_import.extend(model.opset_import)
                for o in ("o1", "o2"):
                    f.node.append(helper.make_node(last.name, list(last.input), [o], domain="f"))
        g.node.append(helper.make_node(f.name, list(f.input), [tag + "out"], domain="f"))
    else:
        g.node.extend(added)
        names = edges(model)
        g.node.append(helper.make_node("Identity", [result], [tag + "out"]))
    for o in other.opset_import:
        if o.domain not in {p.domain for p in model.opset_import}:
            model.opset_import.append(o)
    domains(model)
    g.output.add().name = tag + "out"


def chain(r, model, seeds):
    """Inserts operators that multiply dimensions or elements into an edge."""
    names = edges(model)
    if not names:
        return
    name, g, tag = r.choice(names), model.graph, "c%d_" % r.randrange(1000)
    count = r.choice([2, 5, 20, 60, 300])
    kind = r.choice(["Shape", "Expand", "Tile", "Add", "Concat", "Sequence"])
    if kind == "Shape":
        g.node.append(helper.make_node("Shape", [name], [tag + "0"]))
        for i in range(count):
            g.node.append(helper.make_node(r.choice(["Mul", "Add", "Div", "Mod", "Sub", "Min"]), [tag + str(i)] * 2, [tag + str(i + 1)]))
        g.node.append(helper.make_node("ConstantOfShape", [tag + str(count)], [tag + "out"]))
    elif kind == "Sequence":
        g.node.append(helper.make_node("SplitToSequence", [name], [tag + "0"]))
        g.node.append(helper.make_node("ConcatFromSequence", [tag + "0"], [tag + "out"], axis=0))
    else:
        extent = r.choice([2, 3, 2 ** 10, 2 ** 20, 2 ** 40])
        g.initializer.append(numpy_helper.from_array(numpy.full(r.choice([1, 2, 4]), extent), tag + "r"))
        operands = {"Expand": lambda x: [x, tag + "r"], "Tile": lambda x: [x, tag + "r"],
                    "Add": lambda x: [x, x], "Concat": lambda x: [x, x]}[kind]
        last = name
        for i in range(min(count, 60)):
            n = helper.make_node(kind, operands(last), [tag + str(i)])
            if kind == "Concat":
                n.attribute.append(helper.make_attribute("axis", 0))
            g.node.append(n)
            last = tag + str(i)
        g.node.append(helper.make_node("Identity", [last], [tag + "out"]))
    g.output.add().name = tag + "out"


def versions(r, model, seeds):
    if model.opset_import:
        r.choice(model.opset_import).version = r.choice([1, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 18, 20, 21, 23, 24,
                                                         26, 0, -1, MAX])


MUTATIONS = [(attribute_value, 6), (attribute_set, 3), (operands, 5), (extents, 6), (symbolic, 3), (element_types, 2),
             (tensor, 5), (freeze, 4), (thaw, 1), (rename, 2), (operator, 4), (structure, 2), (graft, 3), (chain, 1),
             (versions, 2)]


def flip(r, data):
    """Changes, inserts, removes or truncates bytes."""
    data = bytearray(data)
    for _ in range(r.choice([1, 1, 2, 8])):
        if not data:
            break
        # Most of a large file is weights; structure is at the end as often as at the beginning.
        at = min(r.randrange(len(data)), r.choice([len(data), 400])) if r.random() < 0.5 else -1 - r.randrange(min(len(data), 2000))
        kind = r.randrange(4)
        if kind == 0:
            data[at] ^= 1 << r.randrange(8)
        elif kind == 1:
            data[at] = r.choice([0, 1, 0x7f, 0x80, 0xff])
        elif kind == 2:
            data[at:at] = bytes(r.randrange(256) for _ in range(r.choice([1, 4])))
        elif r.random() < 0.2:
            del data[at:]
        else:
            del data[at]
    return bytes(data)


def make(seeds, seed, index):
    """Mutant `index`: its bytes, its options, and the mutations that made it."""
    r = random.Random("%d/%d" % (seed, index))
    path, model = seeds.pick(r)
    story = ["/".join(path.split(os.sep)[-2:])]
    if r.random() < 0.6:
        freeze(r, model, seeds, path)
        story.append("freeze")
    functions, weights = zip(*MUTATIONS)
    for f in r.choices(functions, weights, k=min(1 + int(r.expovariate(0.7)), 6)):
        try:
            f(r, model, seeds)
            story.append(f.__name__)
        except (ValueError, TypeError, AttributeError, OverflowError) as e:
            story.append("%s (no: %s)" % (f.__name__, str(e)[:60]))
    data = model.SerializeToString()
    if r.random() < 0.15:
        data = flip(r, data)
        story.append("flip")
    return data, r.choice(WAYS), story


def run(command, cpu_seconds, memory):
    """A child's exit code, stderr, processor seconds and largest memory; the code is negative for a signal."""

    def limit():
        # More address space is reserved than used; the memory used is measured afterwards.
        resource.setrlimit(resource.RLIMIT_AS, (memory + (2 << 30),) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_seconds) + 1,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, preexec_fn=limit)
        timer = threading.Timer(3 * cpu_seconds, child.kill)
        timer.start()
        _, status, usage = os.wait4(child.pid, 0)
        timer.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        text = errors.read(20000).decode(errors="replace")
    return child.returncode, text, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def verdict(code, text, seconds, memory, options, size):
    """The fault, as a line that is the same for the same fault, or None."""
    if seconds > options.cpu_seconds or code == -9 and "memory allocation" not in text:
        return "more than %d s: %s" % (options.cpu_seconds, "killed" if code < 0 else "exit %d" % code)
    if code not in (0, 1):
        place = re.search(r"panicked at ([^\n]*):\n([^\n]*)", text)
        message = place.group(1) + " " + place.group(2) if place else text.strip().split("\n")[0]
        return "%s %s" % ("exit %d:" % code if code > 0 else "signal %d:" % -code, re.sub(r"\d{3,}|\"[^\"]*\"", "_", message)[:160])
    if memory > MEMORY + WITH_FILE * size:
        return "more than 2 GB and 4 times the file"
    if code == 1 and not text.startswith("mcc: "):
        return "exit 1 without a message: " + text[:80]
    return None


def examine(index, seeds, options, folder):
    data, way, story = make(seeds, options.seed, index)
    stem = os.path.join(folder, str(index))
    with open(stem + ".onnx", "wb") as f:
        f.write(data)
    command = [options.mcc, stem + ".onnx", "-o", stem + ".o", "--header", stem + ".h"] + way
    code, text, seconds, memory = run(command, options.cpu_seconds, MEMORY + WITH_FILE * len(data))
    wrong = verdict(code, text, seconds, memory, options, len(data))
    for end in (".onnx", ".o", ".h", ".weights"):
        if os.path.exists(stem + end):
            os.remove(stem + end)
    return index, data, way, story, code, wrong, text, seconds


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("mcc")
    p.add_argument("seeds", nargs="+", metavar="SEED")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--first", type=int, default=0)
    p.add_argument("--count", type=int, default=1 << 40)
    p.add_argument("--seconds", type=float, default=float("inf"))
    p.add_argument("--jobs", type=int, default=1)
    p.add_argument("--save", default="target/tests/mutants")
    p.add_argument("--cpu-seconds", type=float, default=20.0)
    options = p.parse_args()
    options.mcc = os.path.abspath(options.mcc)
    seeds = Seeds(options.seeds)
    os.makedirs(options.save, exist_ok=True)
    codes, kinds, slowest = collections.Counter(), collections.Counter(), (0.0, 0)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        waiting, index, last = set(), options.first, options.first + options.count
        while waiting or index < last and time.monotonic() - start < options.seconds:
            while len(waiting) < options.jobs and index < last and time.monotonic() - start < options.seconds:
                waiting.add(pool.submit(examine, index, seeds, options, folder))
                index += 1
            done, waiting = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
            for n, data, way, story, code, wrong, text, seconds in (d.result() for d in done):
                codes[code] += 1
                slowest = max(slowest, (seconds, n))
                if wrong is None:
                    continue
                kinds[wrong] += 1
                if kinds[wrong] <= 3:
                    name = "%d_%d_%s" % (options.seed, n, hashlib.sha1(wrong.encode()).hexdigest()[:6])
                    with open(os.path.join(options.save, name + ".onnx"), "wb") as f:
                        f.write(data)
                    print("FAILED %s.onnx %s\n  %s\n  %s" % (name, " ".join(way), wrong, " > ".join(story)), flush=True)
    total = sum(codes.values())
    print("%d mutants of %d models in %d s: %d compiled, %d refused; the slowest, %d, took %.1f s"
          % (total, len(seeds.files), time.monotonic() - start, codes[0], codes[1], slowest[1], slowest[0]))
    for wrong, count in kinds.most_common():
        print("%6d  %s" % (count, wrong))
    failed = sum(kinds.values())
    print("%d passed, %d failed" % (total - failed, failed))
    return 1 if failed or not total else 0


if __name__ == "__main__":
    sys.exit(main())
