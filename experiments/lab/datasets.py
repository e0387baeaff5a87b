"""The data of the experiments: digits, MNIST, Fashion-MNIST, or one's own .npz file."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from activation_pruning.support import files

NAMES = ("digits", "mnist", "fashion_mnist")
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
DATA_FOLDER = "ACTIVATION_PRUNING_DATA"


@dataclass(frozen=True)
class Data:
    """Flat pixels in [0, 1] (float32, samples x inputs) and labels 0 .. classes-1 (int32)."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: int

    @property
    def inputs(self) -> int:
        """Pixels per sample."""
        return self.x_train.shape[1]


def load(name: str) -> dict[str, np.ndarray]:
    """Load a data set: x_train, y_train, x_test, y_test, checked, pixels flat and in [0, 1].

    name: "digits", "mnist", "fashion_mnist", or the path of an .npz file of these arrays. For
        work without a network the environment variable ACTIVATION_PRUNING_DATA names a folder with
        mnist.npz and fashion_mnist.npz; without a file there, keras.datasets downloads them.

    The largest pixel of x_train, where it is above 1, becomes 1. Raises ValueError for an unknown
    name, and for a file that cannot serve: it names file, array, what was found and is expected.
    """
    if name == "digits":
        return _prepared(_digits(), "digits")
    if name in NAMES:
        folder = os.environ.get(DATA_FOLDER)
        file = Path(folder, f"{name}.npz") if folder else None
        if file is not None and file.is_file():
            return _prepared(_read(file), str(file))
        return _prepared(_downloaded(name), name)
    if Path(name).is_file():
        return _prepared(_read(Path(name)), name)
    # Not on top: the tfmot peer loads data in a process that knows legacy Keras only.
    from activation_pruning.support.names import did_you_mean

    hint = did_you_mean(name, NAMES, opening=" Did")
    raise ValueError(
        f"dataset={name!r} is neither a known data set ({', '.join(NAMES)}) nor an existing .npz "
        f"file with the arrays {', '.join(ARRAYS)}.{hint}"
    )


def split(arrays: dict[str, np.ndarray], seed: int | None, share: float = 0.1) -> Data:
    """Set a share of the training data aside for validation: floor(share * n + 0.5) samples.

    arrays: what load() returned. seed: the same seed gives the same split; None takes the first
        samples.
    share: of the training data, in (0, 1); at least one sample stays on each side.
    """
    samples = len(arrays["x_train"])
    aside = min(max(int(share * samples + 0.5), 1), samples - 1)
    order = np.arange(samples)
    if seed is not None:
        order = np.random.default_rng(seed).permutation(samples)
    chosen, kept = np.sort(order[:aside]), np.sort(order[aside:])
    return Data(
        x_train=arrays["x_train"][kept],
        y_train=arrays["y_train"][kept],
        x_validation=arrays["x_train"][chosen],
        y_validation=arrays["y_train"][chosen],
        x_test=arrays["x_test"],
        y_test=arrays["y_test"],
        classes=int(arrays["y_train"].max()) + 1,
    )


def seed_of_split(settings: dict) -> int | None:
    """The seed of a run's split; None in the paper's protocol, where it is the same for all."""
    return None if settings.get("protocol") == "paper" else settings["seed"]


def fingerprint(arrays: dict[str, np.ndarray]) -> str:
    """Tell data sets apart by their content: 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in ARRAYS:
        digest.update(f"{name} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()[:12]


def _digits() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    # One fixed test set for all seeds: they vary the training, not the question that is asked.
    parts = train_test_split(pixels, labels, test_size=0.2, stratify=labels, random_state=0)
    return dict(zip(("x_train", "x_test", "y_train", "y_test"), parts, strict=True))


def _downloaded(name: str) -> dict[str, np.ndarray]:
    import keras

    (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    return dict(zip(ARRAYS, (x_train, y_train, x_test, y_test), strict=True))


def _read(file: Path) -> dict[str, np.ndarray]:
    try:
        stored = files.arrays(file)
    except ValueError as error:
        raise ValueError(
            f"{file}: not a readable .npz file ({error}). Expected: an .npz file of plain number "
            "arrays, written with numpy.savez."
        ) from error
    missing = [name for name in ARRAYS if name not in stored]
    if missing:
        raise ValueError(
            f"{file}: no array {', '.join(missing)}; it holds {', '.join(stored) or 'none'}. "
            f"Expected: {', '.join(ARRAYS)}."
        )
    return {name: stored[name] for name in ARRAYS}


def _prepared(arrays: dict[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    labels = {part: _labels(arrays, part, source) for part in ("train", "test")}
    pixels = {part: _pixels(arrays, part, source) for part in ("train", "test")}
    for part in ("train", "test"):
        found, expected = len(labels[part]), len(pixels[part])
        if found != expected:
            _refuse(source, f"y_{part}", f"{found} labels", f"{expected}, one per x_{part} sample")
    if pixels["train"].shape[1:] != pixels["test"].shape[1:]:
        found, expected = pixels["test"].shape[1:], pixels["train"].shape[1:]
        _refuse(source, "x_test", f"samples of shape {found}", f"{expected}, as in x_train")
    classes = int(labels["train"].max()) + 1
    if len(labels["train"]) < 2 or classes < 2:
        found = f"{len(labels['train'])} samples, {classes} class(es)"
        _refuse(source, "y_train", found, "at least 2 samples and 2 classes")
    if labels["test"].max() >= classes:
        found = f"label {labels['test'].max()}"
        _refuse(source, "y_test", found, f"0 to {classes - 1}, as trained")
    scale = max(float(pixels["train"].max()), 1.0)
    return {
        f"x_{part}": (pixels[part].reshape(len(pixels[part]), -1) / scale).astype("float32")
        for part in pixels
    } | {f"y_{part}": labels[part].astype("int32") for part in labels}


def _labels(arrays: dict[str, np.ndarray], part: str, source: str) -> np.ndarray:
    name, labels = f"y_{part}", np.asarray(arrays[f"y_{part}"])
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not len(labels):
        _refuse(source, name, f"shape {labels.shape}", "(samples,), with at least one sample")
    if labels.dtype.kind not in "iu":
        _refuse(source, name, f"dtype {labels.dtype}", "integers, 0 to classes-1")
    if labels.min() < 0:
        _refuse(source, name, f"label {labels.min()}", "integers, 0 to classes-1")
    return labels


def _pixels(arrays: dict[str, np.ndarray], part: str, source: str) -> np.ndarray:
    name, pixels = f"x_{part}", np.asarray(arrays[f"x_{part}"])
    if pixels.ndim < 2 or not pixels.size:
        expected = "(samples, height, width) or (samples, inputs), none of them 0"
        _refuse(source, name, f"shape {pixels.shape}", expected)
    if pixels.dtype.kind not in "iufb":
        _refuse(source, name, f"dtype {pixels.dtype}", "numbers")
    if not np.isfinite(pixels).all():
        _refuse(source, name, "NaN or infinite values", "finite numbers, 0 or more")
    if pixels.min() < 0:
        _refuse(source, name, f"the value {pixels.min()}", "0 or more, for example 0 to 255")
    return pixels


def _refuse(source: str, array: str, found: str, expected: str) -> None:
    raise ValueError(f"{source}: {array} has {found}; expected: {expected}.")
