"""Multipliers of an FPGA as a granularity: the weights that one of them takes one after another."""

import math
from dataclasses import dataclass

from activation_pruning.allocations import Items
from activation_pruning.masks.granularities import Block, Granularity
from activation_pruning.support.checks import check_count
from activation_pruning.support.types import Mask, Scores, Site


@dataclass(frozen=True)
class Multiplier(Granularity):
    """The weights that one multiplier (a DSP block) of hls4ml's Resource strategies takes in turn.

    These are R consecutive ones, R the reuse factor: number m takes w[m R] to w[m R + R - 1] of the
    weights w as hls4ml writes them, one unit after another (the kernel with its last axis first,
    flat). For Dense, Conv1D, Conv2D, LSTM and GRU.

    Not every R fits every kernel. As hls4ml does, each takes the closest one that divides the
    number of its inputs, or is a multiple of it that divides its size; of two as close, the smaller
    one; and never the whole kernel. So a `Block` says the same, for one shape of kernels.

    hls4ml leaves out multipliers of nothing but zeros with the strategy "resource_unrolled", for
    convolutions with io_stream. It multiplies weights of fewer than 9 bits without DSP blocks.

    Args:
        reuse_factor: hls4ml's `ReuseFactor`, how often each multiplier is used; a positive integer.

    Raises:
        ValueError: not a positive integer.

    Source: hls4ml 1.3.0, nnet_dense_resource.h, unrolled_codegen.py, fpga_backend.py; Ramhorst et
    al., FPGA resource-aware structured pruning, arXiv:2308.05170.

    Example:
        >>> Multiplier(4).block((16, 3))
        Block(height=4, width=1)
        >>> Multiplier(32).block((16, 4))  # two units each
        Block(height=16, width=2)
    """

    reuse_factor: int

    def __post_init__(self) -> None:
        check_count("reuse_factor", self.reuse_factor, 1)

    def block(self, shape: tuple[int, ...]) -> Block:
        """The blocks that are the same items in a kernel of this shape.

        Example:
            >>> Multiplier(5).block((3, 3, 2, 6))  # 18 inputs: 3 and 6 are possible
            Block(height=6, width=1)
        """
        inputs, units = math.prod(shape[:-1]), shape[-1]
        possible = {*_divisors(inputs), *(inputs * several for several in _divisors(units))}
        possible = possible - {inputs * units} or {1}  # the whole kernel
        factor = min(possible, key=lambda one: (abs(one - self.reuse_factor), one))
        return Block(min(factor, inputs), max(factor // inputs, 1))

    def items(self, site: Site, scores: Scores) -> Items:
        return self.block(site.kernel.shape).items(site, scores)

    def expand(self, site: Site, scores: Scores, chosen: Mask) -> Mask:
        return self.block(site.kernel.shape).expand(site, scores, chosen)


def _divisors(number: int) -> list[int]:
    return [one for one in range(1, number + 1) if number % one == 0]
