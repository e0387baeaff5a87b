"""How long models take, measured: one alone, or several in turn on the same machine."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from activation_pruning.analysis.memory import peak_memory
from activation_pruning.analysis.running import batch_of, checked_sizes, from_zeros, runner
from activation_pruning.support.checks import check_count, check_flags
from activation_pruning.support.types import Array, Model, Table


class LatencyComparison(NamedTuple):
    """The tables of `latency_compare`; prints the summary.

    summary: one row for each model: name, batch_size, rounds, median_ms, q1_ms, q3_ms, ratio
        (median of the ratios to the first), ratio_low, ratio_high (its 95 % interval).
    times: one row for each model and round: round, position (in it), name, time_ms, ratio.

    Example:
        >>> LatencyComparison._fields
        ('summary', 'times')
    """

    summary: pd.DataFrame
    times: pd.DataFrame

    def __repr__(self) -> str:
        numbers = self.summary.map(lambda one: f"{one:.3g}" if isinstance(one, float) else one)
        return numbers.to_string(index=False)


def latency(
    model: Model | Callable[[Any], Any],
    x: Any,
    batch_sizes: int | Sequence[int] | None = None,
    repeats: int = 30,
    warmup: int = 5,
    memory: bool = False,
    clock: Callable[[], float] = time.perf_counter,
    verbose: int = 1,
) -> Table:
    """Time of one batch, measured: median and quartiles over repeated calls.

    A Keras model is run by `predict_on_batch`: the traced and compiled function that `predict`
    uses (TensorFlow, JAX), from a NumPy batch to NumPy outputs. The copies of both are in it, the
    Python of the layers is not (on PyTorch, which does not trace, it is). Any other callable is
    called as it is: JAX arrays and tensors of Keras's backend are waited for, all else must be
    finished when it returns, as with LiteRT and ONNX Runtime. Garbage is collected before. The
    states of stateful recurrent layers are as before afterwards.

    Args:
        model: a built `keras.Model`, or a function of a batch.
        x: samples, an array or a list or dict of arrays; repeated where a batch wants more.
        batch_sizes: samples per call, an integer or several; None is 1 and 256, or the only size
            that the model takes.
        repeats: timed calls for each batch size, at least 1; quartiles want 20 or so.
        warmup: calls before these, at least 1 (the first one traces and compiles).
        memory: also measure `peak_memory`, in a process of its own: takes some ten seconds.
        clock: function that returns seconds.
        verbose: 0 for silence; else a line before the memory is measured.

    Returns:
        Tidy DataFrame, one row for each batch size: batch_size, repeats, median_ms, q1_ms, q3_ms,
        iqr_ms (q3 - q1), samples_per_s (at the median); with `memory` also loaded_bytes,
        peak_bytes and baseline_bytes.

    Raises:
        TypeError: for a model that is not callable.
        ValueError: for no samples, or counts out of range.

    Example:
        >>> ticks = iter(np.cumsum([0.0, 0.002] * 4))
        >>> table = latency(np.sum, np.ones((8, 2)), 4, repeats=3, clock=lambda: next(ticks))
        >>> table[["batch_size", "median_ms", "samples_per_s"]].round(6).values.tolist()
        [[4.0, 2.0, 2000.0]]
    """
    check_count("repeats", repeats, 1)
    check_count("warmup", warmup, 1)
    check_flags(memory=memory)
    sizes, run, rows = checked_sizes(batch_sizes, [model]), runner(model), []
    for size in sizes:
        batch = batch_of(x, size)
        with from_zeros(model):
            for _ in range(warmup):
                run(batch)
            with _no_garbage():
                times = [_seconds(run, batch, clock) for _ in range(repeats)]
        row = {"batch_size": size, "repeats": repeats, **_quartiles(times)}
        row["iqr_ms"] = row["q3_ms"] - row["q1_ms"]
        row["samples_per_s"] = 1000 * size / row["median_ms"]
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.merge(peak_memory(model, x, sizes, verbose)) if memory else table


def latency_compare(
    models: dict[str, Model | Callable[[Any], Any]],
    x: Any,
    batch_size: int | None = None,
    rounds: int = 30,
    warmup: int = 5,
    seed: int = 0,
    resamples: int = 10_000,
    clock: Callable[[], float] = time.perf_counter,
) -> LatencyComparison:
    """Times of several models, taken in turn, and their ratios to the first.

    In every round each model runs one batch, in a new random order; the ratio time / time of the
    first is taken within the round, so that what slows the machine for a while, or what one model
    leaves behind in its caches, meets all alike. The interval of the median ratio is a percentile
    bootstrap over rounds. Models run as in `latency`; none is checked to give the same outputs.

    Args:
        models: {name: built `keras.Model` or function of a batch}, at least two.
        x: samples, as for `latency`.
        batch_size: samples per call; None is 1, or the only size that the models take.
        rounds: at least 2; an interval wants 20 or more.
        warmup: calls of each model before, at least 1.
        seed: for the order and the bootstrap.
        resamples: of the bootstrap, at least 1.
        clock: function that returns seconds.

    Returns:
        A `LatencyComparison` of two DataFrames, `summary` and `times`.

    Raises:
        TypeError: for a model that is not callable.
        ValueError: for fewer than two models, no samples, or counts out of range.

    Source: Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3.

    Example:
        >>> functions = {"sum": np.sum, "sort": np.sort}
        >>> found = latency_compare(functions, np.ones((8, 2)), rounds=3)
        >>> found.summary["name"].tolist(), len(found.times)
        (['sum', 'sort'], 6)
    """
    if not isinstance(models, dict) or len(models) < 2:
        raise ValueError("models must be a dict {name: model} of at least two, to compare with")
    (batch_size,) = checked_sizes(batch_size, models.values(), [1], name="batch_size")
    check_count("rounds", rounds, 2)
    check_count("warmup", warmup, 1)
    check_count("seed", seed, 0)
    check_count("resamples", resamples, 1)
    random = np.random.default_rng(seed)
    batch, runs = batch_of(x, batch_size), {name: runner(one) for name, one in models.items()}
    with from_zeros(*models.values()):
        for run in runs.values():
            for _ in range(warmup):
                run(batch)
    names, rows = list(runs), []
    with from_zeros(*models.values()), _no_garbage():
        for number in range(1, rounds + 1):
            for position, chosen in enumerate(random.permutation(len(names)), 1):
                name = names[chosen]
                taken = 1000 * _seconds(runs[name], batch, clock)
                rows.append({"round": number, "position": position, "name": name, "time_ms": taken})
    times = pd.DataFrame(rows)
    first = times[times["name"] == names[0]].set_index("round")["time_ms"]
    times["ratio"] = times["time_ms"] / times["round"].map(first)
    summary = [
        {"name": name, "batch_size": batch_size, "rounds": rounds}
        | _quartiles(own["time_ms"].to_numpy() / 1000)
        | _ratio(own["ratio"].to_numpy(), random, resamples)
        for name in names
        for own in [times[times["name"] == name]]
    ]
    return LatencyComparison(pd.DataFrame(summary), times)


def bootstrap_median(
    values: Array, random: np.random.Generator, resamples: int = 10_000, level: float = 0.95
) -> tuple[float, float]:
    """(low, high), the percentile bootstrap interval of the median at a level in (0, 1).

    Example:
        >>> bootstrap_median(np.array([2.0, 2.0, 2.0]), np.random.default_rng(0))
        (2.0, 2.0)
    """
    drawn = values[random.integers(0, len(values), (resamples, len(values)))]
    low, high = np.quantile(np.median(drawn, axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _ratio(ratios, random, resamples):
    low, high = bootstrap_median(ratios, random, resamples)
    return {"ratio": float(np.median(ratios)), "ratio_low": low, "ratio_high": high}


def _quartiles(seconds):
    q1, median, q3 = (1000 * float(q) for q in np.quantile(seconds, [0.25, 0.5, 0.75]))
    return {"median_ms": median, "q1_ms": q1, "q3_ms": q3}


def _seconds(run, batch, clock):
    start = clock()
    run(batch)
    return clock() - start


@contextlib.contextmanager
def _no_garbage():
    """Garbage collection before, and none meanwhile."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
