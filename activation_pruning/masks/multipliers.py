"""Multipliers of an FPGA as a granularity: the weights that one of them takes one after another."""

import math
from dataclasses import dataclass

from activation_pruning.allocations import Items
from activation_pruning.masks.granularities import Block, Granularity
from activation_pruning.support.checks import check_count
from activation_pruning.support.types import Mask, Scores, Site


@dataclass(frozen=True)
class Multiplier(Granularity):
    """The weights that one multiplier (DSP block) of hls4ml's Resource strategy takes in turn.

    hls4ml writes the weights unit by unit: w[j] of unit j // inputs, over the kernel with its last
    axis first. In cycle r of R, the reuse factor, multiplier m takes w[m R + r]: an item is R
    consecutive ones. Each kernel has, as in hls4ml, the closest R that divides its inputs or is a
    multiple of them that divides its size; of two as close, the smaller. Kernels of Dense, Conv1D,
    Conv2D, and of recurrent layers.

    What is gained: with `Strategy: resource_unrolled` hls4ml leaves out multipliers of nothing but
    zeros. Weights of fewer than 9 bits are multiplied without DSP blocks.

    Args:
        reuse_factor: hls4ml's `ReuseFactor`, how often a multiplier is used; a positive integer.

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
        possible = [*_divisors(inputs), *(inputs * several for several in _divisors(units))]
        factor = min(possible, key=lambda one: (abs(one - self.reuse_factor), one))
        return Block(min(factor, inputs), max(factor // inputs, 1))

    def items(self, site: Site, scores: Scores) -> Items:
        return self.block(site.kernel.shape).items(site, scores)

    def expand(self, site: Site, scores: Scores, chosen: Mask) -> Mask:
        return self.block(site.kernel.shape).expand(site, scores, chosen)


def _divisors(number: int) -> list[int]:
    return [one for one in range(1, number + 1) if number % one == 0]
