"""What compression is made of: Huffman codes, distances, k-means, tensors; the file and its checks.

Nothing here needs a network; whole models are in test_compressed.
"""

import hashlib
import heapq
import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from activation_pruning.compression import clusters, compressed, container, gaps, huffman, tensors
from activation_pruning.compression.compressed import Compressed
from activation_pruning.compression.container import CompressedFileError
from activation_pruning.compression.tensors import Raw, Shared

# -- Huffman codes ------------------------------------------------------------------------------


def unlimited_cost(counts):
    """Bits of the classic Huffman code: the sum of the inner nodes."""
    heap, cost = [int(c) for c in counts if c], 0
    heapq.heapify(heap)
    while len(heap) > 1:
        both = heapq.heappop(heap) + heapq.heappop(heap)
        cost += both
        heapq.heappush(heap, both)
    return cost


@pytest.mark.parametrize(
    ("counts", "lengths"),
    [
        ([], []),
        ([0, 7], [0, 1]),
        ([1, 1], [1, 1]),
        ([4, 3, 2, 1], [1, 2, 3, 3]),
        ([1, 0, 1, 1, 1], [2, 0, 2, 2, 2]),
    ],
)
def test_code_lengths_known_by_hand(counts, lengths):
    assert huffman.code_lengths(counts).tolist() == lengths


@pytest.mark.parametrize("seed", range(20))
def test_codes_are_optimal_where_the_limit_does_not_bind(seed):
    counts = np.random.default_rng(seed).integers(0, 50, 3 + 5 * seed)
    lengths = huffman.code_lengths(counts).astype(int)
    assert counts @ lengths == unlimited_cost(counts)
    assert sum(2.0**-n for n in lengths if n) == 1


def test_codes_are_optimal_under_a_limit():
    # Of 5 symbols with Fibonacci counts the best code has lengths 4, 4, 3, 2, 1; within 3 bits it
    # is 3, 3, 3, 3, 1: the only complete one but 3, 3, 2, 2, 2, at 1*3+1*3+2*3+3*3+5 = 26 = bits.
    counts = [1, 1, 2, 3, 5]
    assert huffman.code_lengths(counts).tolist() == [4, 4, 3, 2, 1]
    within = huffman.code_lengths(counts, longest=3).astype(int)
    assert within.max() == 3
    assert np.dot(counts, within) == 26
    every = huffman.code_lengths(2 ** np.arange(40))
    assert every.max() == huffman.LONGEST
    assert sum(2.0 ** -int(n) for n in every) == 1


def test_stream_known_by_hand():
    # Counts 1, 3: codes 0 and 1, as symbol 0 is the first of that length; bits 1 1 0 1.
    stream = huffman.encode([1, 1, 0, 1])
    assert stream == struct.pack("<QH", 4, 2) + bytes([0x11]) + struct.pack("<H", 1) + b"\xd0"


CHUNK = huffman.CHUNK


