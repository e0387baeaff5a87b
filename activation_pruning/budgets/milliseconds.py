"""Budgets of time, measured on this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import pandas as pd
from scipy.interpolate import RegularGridInterpolator

from activation_pruning.analysis.calls import record
from activation_pruning.analysis.latency import latency
from activation_pruning.analysis.parts import parts
from activation_pruning.budgets.base import CostBudget
from activation_pruning.budgets.prediction import Term
from activation_pruning.graph import copies
from activation_pruning.graph.channels import Coupling
from activation_pruning.sites import check_model, layer_classes
from activation_pruning.support.checks import check_count, check_number
from activation_pruning.support.progress import ProgressBar
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Array, Model, Table

Run = Callable[[Model], Callable[[Any], Any]]  # what runs a model: a function of a batch
_L = keras.layers
_FILTERS = (
    *layer_classes.CONVOLUTIONS, *layer_classes.TRANSPOSED, *layer_classes.SEPARABLE,
    *layer_classes.CONV_RECURRENT,
)  # fmt: skip
# {class: what its configuration calls the number of units}; "" for as many as come in
_COUNTS = dict.fromkeys(_FILTERS, "filters") | dict.fromkeys(layer_classes.DEPTHWISE, "")
_COUNTS |= dict.fromkeys((_L.Dense, *layer_classes.RECURRENT), "units")
_COLUMNS = ["layer", "inputs", "units", "time_ms"]
_SLOPE = 1e-3  # what a step in width costs at least, as a share of the time
_TURNS = 3  # in which a smaller model and the dense one are timed
_CLOSE = 0.9  # of the time asked for: noise makes it idle to look for more


def latency_table(
    model: Model,
    batch_size: int = 1,
    widths: Sequence[float] = (0.25, 0.5, 1.0),
    repeats: int = 20,
    run: Run | None = None,
    verbose: int = 1,
) -> Table:
    """How long each layer takes by itself at several widths, measured.

    Each Dense layer, convolution (transposed, separable, depthwise and recurrent ones, too), LSTM,
    GRU and SimpleRNN is built anew with fractions of its inputs and units, and timed on zeros.
    Layers that are alike are measured once.

    Args:
        model: a built `keras.Model`.
        batch_size: samples in a batch.
        widths: fractions in (0, 1] of the inputs and of the units; 1 is added.
        repeats: timed calls of each; the median counts.
        run: function of a model that returns what runs it, a function of a batch; None is Keras's
            own `predict_on_batch`.
        verbose: 0 for no progress bar.

    Returns:
        DataFrame: layer (path), inputs, units, time_ms. One from another machine may be made the
        same way there, written to a file and given to `Milliseconds` here.

    Raises:
        TypeError, ValueError: for a model that is not built, or an argument out of range.

    Source: Yang et al., "NetAdapt", ECCV 2018, section 3.3.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="a")])
        >>> table = latency_table(model, widths=[0.5], repeats=2, verbose=0)
        >>> table[["layer", "inputs", "units"]].values.tolist()
        [['a', 4, 2], ['a', 4, 4], ['a', 8, 2], ['a', 8, 4]]
    """
    check_model(model)
    check_count("batch_size", batch_size, 1)
    check_count("repeats", repeats, 1)
    if not np.iterable(widths):
        raise TypeError(f"widths={shown(widths)}; give several fractions, as in (0.25, 0.5, 1.0).")
    for width in widths:
        check_number("widths", width, above=0, most=1)
    widths = sorted({*map(float, widths), 1.0})
    found = [part for part in parts(model) if type(part.layer) in _COUNTS]
    calls, _ = record(model, [part.layer for part in found])
    rows, known, progress = [], {}, ProgressBar(verbose)
    for number, part in enumerate(found):
        if id(part.layer) in calls:
            shape = (batch_size, *calls[id(part.layer)][0].inputs[0][1:])
            settings = {**part.layer.get_config(), "name": ""}
            key = repr((type(part.layer), settings, shape))
            if key not in known:
                known[key] = list(_times(part.layer, shape, widths, repeats, run))
            rows += [(part.path, *row) for row in known[key]]
        progress(number + 1, len(found))
    return pd.DataFrame(rows, columns=_COLUMNS)


def _times(layer, shape, widths, repeats, run):
    """(inputs, units, time_ms) at all pairs of widths."""
    axis, name = _channel_axis(layer, len(shape)), _COUNTS[type(layer)]
    inputs, units = shape[axis], getattr(layer, name) if name else shape[axis]
    grid = [_fewer(inputs, widths), _fewer(units, widths) if name else [0]]
    for some in grid[0]:
        for own in grid[1]:
            smaller = [some if at == axis else n for at, n in enumerate(shape)]
            x = keras.Input(batch_shape=(None, *smaller[1:]))
            new = copies.resized_layer(layer, **({name: own} if name else {}))
            model = keras.Model(x, new(x))
            zeros = np.zeros(smaller, "float32")
            yield some, own if name else some, time_of(model, zeros, run, repeats)


def _channel_axis(layer, rank):
    first = getattr(layer, "data_format", "") == "channels_first"
    return rank - 1 - (len(layer.kernel_size) if first else 0)


def _fewer(number, widths):
    return sorted({max(round(number * width), 1) for width in widths})


def time_of(model: Model, x: Any, run: Run | None = None, repeats: int = 30) -> float:
    """Median milliseconds of one batch, that of `x`; arguments as for `latency_table`."""
    size = len(keras.tree.flatten(x)[0])
    function = model if run is None else run(model)
    return float(latency(function, x, size, repeats, verbose=0)["median_ms"].iloc[0])


@dataclasses.dataclass(frozen=True)
class Milliseconds(CostBudget):
    """At most so long for a batch, measured after compaction on this machine.

    Where units leave is decided by a table of measured layers; the compacted model is timed, and
    more or fewer units go until it is within the limit, and above nine tenths of it where it can.

    Args:
        limit: milliseconds for the batch `x`, greater than 0.
        x: the batch, an array or a list or dict of arrays.
        table: as `latency_table` makes it; None measures one now.
        run: as for `latency_table`; with LiteRT for example
            `lambda model: ap.load_exported(ap.export(model, "model.tflite").path)`.
        repeats: timed calls of the model; the median counts.
        verbose: 0 for no progress bar while the table is measured.

    Raises:
        ValueError: an argument out of range; a table without some of the layers; a limit that
            cannot be reached.

    Example:
        >>> import activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((256,)), keras.layers.Dense(512),
        ...                           keras.layers.Dense(10)])
        >>> budget = ap.budgets.Milliseconds(1000.0, np.ones((1, 256)), verbose=0)
        >>> ap.prune(model, budget, granularity="unit").sparsity  # it was fast enough
        0.0
    """

    unit: ClassVar[str] = "ms"
    hint: ClassVar[str] = " A call has a price of its own, which larger batches pay only once."
    x: Any = dataclasses.field(repr=False, compare=False)
    table: Table | None = dataclasses.field(default=None, repr=False, compare=False)
    run: Run | None = None
    repeats: int = 30
    verbose: int = 1

    def __post_init__(self) -> None:
        check_number("limit", self.limit, above=0, hint="milliseconds for the batch x")
        check_count("repeats", self.repeats, 1)
        if self.run is not None and not callable(self.run):
            raise TypeError(f"run={shown(self.run)}; it must be a function of a model")
        if not all(np.ndim(part) and len(part) for part in keras.tree.flatten(self.x)):
            raise ValueError(f"x={shown(self.x)}; give a batch: arrays of at least one sample.")
        if self.table is not None and not set(_COLUMNS) <= set(getattr(self.table, "columns", ())):
            raise TypeError(
                f"table={shown(self.table)}; it must be a DataFrame with the columns "
                f"{', '.join(_COLUMNS)}, as latency_table makes it."
            )

    def asked(self, dense: float) -> float:
        return dense + (self.limit - dense) * self.way if dense > self.limit else self.limit

    def terms(self, model: Model, coupling: Coupling) -> Iterable[Term]:
        size = len(keras.tree.flatten(self.x)[0])
        table = self.table
        if table is None:
            table = latency_table(model, size, run=self.run, verbose=self.verbose)
        slices = {id(variable): axes for variable, axes in coupling.slices}
        own = [part for part in parts(model) if type(part.layer) in _COUNTS]
        terms = [t for one in own for t in _layer_terms(one.layer, one.path, table, slices)]
        total = sum(term.cost(*map(len, term.axes)) for term in terms)
        whole = self.measure(model)
        # Alone a layer pays for its own call; in a model the calls share that.
        factor = min(whole / total, 1.0) if total else 1.0
        return [Term(t.axes, lambda *widths, t=t: factor * t.cost(*widths)) for t in terms]

    def measure(self, model: Model) -> float:
        return time_of(model, self.x, self.run, self.repeats)

    def fewest(self, costs: Array, asked: float, measure: Callable[[int], float]) -> int:
        last = len(costs) - 1
        tried = {count: measure(count) for count in (0, last)}  # what stays in any case is in both
        if tried[0] <= asked or tried[last] > asked:
            return 0 if tried[0] <= asked else last
        for _ in range(6):
            known = sorted(tried)
            expected = np.interp(costs, costs[known][::-1], [tried[k] for k in known][::-1])
            # Halfway between the limit and what is close enough to it.
            count = int(np.argmax(expected <= asked * (1 + _CLOSE) / 2)) or last
            if count in tried:
                break
            tried[count] = measure(count)
            if _CLOSE * asked <= tried[count] <= asked:
                return count
        return min(count for count, time in tried.items() if time <= asked)


@dataclasses.dataclass(frozen=True)
class Speedup(Milliseconds):
    """At least so many times as fast as the dense model, measured on this machine.

    Args:
        limit: the factor, greater than 1: 2.0 for twice as fast.
        x, table, run, repeats, verbose: as for `Milliseconds`.

    Raises:
        ValueError: as `Milliseconds`.

    Example:
        >>> Speedup(2.0, np.ones((1, 4))).asked(dense=3.0)
        1.5
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("limit", self.limit, above=1, hint="2.0 for twice as fast")

    def asked(self, dense: float) -> float:
        return dense + (dense / self.limit - dense) * self.way

    def measure_beside(self, model: Model, dense: Model, cost: float) -> float:
        # In turn: what slows the machine for a while must not look like a speed-up, or undo one.
        repeats = max(self.repeats // _TURNS, 1)
        times = [time_of(one, self.x, self.run, repeats) for one in (model, dense) * _TURNS]
        return cost * float(np.median(np.divide(times[::2], times[1::2])))


def _layer_terms(layer, path, table, slices):
    """The term of one layer, if its width can change: straight lines between measured points."""
    kernel = getattr(layer, "pointwise_kernel", None)
    kernel = getattr(layer, "cell", layer).kernel if kernel is None else kernel
    axes = slices.get(id(kernel), {})
    inputs, units = (axes.get(len(kernel.shape) - back) for back in (2, 1))
    if isinstance(layer, _L.Conv2DTranspose):
        inputs, units = units, inputs
    if not _COUNTS[type(layer)]:
        units = None  # a depthwise convolution makes as many as come in
    if inputs is None and units is None:
        return
    rows = table[table["layer"] == path].sort_values(["inputs", "units"])
    if not len(rows):
        raise ValueError(
            f"table: it has no rows of {path!r}; make it with ap.budgets.latency_table(model), of "
            "this model"
        )
    if inputs is None or units is None:
        own, name = (units, "units") if inputs is None else (inputs, "inputs")
        times = rows.groupby(name)["time_ms"].last()  # at the full width of the other
        yield Term((own,), _straight(times.index.to_numpy(float), _rising(times), len(own)))
        return
    grid = rows.pivot_table(index="inputs", columns="units", values="time_ms")
    points = grid.index.to_numpy(float), grid.columns.to_numpy(float)
    if min(map(len, points)) == 1:  # of one channel there is one width
        at = 0 if len(points[0]) > 1 else 1
        own = (inputs, units)[at]
        yield Term((own,), _straight(points[at], _rising(grid).ravel(), len(own)))
        return
    found = RegularGridInterpolator(points, _rising(grid), bounds_error=False, fill_value=None)
    each = points[0][-1] / len(inputs), points[1][-1] / len(units)
    yield Term((inputs, units), lambda a, b: max(float(found((a * each[0], b * each[1]))[()]), 0.0))


def _rising(table):
    """Times that rise with each width: noise must not say that a narrower layer takes longer."""
    times = table.to_numpy(float)
    for axis in range(times.ndim):
        times = np.maximum.accumulate(times, axis)
    return times * (1 + _SLOPE * sum(np.indices(times.shape)))


def _straight(points, times, length):
    each = points[-1] / length
    return lambda width: float(np.interp(width * each, points, times))
