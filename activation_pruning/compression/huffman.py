"""Canonical Huffman codes of limited length: symbols in, bytes out, and back, all in NumPy.

A stream is

    count (u64) | alphabet (u16) | code lengths, 4 bits each | bytes of each chunk (u16) | chunks

in little-endian numbers; the bits of a code run from the most significant one. Every chunk holds
4096 symbols, the last one what is left, and begins with a byte, so that all chunks can be decoded
side by side.
"""

import struct

import numpy as np
from numpy.typing import ArrayLike

from activation_pruning.support.types import Array

CHUNK = 4096
LONGEST = 15  # bits of a code: 4 bits tell its length, and a chunk has less than 2^16 bytes
ALPHABET = 1 << 12  # symbols at most
_HEAD = struct.Struct("<QH")
_BLOCK = 256 * CHUNK  # symbols encoded at a time: bounds the memory that single bits take


def code_lengths(counts: ArrayLike, longest: int = LONGEST) -> Array:
    """Lengths of an optimal prefix code none of whose codes is longer than `longest`.

    Minimises sum_i counts_i length_i subject to sum_i 2^-length_i <= 1 and length_i <= longest
    (package-merge). At most 2^longest counts are above 0.

    Returns:
        uint8 array, one length per symbol: 0 where the count is 0, 1 where it is the only one.

    Source: Larmore & Hirschberg, A fast algorithm for optimal length-limited Huffman codes,
    Journal of the ACM 37(3), 1990.

    Example:
        >>> code_lengths([10, 1, 0, 1, 4]).tolist()
        [1, 3, 0, 3, 2]
    """
    counts = np.asarray(counts, np.int64)
    lengths = np.zeros(len(counts), np.uint8)
    used = np.flatnonzero(counts)
    if len(used) < 2:
        lengths[used] = 1
        return lengths
    used = used[np.argsort(counts[used], kind="stable")]
    leaves = items = counts[used]
    levels = [np.ones(len(leaves), bool)]  # which items of a level are leaves, not packages
    for _ in range(longest - 1):
        pairs = len(items) // 2
        packages = items[: 2 * pairs].reshape(pairs, 2).sum(axis=1)
        items = np.concatenate([leaves, packages])
        order = np.argsort(items, kind="stable")
        items = items[order]
        levels.append(order < len(leaves))
    taken = 2 * len(leaves) - 2
    for level in reversed(levels):  # a package stands for two items of the level before
        own = int(level[:taken].sum())
        lengths[used[:own]] += 1
        taken = 2 * (taken - own)
    return lengths


def bits(counts: ArrayLike, longest: int = LONGEST) -> int:
    """Bits that symbols with these counts take in the code of `code_lengths`."""
    return int(np.asarray(counts, np.int64) @ code_lengths(counts, longest).astype(np.int64))


