"""Files made to take memory or time: each is refused, in little of both, by a message of ours."""

import json
import math
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import keras
import models
import numpy as np
import pytest
from keras import layers

import activation_pruning as ap
from activation_pruning import compression
from activation_pruning.compression import CompressedFileError, container, huffman, tensors

pytestmark = pytest.mark.backend

STATUS, REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MUCH = 48 << 20  # bytes


def resident(name):
    return 1024 * int(STATUS.read_text().split(f"{name}:")[1].split()[0])


def refused(path, match, seconds=20):
    """Load a file, which shall fail in little memory, of Python and of the whole process."""
    linux = STATUS.exists() and REFS.exists()
    if linux:
        REFS.write_text("5")  # the highest so far is forgotten
        before = resident("VmRSS")
    tracemalloc.start()
    begun = time.perf_counter()
    try:
        with pytest.raises(CompressedFileError, match=match) as caught:
            compression.load_compressed(path)
        assert tracemalloc.get_traced_memory()[1] < MUCH
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - begun < seconds  # a guard against hanging, no measurement
    if linux:
        assert resident("VmHWM") - before < 3 * MUCH
    assert path.name in str(caught.value)
    assert len(str(caught.value)) < 1000


def file(path, config):
    """A file of an architecture without its weights, checksums and all."""
    path.write_bytes(container.pack({"config": config, "tensors": []}, []))
    return path


def grown(model, **changes):
    """The architecture of a model, some numbers of which have become others."""
    text = json.dumps(compression.architecture.describe(model))
    for name, value in changes.items():
        before = {"units": 7, "filters": 7, "input_dim": 7, "dim": 7, "batch": 7}[name]
        text = text.replace(f": {before},", f": {value},").replace(f"[{before},", f"[{value},")
        text = text.replace(f", {before}]", f", {value}]").replace(f", {before},", f", {value},")
    return json.loads(text)


def sequential(*inner, shape=(4,), **more):
    return keras.Sequential([keras.Input(shape, **more), *inner])


def lstm(stateful=False):
    return sequential(layers.LSTM(2, stateful=stateful), shape=(3, 2), batch_size=7)


HUGE = {
    "dense": lambda: grown(sequential(layers.Dense(7)), units=10**9),
    "embedding": lambda: grown(sequential(layers.Embedding(7, 5)), input_dim=10**9),
    "convolution": lambda: grown(sequential(layers.Conv1D(7, 3), shape=(9, 2)), filters=10**9),
    "recurrent": lambda: grown(sequential(layers.LSTM(7), shape=(3, 2)), units=10**6),
    "batch normalisation": lambda: grown(
        sequential(layers.BatchNormalization(), shape=(7,)), dim=10**9
    ),
    "many of middle size": lambda: grown(
        sequential(*(layers.Dense(7) for _ in range(50))), units=3000
    ),
    "normalisation": lambda: grown(
        sequential(layers.Normalization(mean=0.0, variance=1.0), shape=(7,)), dim=10**9
    ),
    "states": lambda: grown(lstm(stateful=True), batch=10**9),
}


@pytest.mark.parametrize("kind", HUGE)
def test_layers_that_want_more_than_the_file_holds(tmp_path, kind):
    path = file(tmp_path / "huge.apz", HUGE[kind]())
    assert path.stat().st_size < 5000
    refused(path, "weights take 0 bytes in all")


def test_an_unrolled_layer_of_a_million_steps(tmp_path):
    model = sequential(layers.SimpleRNN(2, unroll=True), shape=(7, 3))
    refused(file(tmp_path / "long.apz", grown(model, dim=10**6)), "unrolls 1,000,000 steps")


def test_a_sequential_model_that_would_take_hours(tmp_path):
    config = compression.architecture.describe(sequential(*map(layers.Dropout, [0.5] * 3)))
    own = config["config"]["layers"]
    own += [own[1] | {"config": own[1]["config"] | {"name": f"d{i}"}} for i in range(9000)]
    refused(file(tmp_path / "long.apz", config), "a Sequential model of 9,004 layers")
    nested = compression.architecture.describe(sequential(sequential(layers.Dropout(0.5))))
    nested["config"]["layers"][1] = config
    refused(file(tmp_path / "inside.apz", nested), "a Sequential model of 9,004 layers")


