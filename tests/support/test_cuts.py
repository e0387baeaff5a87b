"""Cuts, with a sort of everything as the oracle."""

import tracemalloc

import numpy as np
import pytest

from activation_pruning.support import cuts

SIZES = [1, 2, 65_535, 65_536, 65_537, 262_144, 262_145]  # chunks, and "few"


def expected(arrays, count, alive):
    """The cut by sorting."""
    filled = [np.where(a, s, -np.inf) for s, a in zip(arrays, alive, strict=True)]
    at = np.sort(np.concatenate(filled))[count - 1]
    return [(at, np.count_nonzero(f < at), np.count_nonzero(f == at)) for f in filled]


def scores_of(kind, size, dtype, generator):
    """Scores of a kind, some of them pruned."""
    scores = generator.standard_normal(size).astype(dtype)
    alive = generator.random(size) < 0.6
    if kind == "all alive":
        alive[:] = True
    elif kind == "few levels":
        scores = np.round(scores)
    elif kind == "zeros of both signs":
        scores = np.where(scores > 0.7, scores, np.copysign(dtype(0), scores))
    elif kind == "sorted":
        scores.sort()
    elif kind == "periodic":
        scores = np.resize(scores[:400], size)
    elif kind == "infinite":
        scores[generator.random(size) < 0.3] = np.inf
        scores[generator.random(size) < 0.3] = -np.inf
    return scores, alive


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    "kind",
    ["all alive", "pruned", "few levels", "zeros of both signs", "infinite", "sorted", "periodic"],
)
def test_cut_agrees_with_a_sort(kind, dtype):
    generator = np.random.default_rng(3)
    for size in SIZES:
        scores, alive = scores_of(kind, size, dtype, generator)
        ends = sorted(generator.integers(0, size + 1, 2))
        arrays, masks = np.split(scores, ends), np.split(alive, ends)  # some may be empty
        for count in {1, size, *generator.integers(1, size + 1, 3).tolist()}:
            found = cuts.cut(arrays, count, masks)
            assert found == expected(arrays, count, masks)
            assert found[0][0].dtype == dtype


def test_float64_is_not_rounded():
    scores = 1 + np.random.default_rng(3).permutation(300_000) * 1e-14
    for count in (1, 1000, 299_999):
        assert cuts.cut([scores], count)[0] == (np.sort(scores)[count - 1], count - 1, 1)


@pytest.mark.parametrize("outside", [(-4.0, -3.0), (3.0, 4.0), (0.0, 0.0)])
def test_a_bracket_that_misses_changes_nothing(monkeypatch, outside):
    scores, alive = scores_of("pruned", 400_000, np.float32, np.random.default_rng(5))
    monkeypatch.setattr(cuts, "_bracket", lambda *_: tuple(map(np.float32, outside)))
    for count in (1, 170_000, 290_000, 400_000):
        assert cuts.cut([scores], count, [alive]) == expected([scores], count, [alive])


@pytest.mark.parametrize("levels", [1, 3, 10**6])
def test_memory_is_that_of_a_sample(levels):
    generator = np.random.default_rng(7)
    scores = generator.integers(0, levels, 4_000_000).astype(np.float32)
    alive = generator.random(scores.size) < 0.5
    tracemalloc.start()
    cuts.cut([scores], 3_200_000, [alive])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.15 * scores.nbytes
