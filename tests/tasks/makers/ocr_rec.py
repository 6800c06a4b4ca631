"""Single words read by PP-OCRv4's recognizer: rendered in Debian's fonts, 48 x 320 as its own pipeline prepares them."""
import math

import numpy as np
import onnx
from PIL import Image

from makers import rendering, wordnet
from task import Task

MODEL, SEED, CALIB, TEST = "ppocrv4_rec", 11, 128, 1200
HEIGHT, WIDTH = 48, 320


def prepared(image):
    """Height 48, its own width up to 320, values -1..1 in the order B G R, zeros to the right (PaddleOCR's resize_norm_img)."""
    width = min(WIDTH, math.ceil(HEIGHT * image.shape[1] / image.shape[0]))
    small = Image.fromarray(image).resize((width, HEIGHT), Image.Resampling.BILINEAR)
    a = np.zeros((3, HEIGHT, WIDTH), np.float32)
    a[:, :, :width] = (np.asarray(small, np.float32)[:, :, ::-1].transpose(2, 0, 1) / 255 - 0.5) / 0.5
    return a


def text(word, rng):
    """The word as it stands, capitalized, in capitals, or a number."""
    kind = rng.random()
    if kind < 0.15:
        return str(rng.integers(10 ** rng.integers(3, 9)))
    return word.upper() if kind < 0.3 else word.capitalize() if kind < 0.5 else word


def vocabulary(model):
    """The characters of the outputs: a blank first, those of the model's metadata, and a space last."""
    characters = next(p.value for p in onnx.load_from_string(model).metadata_props if p.key == "character")
    return [""] + characters.split("\n") + [" "]


def make(sources):
    rng = np.random.default_rng(SEED)
    model, fonts = sources.zoo(MODEL), rendering.fonts()
    words = [w for w in wordnet.words() if 3 <= len(w) <= 14]
    take = rng.choice(len(words), CALIB + TEST, replace=False)
    texts = [text(words[k], rng) for k in take]
    images = np.stack([prepared(rendering.worn(rendering.word_image(t, fonts[rng.integers(len(fonts))], int(rng.integers(18, 56)), rng),
                                               rng, 1.2, 25)) for t in texts])
    made_of = "%s; words of the %s in fonts of the %s" % (MODEL, wordnet.MADE_OF, rendering.MADE_OF)
    return Task("ocr_rec", "cer", made_of, model, {"x": images[:CALIB]}, {"x": images[CALIB:]}, texts[CALIB:],
                "%d characters in %d words" % (sum(map(len, texts[CALIB:])), TEST),
                "48 x 320, B G R, -1..1, zeros right of the word", {"vocabulary": vocabulary(model), "blank": 0})