def test_a_class_of_ones_own_is_counted_as_well(tmp_path):
    class Wide(layers.Layer):
        def __init__(self, size=9, **more):
            super().__init__(**more)
            self.size = size

        def build(self, shape):
            self.table = keras.Variable("zeros", shape=(self.size,), dtype="float64")

        def call(self, x):
            return x + keras.ops.cast(keras.ops.sum(self.table), x.dtype)

        def get_config(self):
            return {**super().get_config(), "size": self.size}

    with pytest.raises(CompressedFileError, match="takes 1000000000 numbers"):
        compression.architecture.build(
            json.loads(
                json.dumps(compression.architecture.describe(sequential(Wide()))).replace(
                    '"size": 9', '"size": 1000000000'
                )
            ),
            9 * 8,
            {"Wide": Wide},
        )


def test_what_is_watched_is_as_it_was_afterwards(tmp_path):
    before = [keras.Variable.__init__, keras.layers.Normalization.build, keras.layers.RNN.build]
    path = file(tmp_path / "huge.apz", HUGE["dense"]())
    with pytest.raises(CompressedFileError):
        compression.load_compressed(path)
    after = [keras.Variable.__init__, keras.layers.Normalization.build, keras.layers.RNN.build]
    assert after == before
    assert keras.layers.Dense(3)


def test_models_with_states_and_given_means_still_load(tmp_path):
    norm = layers.Normalization(mean=[1.0, 2.0], variance=[1.0, 4.0])
    x = np.random.default_rng(0).normal(size=(7, 3, 2)).astype("float32")
    for name, model in {
        "lstm": lstm(stateful=True),
        "norm": sequential(norm, layers.Dense(3), shape=(3, 2)),
    }.items():
        ap.compress(model).save(tmp_path / f"{name}.apz")
        loaded = compression.load_compressed(tmp_path / f"{name}.apz")
        np.testing.assert_array_equal(
            loaded.predict(x, batch_size=7, verbose=0), model.predict(x, batch_size=7, verbose=0)
        )


# -- headers ------------------------------------------------------------------------------------


def signed(packed, size, sections=b""):
    head = struct.pack("<8sHIII", container.MAGIC, 1, len(packed), size, zlib.crc32(packed))
    whole = head + packed + sections
    return whole + container.hashlib.sha256(whole).digest()