def size(counts: ArrayLike) -> int:
    """Bytes that a stream of symbols with these counts takes (up to a byte per chunk)."""
    counts = np.asarray(counts, np.int64)
    chunks, coded = -(-int(counts.sum()) // CHUNK), -(-bits(counts) // 8)
    return _HEAD.size + -(-len(counts) // 2) + 2 * chunks + coded


def encode(symbols: ArrayLike) -> bytes:
    """The stream of a sequence of symbols in [0, 4096); ValueError for others.

    Example:
        >>> decode(encode([2, 0, 2, 2]), most=4)[0].tolist()
        [2, 0, 2, 2]
    """
    symbols = np.asarray(symbols, np.int64)
    if symbols.size and not (symbols.min() >= 0 and symbols.max() < ALPHABET):
        raise ValueError(f"symbols must lie in [0, {ALPHABET}), received up to {symbols.max()}")
    counts = np.bincount(symbols)
    lengths = code_lengths(counts)
    codes, blocks, sizes = _codes(lengths), [], [np.zeros(0, np.int64)]
    for start in range(0, len(symbols), _BLOCK):
        block = symbols[start : start + _BLOCK]
        packed, chunk_bytes = _pack(codes[block], lengths[block].astype(np.int64))
        blocks.append(packed)
        sizes.append(chunk_bytes)
    pairs = np.append(lengths, np.zeros(len(lengths) % 2, np.uint8)).reshape(-1, 2)
    nibbles = (pairs[:, 0] << 4 | pairs[:, 1]).tobytes()
    head = _HEAD.pack(len(symbols), len(counts)) + nibbles
    return b"".join([head, np.concatenate(sizes).astype("<u2").tobytes(), *blocks])


def decode(buffer: bytes | memoryview, most: int) -> tuple[Array, int]:
    """(uint16 symbols of the stream at the beginning of a buffer, its length in bytes).

    Raises:
        ValueError: when it is not a stream, or claims more than `most` symbols.
    """
    if len(buffer) < _HEAD.size:
        raise ValueError("a Huffman stream is cut off")
    count, alphabet = _HEAD.unpack_from(buffer)
    if count > most or alphabet > ALPHABET:
        raise ValueError(f"a Huffman stream claims {count} symbols of {alphabet} kinds")
    place = _HEAD.size + -(-alphabet // 2)
    chunks = -(-count // CHUNK)
    if len(buffer) < place + 2 * chunks:
        raise ValueError("a Huffman stream is cut off")
    pairs = np.frombuffer(buffer[_HEAD.size : place], np.uint8)
    lengths = np.stack([pairs >> 4, pairs & 15], axis=1).ravel()[:alphabet]
    sizes = np.frombuffer(buffer, "<u2", chunks, place).astype(np.int64)
    place += 2 * chunks
    end = place + int(sizes.sum())
    if end > len(buffer) or 8 * (end - place) < count:  # a symbol takes at least one bit
        raise ValueError("a Huffman stream is cut off")
    if not count:
        return np.zeros(0, np.uint16), end
    table, longest = _table(lengths)
    return _lockstep(buffer[place:end], sizes, count, table, longest), end


def _codes(lengths):
    """The canonical code of each symbol, as an integer of so many bits."""
    order, widths = _canonical(lengths)
    codes = np.zeros(len(lengths), np.int64)
    longest = int(lengths.max(initial=0))
    codes[order] = (np.cumsum(widths) - widths) >> (longest - lengths[order].astype(np.int64))
    return codes


def _canonical(lengths):
    """(symbols by length, then by number; how many windows of the longest code each one fills)."""
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    return order, 1 << (int(lengths.max(initial=0)) - lengths[order].astype(np.int64))


def _table(lengths):
    """(what begins each window of bits: symbol << 4 | length of its code; bits of a window)."""
    order, widths = _canonical(lengths)
    longest = int(lengths.max(initial=0))
    whole = 1 << longest
    alone = len(order) == 1 and longest == 1
    if not len(order) or (widths.sum() != whole and not alone):
        raise ValueError("the code lengths of a Huffman stream make no complete code")
    entries = np.repeat(order << 4 | lengths[order], widths)
    # Of a single symbol, whose code is 0, nothing begins with 1: length 0, which goes nowhere.
    return np.append(entries, np.zeros(whole - len(entries), np.int64)).astype(np.int32), longest


def _pack(codes, lengths):
    """(the bits of a block, each chunk of it beginning with a byte; bytes of each chunk)."""
    firsts = np.arange(0, len(codes), CHUNK)
    starts = np.cumsum(lengths) - lengths
    sizes = (np.add.reduceat(lengths, firsts) + 7) // 8
    shifts = 8 * (np.cumsum(sizes) - sizes) - starts[firsts]
    starts += np.repeat(shifts, np.diff(np.append(firsts, len(codes))))
    bits = np.zeros(8 * int(sizes.sum()), np.uint8)
    for bit in range(int(lengths.max())):
        chosen = lengths > bit
        if not chosen.all():
            codes, lengths, starts = codes[chosen], lengths[chosen], starts[chosen]
        bits[starts + bit] = codes >> (lengths - 1 - bit) & 1
    return np.packbits(bits).tobytes(), sizes


def _lockstep(packed, sizes, count, table, longest):
    """The symbols of all chunks: one step of the loop decodes one symbol of each of them."""
    data = np.frombuffer(packed, np.uint8).astype(np.int32)
    # Damaged bits may lead beyond the end, by a chunk of the longest codes at most.
    data = np.append(data, np.zeros(CHUNK * LONGEST // 8 + 4, np.int32))
    words = data[:-2] << 16 | data[1:-1] << 8 | data[2:]  # 24 bits from each byte on
    mask, spare = np.int32((1 << longest) - 1), np.int32(24 - longest)
    starts = 8 * (np.cumsum(sizes) - sizes)
    places = running = starts.copy()
    last = count - CHUNK * (len(sizes) - 1)  # symbols of the last chunk
    found = np.zeros((min(count, CHUNK), len(sizes)), np.uint16)
    for step in range(len(found)):
        if step == last:
            running = places[:-1]
        windows = words[running >> 3] >> (spare - (running & 7).astype(np.int32)) & mask
        entries = table[windows]
        found[step, : len(running)] = entries >> 4
        running += entries & 15
    if not np.array_equal((places - starts + 7) // 8, sizes):
        raise ValueError("the chunks of a Huffman stream do not end where they should")
    return found.T.ravel()[:count]
