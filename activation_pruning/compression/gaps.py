"""Positions of non-zeros as distances from one to the next, in few bits each.

A distance of 1 to 2^bits - 1 is a symbol of its own. A longer one is preceded by fillers, symbol 0,
each worth 2^bits - 1. (In the paper a filler is a weight of zero at the largest distance.)
"""

import numpy as np
from numpy.typing import ArrayLike

from activation_pruning.compression import huffman
from activation_pruning.support.types import Array

MOST_BITS = 11  # 2^bits symbols, within the alphabet of `huffman`


def symbols(positions: ArrayLike, bits: int) -> Array:
    """The symbols, each of 1 to 11 bits, of positions that rise from 0 on.

    Source: Han, Mao & Dally, ICLR 2016, section 2, figure 2.

    Example:
        >>> symbols([1, 4, 15], bits=3).tolist()
        [2, 3, 0, 4]
    """
    fillers, rests = _split(np.diff(np.asarray(positions, np.int64), prepend=-1), bits)
    found = np.zeros(len(rests) + int(fillers.sum()), np.int64)
    found[np.arange(len(rests)) + np.cumsum(fillers)] = rests
    return found


def positions(symbols: ArrayLike, bits: int) -> Array:
    """The positions behind symbols."""
    symbols = np.asarray(symbols, np.int64)
    reached = np.cumsum(np.where(symbols == 0, (1 << bits) - 1, symbols)) - 1
    return reached[symbols > 0]


def cheapest(positions: ArrayLike) -> tuple[int, int]:
    """(the bits with which the encoded symbols take the fewest bytes, those bytes)"""
    distances, counts = np.unique(np.diff(positions, prepend=-1), return_counts=True)
    sizes = {}
    for bits in range(1, MOST_BITS + 1):
        fillers, rests = _split(distances, bits)
        frequencies = np.bincount(rests, weights=counts, minlength=1).astype(np.int64)
        frequencies[0] = int(fillers @ counts)
        sizes[bits] = huffman.size(frequencies)
    best = min(sizes, key=sizes.__getitem__)
    return best, sizes[best]


def _split(distances, bits):
    """(how many fillers precede the symbol of each distance, the symbol)"""
    longest = (1 << bits) - 1
    fillers = (distances - 1) // longest
    return fillers, distances - fillers * longest
