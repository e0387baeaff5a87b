"""Sequences with labels: spoken vowels that come with the package aeon, or images row by row."""

import importlib.util
from pathlib import Path

import numpy as np

from lab import datasets, images

VOWELS = "japanese_vowels"
HELP = f"{VOWELS} (of the package aeon), or images row by row: digits, mnist, an .npz file, ..."


def load(dataset: str, samples: int | None = None, seed: int = 0) -> dict[str, np.ndarray]:
    """x_train, y_train, x_test, y_test; x is samples x steps x channels, float32.

    dataset: "japanese_vowels": 270 and 370 utterances by nine speakers, 7 to 29 steps of 12
        channels (Kudo et al., Pattern Recognition Letters 20, 1999). Each channel has mean 0 and
        deviation 1 over the steps of the training data; behind the end of a sequence are zeros,
        which a `Masking` layer leaves out. Else images, see `datasets.load`, whose rows are steps.
    samples, seed: as in `images.load`.

    Raises ImportError where the package aeon, whose files are read, is not there.
    """
    if dataset != VOWELS:
        arrays = images.load(dataset, samples, seed)
        return {n: a[..., 0] if n.startswith("x") else a for n, a in arrays.items()}
    return images.drawn(_vowels(), dataset, samples, seed)


def read(path: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """The sequences (steps x channels each) and labels 0, 1, ... of a .ts file.

    A line behind @data is a sequence: its channels, with colons between, and a label from 1 on.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    found, labels = [], []
    for line in lines[lines.index("@data") + 1 :]:
        *channels, label = line.split(":")
        found.append(np.array([channel.split(",") for channel in channels], "float32").T)
        labels.append(int(label) - 1)
    return found, np.array(labels, "int32")


def _vowels():
    # Only the files are read: aeon's own loader needs all that the package depends on.
    package = importlib.util.find_spec("aeon")
    if package is None:
        raise ImportError(
            f"{VOWELS}: its files come with the package aeon, which is not installed; "
            "pip install --no-deps aeon (nothing but its files is used)"
        )
    folder = Path(package.origin).parent / "datasets" / "data" / "JapaneseVowels"
    parts = {part: read(folder / f"JapaneseVowels_{part.upper()}.ts") for part in ("train", "test")}
    every = np.concatenate(parts["train"][0])
    mean, deviation = every.mean(axis=0), every.std(axis=0)
    longest = max(len(one) for found, _ in parts.values() for one in found)
    arrays = {}
    for part, (found, labels) in parts.items():
        x = np.zeros((len(found), longest, len(mean)), "float32")
        for row, one in zip(x, found, strict=True):
            row[: len(one)] = (one - mean) / deviation
        arrays |= {f"x_{part}": x, f"y_{part}": labels}
    return {name: arrays[name] for name in datasets.ARRAYS}