HEADERS = {
    "of lists": b"[" + b"[]," * 5_000_000 + b"0]",
    "of names": b'{"' + b"a" * (1 << 24) + b'":1}',
    "of zeros": bytes(1 << 24),
    "deep": b"[" * 1_000_000,
    "deep and closed": b"[" * 400_000 + b"]" * 400_000,
    "of digits": b"9" * 1_000_000,
    "of one number too many": b"[" + b"0," * 1_000_000 + b"0]",
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_that_unpack_to_far_more(tmp_path, kind):
    text = HEADERS[kind]
    path = tmp_path / "header.apz"
    path.write_bytes(signed(zlib.compress(text, 9), len(text)))
    refused(path, "damaged")


def test_headers_of_many_values_are_refused_whatever_they_take(tmp_path):
    text = b"[" + b"12," * (container._MOST_VALUES + 1) + b"0]"
    path = tmp_path / "values.apz"
    path.write_bytes(signed(zlib.compress(text, 0), len(text)))
    refused(path, "too many values")
    with pytest.raises(ValueError, match="too many to store"):
        container.pack([0] * (container._MOST_VALUES + 1), [])


def test_a_header_of_many_like_layers_is_packed_so_that_it_can_be_read():
    header = {"layers": [{"name": "dense", "units": 4}] * 60_000}  # zlib's best would be 300 : 1
    found, sections = container.unpack(container.pack(header, [b"x"]))
    assert found == header
    assert [bytes(one) for one in sections] == [b"x"]


@pytest.mark.parametrize("declared", [0, 19, 21, (1 << 24) + 1, 2**32 - 1])
def test_the_declared_size_of_a_header_is_the_real_one(declared):
    text = json.dumps({"config": {}, "a": 1}).encode()[:20]
    with pytest.raises(CompressedFileError, match="damaged"):
        container.unpack(signed(zlib.compress(text), declared))


# -- streams that do not end where they should --------------------------------------------------


def test_packed_data_ends_with_its_stream():
    text = bytes(1000)
    packed = zlib.compress(text)
    assert container.inflate(packed, 1000) == text
    for wrong in (packed + b"x", packed[:-1], packed[:-4], packed[: len(packed) // 2], packed * 2):
        with pytest.raises(CompressedFileError, match="damaged"):
            container.inflate(wrong, 1000)
    endless = zlib.compressobj()
    begun = endless.compress(text) + endless.flush(zlib.Z_SYNC_FLUSH)  # all bytes, but no end
    assert zlib.decompressobj().decompress(begun) == text
    with pytest.raises(CompressedFileError, match="another size than declared"):
        container.inflate(begun, 1000)


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_bytes_behind_the_codes_are_refused(form):
    codes = np.zeros((40, 90), np.uint16)
    codes.ravel()[:: 2 if form == "dense" else 97] = 1
    tensor = tensors.Shared("k", "float32", codes, np.ones(1, "float32"), 3)
    described, section = tensor.encode()
    assert described["form"] == form
    assert (tensors.decode(described, section).codes == codes).all()
    with pytest.raises(CompressedFileError, match="'k' cannot be decoded"):
        tensors.decode(described, section + b"\0")


@pytest.mark.parametrize("more", [b"\0", b"\0" * 11, b"\0" * 12 + b"x"])
def test_bytes_behind_the_last_section_are_refused(more):
    data = compression.compress(models.mlp((20,), 30)).to_bytes()
    content = data[:-32] + more
    with pytest.raises(CompressedFileError, match="damaged"):
        compression.compressed.read(content + container.hashlib.sha256(content).digest())


def test_a_section_more_than_there_are_tensors_is_refused():
    data = compression.compress(models.mlp((20,), 30)).to_bytes()
    content = data[:-32] + struct.pack("<QI", 1, zlib.crc32(b"x")) + b"x"
    with pytest.raises(CompressedFileError, match="5 sections for 4 tensors"):
        compression.compressed.read(content + container.hashlib.sha256(content).digest())


def test_more_symbols_than_there_are_bits_are_refused_before_they_take_memory():
    one = huffman.encode([0] * 9)  # a symbol takes one bit: nine take two bytes
    head = struct.pack("<QH", 17, 1) + one[10:11]
    with pytest.raises(ValueError, match="cut off"):
        huffman.decode(head + struct.pack("<H", 2) + b"\0\0", most=17)  # 17 bits in 16
    found, used = huffman.decode(struct.pack("<QH", 16, 1) + one[10:11] + b"\2\0" + b"\0\0", 16)
    assert (found == 0).all()
    assert (len(found), used) == (16, 15)
    count = 4096 * 1000
    many = struct.pack("<QH", count, 1) + one[10:11] + b"\0\0" * 1000
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="cut off"):
            huffman.decode(many, most=count)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


# -- weights ------------------------------------------------------------------------------------


def claimed(size, shape):
    """Whether so many bytes of a file may claim float32 weights of a shape."""
    one = {"name": "k", "dtype": "float32", "shape": shape, "form": "raw"}
    try:
        tensors.check_expansion([one], size)
    except CompressedFileError:
        return False
    return True


def test_the_limit_of_expansion_by_hand():
    free = (64 << 20) // 4  # float32 weights in 64 MiB
    assert claimed(0, [free])
    assert not claimed(0, [free + 1])
    assert claimed(1000, [free + 1000 * 1024])  # 4096 bytes for each
    assert not claimed(1000, [free + 1000 * 1024 + 1])
    assert not claimed(1000, [2**31, 2**31, 2**31])
    halves = [{"name": "k", "dtype": "float32", "shape": [free // 2], "form": "raw"}] * 2
    tensors.check_expansion(halves, 0)
    with pytest.raises(CompressedFileError, match="cannot stand for"):
        tensors.check_expansion([*halves, halves[0] | {"shape": [1]}], 0)


@pytest.mark.parametrize("shape", [[2**32 - 1] * 32, [2**20] * 3, [10**9, 4]])
@pytest.mark.parametrize("form", ["raw", "packed", "dense", "sparse"])
def test_shapes_that_nothing_stands_behind(tmp_path, form, shape):
    one = {"name": "k", "dtype": "float32", "shape": shape, "form": form}
    one |= {"clusters": 0, "bits": 5, "order": "C", "index_bits": 4}
    config = compression.architecture.describe(sequential(layers.Dense(7)))
    path = tmp_path / "shape.apz"
    path.write_bytes(container.pack({"config": config, "tensors": [one]}, [b"x" * 50]))
    assert math.prod(shape) > 10**9
    refused(path, "cannot stand for weights of")


def test_a_payload_that_is_no_weights_takes_no_more_than_itself(tmp_path):
    one = {"name": "k", "dtype": "float32", "shape": [4000, 4000], "form": "packed"}
    config = compression.architecture.describe(sequential(layers.Dense(7)))
    for section in (zlib.compress(bytes(1000)), b"x" * 100, zlib.compress(bytes(10**8), 9)):
        path = tmp_path / "payload.apz"
        path.write_bytes(container.pack({"config": config, "tensors": [one]}, [section]))
        if len(section) < 10**4:
            refused(path, "damaged")
        else:
            with pytest.raises(CompressedFileError, match="another size"):
                compression.load_compressed(path)
