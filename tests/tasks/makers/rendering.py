"""Words as images: Debian's fonts, colours, blur, noise."""
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from task import debian

FONTS = {
    "fonts-dejavu-core": ("truetype/dejavu", ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif")),
    "fonts-liberation": ("truetype/liberation", ("LiberationSans-Regular", "LiberationSans-Italic", "LiberationSerif-Regular",
                                                 "LiberationSerif-Bold", "LiberationMono-Regular", "LiberationSansNarrow-Regular")),
    "fonts-freefont-ttf": ("truetype/freefont", ("FreeSans", "FreeSerif", "FreeSerifItalic")),
    "fonts-open-sans": ("truetype/open-sans", ("OpenSans-Regular", "OpenSans-Light", "OpenSans-ExtraBold")),
    "fonts-lato": ("truetype/lato", ("Lato-Regular", "Lato-Bold", "Lato-LightItalic")),
    "fonts-hack": ("truetype/hack", ("Hack-Regular", "Hack-Bold")),
}
MADE_OF = "Debian packages " + " ".join(FONTS)


def fonts():
    """Paths of the fonts' files."""
    found = ["/usr/share/fonts/%s/%s.ttf" % (folder, name) for folder, names in FONTS.values() for name in names]
    debian({"/usr/share/fonts/%s/%s.ttf" % (folder, names[0]): package for package, (folder, names) in FONTS.items()})
    return found


def colours(rng):
    """Paper and ink, far enough apart to be read."""
    paper = rng.integers(0, 256, 3)
    while True:
        ink = rng.integers(0, 256, 3)
        if abs(int(ink.mean()) - int(paper.mean())) > 70:
            return tuple(int(v) for v in paper), tuple(int(v) for v in ink)


def word_image(word, path, size, rng):
    """A word alone on paper: an RGB image."""
    font = ImageFont.truetype(path, size)
    left, top, right, bottom = font.getbbox(word)
    margin = [int(v) for v in rng.integers(2, 2 + max(2, size // 5), 4)]
    paper, ink = colours(rng)
    image = Image.new("RGB", (right - left + margin[0] + margin[1], bottom - top + margin[2] + margin[3]), paper)
    ImageDraw.Draw(image).text((margin[0] - left, margin[2] - top), word, ink, font)
    return image.rotate(rng.uniform(-2, 2), Image.Resampling.BICUBIC, fillcolor=paper)


def worn(image, rng, blur, noise):
    """The image a little out of focus and noisy, as an array of bytes."""
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, blur)))
    a = np.asarray(image, np.float32)
    a = a + rng.standard_normal(a.shape[:2] + (1,)) * rng.uniform(0, noise)
    return np.clip(np.rint(a), 0, 255).astype(np.uint8)
