"""Multipliers of an FPGA: which weights each takes, by hand and against hls4ml's loop."""

import math

import numpy as np
import pytest

from activation_pruning import masks
from activation_pruning.sites import Site


def site(*shape):
    """Weight number i of the kernel is i."""
    kernel = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    return Site("a", "a", kernel, np.ones(shape, bool), np.arange(shape[-1])[None])


def groups(one, reuse_factor):
    """The weights of each item, in the order of items."""
    grain = masks.Multiplier(reuse_factor)
    items = grain.items(one, one.kernel)
    chosen = np.eye(len(items.values), dtype=bool)
    return [sorted(one.kernel[grain.expand(one, one.kernel, row)].astype(int)) for row in chosen]


def resource(inputs, units, reuse_factor):
    """[weights of a multiplier]: the loop of nnet_dense_resource.h, over a transposed kernel."""
    transposed = np.arange(inputs * units).reshape(inputs, units).T.reshape(-1)
    taken = [[] for _ in range(inputs * units // reuse_factor)]
    for cycle in range(reuse_factor):
        index = cycle
        for multiplier in taken:
            multiplier.append(transposed[index])
            index += reuse_factor
    return taken


def test_four_inputs_two_units_by_hand():
    one = site(4, 2)
    assert groups(one, 1) == [[weight] for weight in range(8)]
    assert groups(one, 2) == [[0, 2], [1, 3], [4, 6], [5, 7]]
    assert groups(one, 4) == [[0, 2, 4, 6], [1, 3, 5, 7]]


@pytest.mark.parametrize(("inputs", "units"), [(12, 6), (7, 5), (6, 1), (1, 6), (8, 8)])
def test_groups_are_those_of_the_loop(inputs, units):
    possible = [
        factor
        for factor in range(1, inputs * units)
        if inputs % factor == 0 or (factor % inputs == 0 and inputs * units % factor == 0)
    ]
    assert len(possible) > 1
    for factor in possible:
        expected = sorted(sorted(weights) for weights in resource(inputs, units, factor))
        assert sorted(groups(site(inputs, units), factor)) == expected


def test_a_convolution_is_written_filter_by_filter():
    one = site(2, 2, 3, 4)
    written = np.moveaxis(one.kernel, -1, 0).reshape(-1, 6).astype(int)  # (F, H, W, C)
    assert sorted(groups(one, 6)) == sorted(row.tolist() for row in written)


@pytest.mark.parametrize(
    ("asked", "block"),
    [(1, (1, 1)), (3, (2, 1)), (4, (4, 1)), (6, (4, 1)), (7, (8, 1)), (20, (8, 2)), (99, (8, 3))],
)
def test_the_closest_reuse_factor_is_taken_and_of_two_the_smaller(asked, block):
    # 8 inputs, 6 units: 1, 2, 4, 8, 16 and 24 are possible
    assert masks.Multiplier(asked).block((8, 6)) == masks.Block(*block)


def test_no_multiplier_takes_a_whole_kernel():
    assert masks.Multiplier(6).block((6, 1)) == masks.Block(3, 1)
    assert masks.Multiplier(6).block((1, 6)) == masks.Block(1, 3)
    assert masks.Multiplier(6).block((1, 1)) == masks.Block(1, 1)


def test_whole_multipliers_are_pruned():
    one = site(8, 4)
    mask = masks.select([one], {"a": one.kernel}, 0.5, masks.Multiplier(4), "global")["a"]
    written = mask.T.reshape(-1, 4)  # what each multiplier takes
    assert (written.any(axis=1) == written.all(axis=1)).all()
    assert written.all(axis=1).sum() == 4


@pytest.mark.parametrize("asked", [0, -1, 2.5, "4"])
def test_a_reuse_factor_that_is_none_is_refused(asked):
    with pytest.raises(ValueError, match="reuse_factor="):
        masks.Multiplier(asked)
