"""Captchas of the PyPI package "captcha" read by ddddocr's recognizer, whose output are the best characters' indices."""
import ast
import random
import string

import captcha.image
import numpy as np
from PIL import Image

from task import Task

MODEL, SEED, CALIB, TEST, LENGTH = "ddddocr_common", 13, 128, 1500, 4
PACKAGE, VERSION = "ddddocr", "1.6.1"
# Without those that the package draws alike, as captchas for people leave them out.
CHARACTERS = "".join(c for c in string.digits + string.ascii_lowercase if c not in "01ilogq")
HEIGHT = 64


class Seeded(random.Random):
    """What the package takes from the module `secrets`, reproducible."""

    def randbelow(self, n):
        return self.randrange(n)

    def randbits(self, n):
        return self.getrandbits(n)


def prepared(image):
    """Height 64, grey values 0..1 (ddddocr's own preparation)."""
    image = image.resize((image.width * HEIGHT // image.height, HEIGHT), Image.Resampling.LANCZOS).convert("L")
    return np.asarray(image, np.float32)[None] / 255


def vocabulary(sources):
    tree = ast.parse(sources.member("pypi", PACKAGE, VERSION, "ddddocr/charsets.py").decode("utf-8"))
    return next(ast.literal_eval(n.value) for n in tree.body if n.targets[0].id == "CHARSET_BETA")


def make(sources):
    rng = Seeded(SEED)
    captcha.image.secrets = rng
    maker = captcha.image.ImageCaptcha()
    texts = ["".join(rng.choices(CHARACTERS, k=LENGTH)) for _ in range(CALIB + TEST)]
    images = np.stack([prepared(maker.generate_image(t)) for t in texts])
    return Task("captcha", "cer", "%s; images of the PyPI package captcha" % MODEL, sources.zoo(MODEL), {"input1": images[:CALIB]},
                {"input1": images[CALIB:]}, texts[CALIB:], "%d characters in %d words" % (LENGTH * TEST, TEST),
                "64 x 170, grey values 0..1", {"vocabulary": vocabulary(sources), "blank": 0, "case": "any"})
