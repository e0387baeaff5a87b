"""Damaged files of every kind that is read: refused by name, or read with the right content.

A share of each kind in every run; `pytest -m slow tests/test_damaged_files.py` tries 10,000.
"""

import csv
import io

import keras
import models
import numpy as np
import pandas as pd
import pytest
from injuries import changed, injured

import activation_pruning as ap
from activation_pruning.compression import CompressedFileError, container
from activation_pruning.compression import compressed as compressed_files
from activation_pruning.support import files, texts
from lab import datasets, options_file, storage

SETTINGS = {"arm": "a", "sparsity": 0.5, "events": 2, "seed": 3, "hidden": [3, 2]}
RESULT = {"accuracy": 0.25, "history": [0.5, 1e-300, None], "name": "é"}
DATA = {"x_train": np.linspace(0, 1, 60).reshape(12, 5), "y_train": np.arange(12) % 3,
        "x_test": np.zeros((3, 5)), "y_test": np.arange(3)}  # fmt: skip


class Kind:
    """A kind of file: how a good one is made, read and compared.

    make: (folder, variant) -> path. read: path -> content; raises `errors` that name the file,
    or returns None where `told` says it on the standard output.
    """

    errors = ValueError

    def same(self, found, path):
        return found == self.right


class Compressed(Kind):
    errors = CompressedFileError

    def make(self, folder, variant=0):
        keras.utils.set_random_seed(variant)
        model = models.mlp((20,), 30)
        ap.prune(model, 0.8)
        ap.compress(model, 3).save(folder / "model.apz")
        self.right = self.read(folder / "model.apz")
        return folder / "model.apz"

    def read(self, path):
        weights = ap.load_compressed(path).get_weights()
        return [(w.dtype, w.shape, w.tobytes()) for w in weights]


class Record(Kind):
    suffix = ".json"

    def make(self, folder, variant=0):
        self.right = RESULT | {"accuracy": 0.25 + variant}
        record = {"name": storage.name_of(SETTINGS), "settings": SETTINGS, "result": self.right}
        storage.keep(folder, record, {"w0": np.arange(50.0) + variant, "w1": np.zeros(3)})
        return folder / f"{record['name']}{self.suffix}"

    def read(self, path):
        record = storage.stored(path.parent, SETTINGS)  # None: done again, which it has said
        return record and (record["result"], storage.arrays_of(path.parent, record))

    def same(self, found, path):
        if found is None:
            return True
        result, arrays = found
        return result == self.right and arrays["w0"].tolist() == np.arange(50.0).tolist()


class Arrays(Record):
    suffix = ".npz"


class Study(Kind):
    right = True

    def make(self, folder, variant=0):
        (folder / storage.STUDY).unlink(missing_ok=True)
        storage.claim(folder, "trials.nap" if variant == 0 else "trials.nip")
        return folder / storage.STUDY

    def read(self, path):
        storage.claim(path.parent, "trials.nap")
        return True


class Sealed(Kind):
    """As `run.json` of `EventLog` and `search.json` of `find_sparsity`."""

    def make(self, folder, variant=0):
        self.right = {"fits": [{"fit": 1, "epochs": variant, "model": {"name": "m"}}], "format": 1}
        (folder / "run.json").write_text(files.sealed(self.right))
        return folder / "run.json"

    def read(self, path):
        found = files.unsealed(path, ("fits", "format"), 1)
        if found.get("format") != 1:
            raise ValueError(f"{path}: another format")  # as every reader does
        return found


class Loose(Kind):
    """Arrays without a checksum beside them, as `best.npz`: those of the file's own."""

    def make(self, folder, variant=0):
        np.savez_compressed(folder / "best.npz", a=np.arange(90.0) + variant, b=np.zeros(5))
        self.right = {"a": (np.arange(90.0) + variant).tolist(), "b": [0.0] * 5}
        return folder / "best.npz"

    def read(self, path):
        return {name: array.tolist() for name, array in files.arrays(path).items()}


class Table(Kind):
    """A CSV file has no checksum, and may be edited: what stands there is what is read."""

    def make(self, folder, variant=0):
        names = ["dense", "=cmd", "a,b", 'q"', "two\nlines", "é"]
        table = pd.DataFrame({"layer": names, "n": range(6), "s": np.arange(6) / 7 + variant})
        texts.write_csv(table, folder / "events.csv")
        return folder / "events.csv"

    def read(self, path):
        try:
            return texts.read_csv(path)
        except ValueError as error:  # as `EventLog` does
            raise ValueError(f"{path}: {error}") from error

    def same(self, found, path):
        raw = path.read_bytes().decode("utf-8", "surrogatepass")
        rows = list(csv.reader(io.StringIO(raw, newline="")))
        read = [list(found.columns), *found.to_numpy(dtype=object).tolist()]
        return [[texts.for_csv(cell) for cell in row] for row in read] == [
            [texts.for_csv(texts.from_csv(cell)) for cell in row] for row in rows
        ]


