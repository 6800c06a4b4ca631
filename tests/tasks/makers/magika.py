"""Files of known type told by Google's Magika: files of pinned npm and PyPI packages, whose names' endings say what they are."""
import json

import numpy as np

from task import Task

MODEL, SEED, CALIB, MOST = "magika_v3_3", 19, 256, 280      # MOST files of a type
CONFIG = ("pypi", "magika", "1.0.3", "magika/models/standard_v3_3/config.min.json")
SIZE, BLOCK, PADDING, LEAST = 1024, 4096, 256, 64
PACKAGES = (
    ("npm", "react-native", "0.76.9"), ("npm", "three", "0.170.0"), ("npm", "bootstrap", "5.3.3"), ("npm", "typescript", "5.6.3"),
    ("npm", "@fortawesome/fontawesome-free", "6.6.0"), ("npm", "sql.js", "1.12.0"), ("npm", "highlight.js", "11.10.0"),
    ("npm", "vue", "3.5.12"), ("npm", "mathjax-full", "3.2.2"), ("npm", "@types/node", "22.9.0"), ("npm", "npm", "10.9.0"),
    ("npm", "cordova-android", "13.0.0"), ("pypi", "django", "5.1.3"), ("pypi", "numpy", "2.4.6"), ("pypi", "scikit-learn", "1.9.1"),
    ("pypi", "scipy", "1.17.1"), ("pypi", "pandas", "2.2.3"), ("pypi", "ansible", "10.6.0"), ("pypi", "matplotlib", "3.9.2"),
    ("pypi", "statsmodels", "0.14.4"), ("pypi", "sphinx", "8.1.3"), ("pypi", "jupyterlab", "4.3.0"), ("pypi", "nltk", "3.9.1"),
)
# Magika's label: the endings of its files. Left out: endings that stand for several types (.h, .m, .tex, .txt).
ENDINGS = {
    "batch": "bat cmd", "cpp": "cpp cc", "cs": "cs", "css": "css", "csv": "csv", "elf": "so", "fortran": "f90", "go": "go",
    "gradle": "gradle kts", "groovy": "groovy", "gzip": "gz", "html": "html", "ini": "ini", "java": "java", "javascript": "js mjs cjs",
    "jinja": "j2", "jpeg": "jpg", "json": "json", "kotlin": "kt", "markdown": "md", "npy": "npy", "npz": "npz",
    "objectivec": "mm", "pdf": "pdf", "pebin": "dll exe", "png": "png", "po": "po", "powershell": "ps1 psm1",
    "python": "py pyi", "rst": "rst", "ruby": "rb", "scss": "scss", "shell": "sh", "svg": "svg", "toml": "toml", "ttf": "ttf",
    "typescript": "ts mts cts", "wasm": "wasm", "wav": "wav", "woff": "woff", "woff2": "woff2", "xml": "xml",
    "yaml": "yml yaml", "zip": "zip",
}


def prepared(content):
    """The first and the last bytes without the white space around them (magika.py, _extract_features_from_seekable)."""
    first, last = content[:BLOCK].lstrip()[:SIZE], content[-BLOCK:].rstrip()[-SIZE:]
    a = np.full(2 * SIZE, PADDING, np.int32)
    a[:len(first)] = np.frombuffer(first, np.uint8)
    a[2 * SIZE - len(last):] = np.frombuffer(last, np.uint8)
    return a


def files(sources):
    """{label: what the model sees of each file, in the packages' order}"""
    labels = {ending: label for label, endings in ENDINGS.items() for ending in endings.split()}

    def label(path):
        if "/templates/" in path:       # of Django, Jinja or Go, whatever their names' endings
            return None
        return labels.get(path.rpartition("/")[2].rpartition(".")[2].lower())

    found = {}
    for package in PACKAGES:
        for path, content in sources.members(*package, label):
            if len(content.strip()) >= LEAST:
                found.setdefault(label(path), []).append(prepared(content).tobytes())
    return found


def make(sources):
    rng = np.random.default_rng(SEED)
    names = json.loads(sources.member(*CONFIG))["target_labels_space"]
    samples = {}            # what the model sees of a file: its label
    for label, seen in sorted(files(sources).items()):
        distinct = list(dict.fromkeys(seen))
        take = rng.permutation(len(distinct))[:MOST]
        samples.update((distinct[k], names.index(label)) for k in take)
    seen, labels = np.frombuffer(b"".join(samples), np.int32).reshape(-1, 2 * SIZE), np.array(list(samples.values()), np.int64)
    order = rng.permutation(len(labels))
    seen, labels = seen[order], labels[order]
    return Task("magika", "top1", "%s; files of %s" % (MODEL, ", ".join("%s %s" % p[1:] for p in PACKAGES)), sources.zoo(MODEL),
                {"bytes": seen[:CALIB]}, {"bytes": seen[CALIB:]}, labels[CALIB:],
                "%d files of %d types" % (len(labels) - CALIB, len(set(labels.tolist()))), "first and last 1024 bytes, padded with 256")