@pytest.mark.parametrize("count", [0, 1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
@pytest.mark.parametrize("kinds", [1, 2, 37, huffman.ALPHABET])
def test_streams_round_trip(count, kinds):
    generator = np.random.default_rng(count + kinds)
    symbols = (kinds * generator.random(count) ** 3).astype(int)
    stream = huffman.encode(symbols)
    found, used = huffman.decode(stream + b"more", most=count)
    assert used == len(stream)
    assert found.tolist() == symbols.tolist()
    chunks = -(-count // CHUNK)
    assert 0 <= len(stream) - huffman.size(np.bincount(symbols)) <= chunks


def test_blocks_of_chunks_join(monkeypatch):
    symbols = np.random.default_rng(0).integers(0, 9, 5 * CHUNK + 7)
    whole = huffman.encode(symbols)
    monkeypatch.setattr(huffman, "_BLOCK", 2 * CHUNK)
    assert huffman.encode(symbols) == whole


def test_the_longest_codes_round_trip():
    symbols = np.repeat(np.arange(20), np.maximum(2 ** np.arange(20) // 16, 1))
    np.random.default_rng(0).shuffle(symbols)
    assert huffman.code_lengths(np.bincount(symbols)).max() == huffman.LONGEST
    assert (huffman.decode(huffman.encode(symbols), len(symbols))[0] == symbols).all()


def test_streams_that_claim_too_much_are_refused_unread():
    stream = huffman.encode([1, 1, 0, 1])
    with pytest.raises(ValueError, match="claims 4 symbols"):
        huffman.decode(stream, most=3)
    huge = struct.pack("<QH", 1 << 60, 2) + stream[10:]
    with pytest.raises(ValueError, match="claims"):
        huffman.decode(huge, most=4)
    with pytest.raises(ValueError, match="cut off"):
        huffman.decode(struct.pack("<QH", 1 << 40, 2) + stream[10:], most=1 << 41)
    for short in range(len(stream)):
        with pytest.raises(ValueError, match="cut off"):
            huffman.decode(stream[:short], most=4)


def test_codes_that_are_none_are_refused():
    stream = bytearray(huffman.encode([1, 1, 0, 1]))
    stream[10] = 0x12  # lengths 1 and 2: a window begins with no code
    with pytest.raises(ValueError, match="no complete code"):
        huffman.decode(bytes(stream), most=4)
    stream[10] = 0x00
    with pytest.raises(ValueError, match="no complete code"):
        huffman.decode(bytes(stream), most=4)
    alone = bytearray(huffman.encode([0] * 4))
    alone[-1] = 0xFF  # the only code is 0
    with pytest.raises(ValueError, match="do not end where they should"):
        huffman.decode(bytes(alone), most=4)
    with pytest.raises(ValueError, match="must lie in"):
        huffman.encode([huffman.ALPHABET])


# -- distances ----------------------------------------------------------------------------------


def test_distances_of_the_papers_figure():
    # Figure 2 of the paper: weights at 1, 4 and 15, 3 bits; the last distance, 11, takes a filler.
    # Ours is worth 7 where the paper's is worth 8, since a distance of 0 does not occur.
    assert gaps.symbols([1, 4, 15], 3).tolist() == [2, 3, 0, 4]
    assert gaps.symbols([6, 13], 3).tolist() == [7, 7]
    assert gaps.symbols([7], 3).tolist() == [0, 1]
    assert gaps.symbols([], 3).tolist() == []


@pytest.mark.parametrize("bits", [1, 2, 5, 8, 11])
def test_distances_round_trip(bits):
    generator = np.random.default_rng(bits)
    for share in (0.001, 0.1, 0.9, 1.0):
        places = np.flatnonzero(generator.random(5000) < share)
        assert gaps.positions(gaps.symbols(places, bits), bits).tolist() == places.tolist()


def test_the_cheapest_bits_are_those_of_the_smallest_stream():
    places = np.flatnonzero(np.random.default_rng(0).random(20_000) < 0.05)
    sizes = {b: len(huffman.encode(gaps.symbols(places, b))) for b in range(1, 12)}
    bits, size = gaps.cheapest(places)
    assert sizes[bits] == min(sizes.values())
    assert abs(size - sizes[bits]) <= 2


# -- k-means ------------------------------------------------------------------------------------


def test_clusters_are_those_of_scikit_learn():
    from sklearn.cluster import KMeans

    values = np.random.default_rng(0).normal(size=3000).astype(np.float32)
    values = np.append(values, values[:500])  # with ties
    centroids, index = clusters.share(values, 8)
    points = values.astype(np.float64)[:, None]
    start = np.linspace(points.min(), points.max(), 8)[:, None]
    peer = KMeans(8, init=start, n_init=1, tol=0, max_iter=1000).fit(points)
    np.testing.assert_allclose(centroids, np.sort(peer.cluster_centers_.ravel()), atol=1e-12)
    np.testing.assert_allclose(((centroids[index] - values) ** 2).sum(), peer.inertia_)


def test_clusters_are_at_rest():
    values = np.random.default_rng(1).laplace(size=2000)
    centroids, index = clusters.share(values, 16)
    means = np.bincount(index, values) / np.bincount(index)
    np.testing.assert_allclose(centroids, means, rtol=1e-10)
    nearest = np.abs(values[:, None] - centroids).argmin(axis=1)
    assert (nearest == index).all()


def test_the_void_around_zero_takes_no_clusters():
    values = np.random.default_rng(0).uniform(-1, 1, 5000)
    values = values[np.abs(values) > 0.9]
    centroids, index = clusters.share(values, 16)
    assert len(centroids) == 16
    assert (np.abs(centroids) > 0.9).all()
    assert np.bincount(index).min() > 0


def test_few_different_numbers_are_kept():
    centroids, index = clusters.share(np.array([3.0, -1.0, 3.0, 0.5]), 3)
    assert centroids.tolist() == [-1.0, 0.5, 3.0]
    assert index.tolist() == [2, 0, 2, 1]
    centroids, index = clusters.share(np.array([1.0, 2.0, 6.0]), 1)
    assert centroids.tolist() == [3.0]
    assert index.tolist() == [0, 0, 0]


# -- tensors ------------------------------------------------------------------------------------


def shared(shape=(40, 30), alive=0.2, clusters=6, seed=0, dtype="float32"):
    generator = np.random.default_rng(seed)
    codes = generator.integers(1, clusters + 1, shape) * (generator.random(shape) < alive)
    stored = "float64" if dtype == "float64" else "float32"
    codebook = np.arange(1, clusters + 1).astype(stored) / 8
    return Shared("a/kernel", dtype, codes.astype(np.uint16), codebook, 5)


@pytest.mark.parametrize("alive", [0.0, 0.001, 0.1, 0.6, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_shared_tensors_round_trip(alive, dtype):
    tensor = shared(alive=alive, dtype=dtype)
    described, section = tensor.encode()
    found = tensors.decode(described, memoryview(section))
    assert (found.codes == tensor.codes).all()
    assert found.array.tobytes() == tensor.array.tobytes()
    assert (found.name, found.dtype, found.bits) == ("a/kernel", dtype, 5)


def test_the_form_is_the_smallest():
    assert shared(alive=1.0).encode()[0]["form"] == "dense"
    assert shared(alive=0.05).encode()[0]["form"] == "sparse"
    rows = np.zeros((200, 300), np.uint16)
    rows[:, 7] = 1  # down a column: neighbours in Fortran's order, 300 apart in C's
    described, section = Shared("k", "float32", rows, np.ones(1, np.float32), 1).encode()
    assert described["order"] == "F"
    assert (tensors.decode(described, section).codes == rows).all()


def test_codes_stand_for_the_codebook_and_zero():
    codes = np.array([[0, 1], [2, 0]], np.uint16)
    tensor = Shared("k", "float32", codes, np.array([-0.5, 3.0], np.float32), 1)
    assert tensor.array.tolist() == [[0.0, -0.5], [3.0, 0.0]]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "int64", "bool", "bfloat16"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (5, 2)])
def test_raw_tensors_round_trip(dtype, shape):
    array = np.random.default_rng(0).integers(0, 2, shape).astype(tensors.stored_as(dtype))
    described, section = Raw("b", dtype, array).encode()
    found = tensors.decode(described, memoryview(section))
    assert found.array.dtype == array.dtype
    assert found.array.shape == shape
    assert found.array.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": [30, 30]},
        {"shape": [-40, -30]},
        {"shape": [True, 1200]},
        {"shape": "4"},
        {"form": "else"},
        {"dtype": "int8"},
        {"dtype": None},
        {"name": 3},
        {"clusters": -1},
        {"clusters": 5},
        {"clusters": 10**9},
        {"index_bits": 40},
        {"index_bits": None},
        {"order": "K"},
        {"form": "packed"},
        {"form": "raw"},
        {"bits": 0},
    ],
)
def test_descriptions_are_not_trusted(wrong):
    described, section = shared(alive=0.1).encode()
    assert described["form"] == "sparse"
    with pytest.raises(CompressedFileError):
        tensors.decode(described | wrong, section)


@pytest.mark.parametrize("alive", [0.1, 1.0])
def test_codes_beyond_the_codebook_are_refused(alive):
    tensor = shared(alive=alive)
    short = Shared("k", "float32", tensor.codes, tensor.codebook[:-1], 5)
    with pytest.raises(CompressedFileError, match="codes and codebook do not fit"):
        tensors.decode(*short.encode())


# -- the file -----------------------------------------------------------------------------------

CONFIG = {"class_name": "Sequential", "config": {"name": "small", "layers": [1, 2, 3]}}
WEIGHTS = [shared(), shared((7, 9), 1.0, 3, 1), Raw("bias", "float32", np.arange(9, dtype="f4"))]


def file():
    return Compressed(CONFIG, WEIGHTS).to_bytes()


def same(found):
    arrays = [tensor.array.tobytes() for tensor in found.weights]
    return found.config == CONFIG and arrays == [tensor.array.tobytes() for tensor in WEIGHTS]


def signed(data):
    """The file with checksums of the header and the whole that fit again."""
    packed = struct.unpack_from("<I", data, 10)[0]
    header = data[22 : 22 + packed]
    data = data[:18] + struct.pack("<I", zlib.crc32(header)) + data[22:-32]
    return data + hashlib.sha256(data).digest()


def test_files_round_trip():
    assert same(compressed.read(file()))
    assert file() == file()


def test_what_is_wrong_is_said():
    data = file()
    for empty in (b"", b"PK\x03\x04 something else", data[1:]):
        with pytest.raises(CompressedFileError, match="not a compressed model"):
            compressed.read(empty)
    with pytest.raises(CompressedFileError, match="ends within its header"):
        compressed.read(data[:40])
    newer = data[:8] + struct.pack("<H", 2) + data[10:]
    with pytest.raises(CompressedFileError, match="newer version, format 2; this version reads 1"):
        compressed.read(newer)
    with pytest.raises(CompressedFileError, match="no format 0"):
        compressed.read(data[:8] + struct.pack("<H", 0) + data[10:])
    sizes = [len(tensor.encode()[1]) for tensor in WEIGHTS]
    for number, place in enumerate(np.cumsum(sizes[::-1]).tolist()):
        flipped = bytearray(data)
        flipped[len(data) - 32 - place - 12 * number] ^= 1  # the first byte of a section
        with pytest.raises(CompressedFileError, match=f"checksum of section {3 - number}$"):
            compressed.read(bytes(flipped))
    with pytest.raises(CompressedFileError, match="checksum of the header"):
        compressed.read(data[:30] + b"xx" + data[32:])
    with pytest.raises(CompressedFileError, match="checksum of the whole file"):
        compressed.read(data[:-1] + bytes([data[-1] ^ 1]))
    for short in (data[:-40], data[:-10]):
        with pytest.raises(CompressedFileError, match="damaged"):
            compressed.read(short)


def test_lengths_are_not_believed():
    data = bytearray(file())
    packed = struct.unpack_from("<I", data, 10)[0]
    for place, form, size in ((10, "<I", 2**32 - 1), (14, "<I", 2**32 - 1), (14, "<I", 2**24)):
        wrong = bytearray(data)
        struct.pack_into(form, wrong, place, size)
        with pytest.raises(CompressedFileError, match="damaged"):
            compressed.read(signed(bytes(wrong)))
    struct.pack_into("<Q", data, 22 + packed, 2**63)
    with pytest.raises(CompressedFileError, match="ends within section 1"):
        compressed.read(signed(bytes(data)))


def test_packed_data_cannot_grow_beyond_what_is_declared():
    bomb = zlib.compress(bytes(10**7), 9)
    described = {"name": "b", "dtype": "float32", "shape": [9], "form": "packed"}
    tracemalloc.start()
    try:
        with pytest.raises(CompressedFileError, match="another size"):
            tensors.decode(described, bomb)
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()
    with pytest.raises(CompressedFileError, match="another size"):
        tensors.decode(described | {"shape": [0]}, bomb)
    with pytest.raises(CompressedFileError, match="damaged"):
        tensors.decode(described, b"no zlib at all")


@pytest.mark.parametrize("shape", [[2**31, 2**31], [10**9]])
def test_shapes_out_of_all_proportion_are_refused_before_they_take_memory(shape):
    one = {"name": "b", "dtype": "float32", "shape": shape, "form": "sparse"}
    one |= {"clusters": 0, "bits": 5, "order": "C", "index_bits": 4}
    section = huffman.encode([]) + huffman.encode([])
    data = container.pack({"config": CONFIG, "tensors": [one]}, [section])
    with pytest.raises(CompressedFileError, match="cannot stand for weights of"):
        compressed.read(data)


@pytest.mark.parametrize(
    "header",
    [None, [], {"config": CONFIG}, {"tensors": []}, {"config": 1, "tensors": []},
     {"config": CONFIG, "tensors": [{}]}, {"config": CONFIG, "tensors": [3]}],
)  # fmt: skip
def test_headers_that_describe_nothing(header):
    with pytest.raises(CompressedFileError):
        compressed.read(container.pack(header, [b"x"]))


# -- fuzzing ------------------------------------------------------------------------------------


def mutated(data, generator, other):
    """One random injury to a file."""
    data, kind = bytearray(data), generator.integers(6)
    place = int(generator.integers(len(data)))
    if kind == 0:
        data[place] ^= 1 << int(generator.integers(8))
    elif kind == 1:
        del data[place:]
    elif kind == 2:
        data[place:place] = generator.bytes(int(generator.integers(1, 9)))
    elif kind == 3:
        del data[place : place + int(generator.integers(1, 99))]
    elif kind == 4:
        begin, size = int(generator.integers(len(other))), int(generator.integers(1, 99))
        data[place : place + size] = other[begin : begin + size]
    else:
        for at in generator.integers(len(data), size=8):
            data[at] = generator.integers(256)
    return bytes(data)


def test_no_injury_goes_unnoticed():
    data, other = file(), Compressed(CONFIG, [shared(seed=3), *WEIGHTS[1:]]).to_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(10_000):
        injured = mutated(data, generator, other)
        try:
            found = compressed.read(injured)
        except CompressedFileError:
            refused += 1
        else:
            assert injured == data  # the injury changed nothing
            assert same(found)
    assert refused > 9_900


def test_forged_files_are_read_or_refused():
    # Injuries whose checksums fit again reach the decoders: those must raise nothing else, and
    # never make more of a file than its header declares.
    weights = [shared((8, 7), 0.1), shared((8, 7), 1.0, 3, 1), WEIGHTS[2]]
    encoded = [tensor.encode() for tensor in weights]
    described = [one for one, _ in encoded]
    generator = np.random.default_rng(1)
    read = 0
    for case in range(3_000):
        header = [dict(one) for one in described]
        sections = [section for _, section in encoded]
        chosen = int(generator.integers(len(sections)))
        if case % 4 == 0:
            key = generator.choice(list(header[chosen]))
            values = [0, 1, 3, 12, -1, 2**33, None, "x", 0.5, [9], [], [2**20, 2**20], "dense"]
            header[chosen][key] = values[generator.integers(len(values))]
        else:
            other = sections[generator.integers(len(sections))]
            sections[chosen] = mutated(sections[chosen], generator, other)
        data = container.pack({"config": CONFIG, "tensors": header}, sections)
        try:
            weights = compressed.read(data).weights
        except CompressedFileError:
            continue
        read += 1
        shapes = [list(tensor.array.shape) for tensor in weights]
        assert shapes == [one["shape"] for one in header]
    assert 0 < read < 3_000
