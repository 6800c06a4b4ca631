"""Speech in noise, found by Silero's detector: sentences that espeak-ng says, in made noise of several kinds.

A sample is a clip, its frames the model's sequence. A frame of 32 ms is speech where the clean signal's energy says so.
"""
import io
import subprocess
import wave

import numpy as np
from scipy import signal

from makers import wordnet
from task import Task, debian

MODEL, SEED, CALIB, TEST = "silero_vad_16k_seq", 23, 32, 160
RATE, FRAME, CONTEXT, FRAMES = 16000, 512, 64, 160
VOICES = [v + kind for v in ("en-us", "en-gb", "en-gb-scotland", "de", "fr", "es", "it", "pl")
          for kind in ("", "+m3", "+m7", "+f2", "+f4")]
QUIET = 10 ** (-40 / 20)        # of a clip's loudest frame
PAUSE = 8                       # frames of silence within speech that still count as speech


def spoken(text, voice, rng):
    """espeak-ng's voice at the model's sampling rate."""
    command = ["espeak-ng", "--stdout", "-v", voice, "-s", str(rng.integers(130, 220)), "-p", str(rng.integers(30, 70)), text]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    with wave.open(io.BytesIO(out)) as w:
        rate, data = w.getframerate(), w.readframes(len(out))
    samples = np.frombuffer(data[:len(data) // 2 * 2], np.int16) / 32768
    return signal.resample_poly(samples, RATE, rate)


def clean(sentences, rng):
    """A clip of sentences with pauses between them."""
    clip, at = np.zeros(FRAMES * FRAME), int(rng.integers(0, RATE))
    while at < len(clip):
        said = spoken(sentences[rng.integers(len(sentences))], VOICES[rng.integers(len(VOICES))], rng)
        end = min(len(clip), at + len(said))
        clip[at:end] = said[:end - at]
        at = end + int(rng.integers(RATE // 2, 2 * RATE))
    return clip


def noise(rng):
    """White, pink or brown noise, a hum, or noise that swells."""
    n = FRAMES * FRAME
    kind = rng.integers(5)
    if kind == 3:
        t, base = np.arange(n) / RATE, rng.uniform(45, 130)
        return sum(np.sin(2 * np.pi * base * k * t + rng.uniform(0, 6)) / k for k in range(1, 9)) + 0.05 * rng.standard_normal(n)
    spectrum = np.fft.rfft(rng.standard_normal(n))
    a = np.fft.irfft(spectrum / np.maximum(1, np.arange(len(spectrum))) ** (0, 0.5, 1, 0, 0.5)[kind], n)
    return a * (1.2 + np.sin(2 * np.pi * np.arange(n) / RATE * rng.uniform(0.3, 2))) if kind == 4 else a


def speech(clip):
    """1 for each frame of speech."""
    energy = np.sqrt((clip.reshape(FRAMES, FRAME) ** 2).mean(1))
    loud = energy > QUIET * energy.max()
    at = np.flatnonzero(loud)
    for a, b in zip(at, at[1:]):
        if b - a <= PAUSE:
            loud[a:b] = True
    return loud.astype(np.int64)


def make(sources):
    debian({"/usr/bin/espeak-ng": "espeak-ng"})
    rng = np.random.default_rng(SEED)
    sentences = [gloss for _, _, gloss in wordnet.glosses() if 40 < len(gloss) < 160]
    clips, labels = [], []
    for _ in range(CALIB + TEST):
        clip = clean(sentences, rng)
        label = speech(clip)
        added = noise(rng)
        loudness = np.sqrt((clip.reshape(FRAMES, FRAME)[label == 1] ** 2).mean())
        added *= loudness / np.sqrt((added ** 2).mean()) * 10 ** (-rng.uniform(-5, 15) / 20)
        mixed = clip + added
        mixed = np.concatenate([np.zeros(CONTEXT), mixed * rng.uniform(0.1, 0.9) / np.abs(mixed).max()])
        clips.append(np.stack([mixed[k * FRAME:(k + 1) * FRAME + CONTEXT] for k in range(FRAMES)]).astype(np.float32))
        labels.append(label)
    state = np.zeros((len(clips), 1, 1, 128), np.float32)
    samples = {"input": np.stack(clips), "h": state, "c": state}
    return Task("vad", "auc", "%s; %s read by Debian's espeak-ng, in noise at -5 to 15 dB" % (MODEL, wordnet.MADE_OF),
                sources.zoo(MODEL), {k: a[:CALIB] for k, a in samples.items()}, {k: a[CALIB:] for k, a in samples.items()},
                np.stack(labels[CALIB:]), "%d frames in %d clips" % (TEST * FRAMES, TEST),
                "16 kHz, frames of 512 samples after 64 of the frame before", {"output": "speech_probs"})