class Options(Kind):
    """What is read stands in the file, letter by letter."""

    def make(self, folder, variant=0):
        told = f"seeds: {2 + variant}\narms: [long, short]\nrate: 1e-3\ndata-dir:\nfresh: true\n"
        (folder / "study.yaml").write_text(told)
        return folder / "study.yaml"

    def read(self, path):
        try:
            return options_file.read(path)
        except ValueError as error:  # as the parser does
            raise ValueError(f"{path}: {error}") from error

    def same(self, found, path):
        text = "".join(path.read_text(encoding="utf-8").split())
        lists = [value if isinstance(value, list) else [value or ""] for value in found.values()]
        cells = [*found, *(one for some in lists for one in some)]
        return all(isinstance(c, str) and "".join(c.split()) in text for c in cells) or "\\" in text


class Images(Kind):
    """A data set of one's own."""

    def make(self, folder, variant=0):
        np.savez(folder / "images.npz", **(DATA | {"x_train": DATA["x_train"] / (1 + variant)}))
        self.right = self.read(folder / "images.npz")
        return folder / "images.npz"

    def read(self, path):
        return {name: array.tolist() for name, array in datasets.load(str(path)).items()}


KINDS = {kind.__name__: kind for kind in (Compressed, Record, Arrays, Study, Sealed, Loose, Table,
                                          Options, Images)}  # fmt: skip
WHOLE = 10_000


def tried(kind, folder, capsys, count, seed):
    """Injure a file of a kind so many times; returns how often it was refused."""
    (folder / "other").mkdir()
    kind = KINDS[kind]()
    other = kind.make(folder / "other", 1).read_bytes()
    path = kind.make(folder)
    good, refused = path.read_bytes(), 0
    random = np.random.default_rng(seed)
    for number in range(count):
        what, data = injured(good, random, other)
        path.write_bytes(data)
        case = f"case {number} of seed {seed}: {what}"
        try:
            found = kind.read(path)
        except kind.errors as error:
            found, right = None, path.stem in str(error)
        else:
            right = kind.same(found, path)
        assert right, case
        refused += found is None
    capsys.readouterr()
    path.write_bytes(good)
    assert kind.same(kind.read(path), path)
    return refused


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_refused_or_read_right(tmp_path, capsys, kind):
    count = 100
    refused = tried(kind, tmp_path, capsys, count, seed=0)
    assert refused > count / 4


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_damaged_files(tmp_path, capsys, kind):
    count = WHOLE // len(KINDS) + 1
    assert tried(kind, tmp_path, capsys, count, seed=1) > count / 4


def forged(data, random):
    """A compressed file whose header or weights were changed, all lengths and checksums fit."""
    header, sections = container.unpack(data)
    sections = [bytes(one) for one in sections]
    if random.random() < 0.7:
        header = changed(header, random)
    else:
        at = int(random.integers(len(sections)))
        sections[at] = injured(sections[at], random, sections[0])[1]
    return container.pack(header, sections)


def forge(folder, count, seed):
    path = Compressed().make(folder)
    good, random, read, unnamed = path.read_bytes(), np.random.default_rng(seed), 0, 0
    for number in range(count):
        data = forged(good, random)
        path.write_bytes(data)
        try:
            model = ap.load_compressed(path)
        except CompressedFileError as error:
            unnamed += path.name not in str(error)
            continue
        read += 1
        stored = compressed_files.read(data)
        described = container.unpack(data)[0]["tensors"]
        for variable, tensor, one in zip(model.weights, stored.weights, described, strict=True):
            array = keras.ops.convert_to_numpy(variable)
            assert list(array.shape) == one["shape"], f"case {number} of seed {seed}"
            np.testing.assert_array_equal(array, tensor.array)
    assert unnamed == 0
    return read


def test_forged_files_are_refused_or_read_as_they_stand(tmp_path):
    assert 0 < forge(tmp_path, 100, seed=0) < 90


@pytest.mark.slow
def test_a_thousand_forged_files(tmp_path):
    assert 0 < forge(tmp_path, 1000, seed=1) < 900
