"""Words on pages, found by PP-OCRv4's detector: rendered in Debian's fonts, each word far enough from the next to be a box alone."""
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from makers import rendering, wordnet
from task import Task

MODEL, SEED, CALIB, TEST, SIZE, MOST = "ppocrv4_det", 29, 32, 160, 480, 40
MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def page(words, fonts, rng):
    """An image of words in rows, and the words' boxes: left, top, right, bottom."""
    paper, ink = rendering.colours(rng)
    image, boxes = Image.new("RGB", (SIZE, SIZE), paper), []
    draw = ImageDraw.Draw(image)
    y = int(rng.integers(5, 30))
    while True:
        size = int(rng.integers(14, 34))
        x = int(rng.integers(5, 80))
        if y + 1.5 * size > SIZE:
            return image, boxes
        while len(boxes) < MOST:
            font = ImageFont.truetype(fonts[rng.integers(len(fonts))], size)
            word = words[rng.integers(len(words))]
            left, top, right, bottom = draw.textbbox((x, y), word, font)
            if right > SIZE - 5:
                break
            draw.text((x, y), word, ink, font)
            boxes.append((left, top, right, bottom))
            x = int(right + size * rng.uniform(2, 5))
        y += int(size * rng.uniform(1.8, 3))


def prepared(page):
    """Values with ImageNet's mean and deviation, channels first (PaddleOCR's NormalizeImage)."""
    return ((page.astype(np.float32) / 255 - MEAN) / DEVIATION).transpose(2, 0, 1)


def make(sources):
    rng = np.random.default_rng(SEED)
    fonts = rendering.fonts()
    words = [w for w in wordnet.words() if 4 <= len(w) <= 12]
    images, labels = [], np.full((CALIB + TEST, MOST, 4), -1, np.int64)
    for k in range(CALIB + TEST):
        image, boxes = page(words, fonts, rng)
        labels[k, :len(boxes)] = boxes
        images.append(prepared(rendering.worn(image, rng, 0.8, 20)))
    images = np.stack(images)
    made_of = "%s; words of the %s in fonts of the %s" % (MODEL, wordnet.MADE_OF, rendering.MADE_OF)
    return Task("ocr_det", "boxes", made_of, sources.zoo(MODEL), {"x": images[:CALIB]}, {"x": images[CALIB:]}, labels[CALIB:],
                "%d words on %d pages" % ((labels[CALIB:, :, 0] >= 0).sum(), TEST), "480 x 480, ImageNet's mean and deviation",
                {"threshold": 0.3, "least_score": 0.6, "unclip": 1.6, "iou": 0.5})
