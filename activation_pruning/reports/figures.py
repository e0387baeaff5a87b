"""Pictures of a pruning: each function takes a tidy table and returns a matplotlib Figure.

Arms and layers differ by line, marker and lightness as well as by hue, so that a grey print is
readable. No window opens and nothing is left in pyplot's memory.
"""

import functools
import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import rc_context
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, PercentFormatter

from .files import PALETTE, one_of, replacing

_WIDTH = 7.2  # inches, the text width of an A4 or letter page: 9-point type prints as 9 points
_MARKERS = "osD^vPX"
_LINES = ("-", "--", (0, (1, 1)), "-.", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 2)))
_HALO = [withStroke(linewidth=4, foreground="white")]  # keeps a number readable on lines
_RC = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def _styled(draw):
    """Draw in the package's style, without changing the user's."""

    @functools.wraps(draw)
    def styled(*args, **kwargs):
        with rc_context({**sns.axes_style("ticks"), **_RC}):
            return draw(*args, **kwargs)

    return styled


def save(figure, path, dpi=150):
    """Save a figure; the file appears complete or not at all.

    Args:
        figure: a matplotlib Figure.
        path: file ending in .png, .svg or .pdf; missing folders are made.
        dpi: dots per inch of a .png.

    Returns:
        The path, as a `Path`.

    Raises:
        ValueError: another suffix.
        OSError: the file cannot be written; the message names it.

    Example:
        >>> save(figure, "reports/accuracy.png")                        # doctest: +SKIP
        PosixPath('reports/accuracy.png')
    """
    path = Path(path)
    one_of(path.suffix.lower(), (".png", ".svg", ".pdf"), "picture suffix")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format=path.suffix.lower().lstrip("."))
    return path


def intervals(results, by, metric, level=0.95):
    """Mean and confidence interval of a metric over the runs of each group.

    mean ± t · s / √n, with t the two-sided quantile of Student's t with n - 1 degrees of freedom
    and s the sample standard deviation. One run has a mean and no interval (NaN).

    Args:
        results: tidy, one row per run.
        by: columns that make a group.
        metric: column of numbers; missing ones do not count as runs.
        level: confidence, in (0, 1).

    Returns:
        DataFrame: the `by` columns, the mean under the metric's own name, `<metric>_low`,
        `<metric>_high`, runs; groups in order of appearance.

    Raises:
        ValueError: a column is missing or empty.

    Example:
        >>> runs = pd.DataFrame({"arm": ["a", "a", "a"], "accuracy": [0.7, 0.8, 0.9]})
        >>> intervals(runs, ["arm"], "accuracy").round(4).values.tolist()
        [['a', 0.8, 0.5516, 1.0484, 3]]
    """
    _need(results, "intervals", *by, metric)
    grouped = results.groupby(list(by), sort=False, observed=True)[metric]
    table = grouped.agg(["mean", "std", "count"]).reset_index()
    quantiles = {n: _t_quantile(n - 1, level) for n in table["count"].unique() if n > 1}
    half = table["count"].map(quantiles) * table["std"] / np.sqrt(table["count"])
    names = {metric: table["mean"], f"{metric}_low": table["mean"] - half}
    names |= {f"{metric}_high": table["mean"] + half, "runs": table["count"]}
    return table[list(by)].assign(**names)


def _t_quantile(freedom, level):
    """t with P(|T| < t) = level, by bisection of the angle atan(t / √freedom)."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_within(middle, freedom) < level else (low, middle)
    return math.tan(low) * math.sqrt(freedom)


def _t_within(angle, freedom):
    """P(|T| < tan(angle) √freedom): the finite series of Abramowitz & Stegun, 26.7.3 and 26.7.4."""
    odd = freedom % 2
    term, total = (math.cos(angle), 0.0) if odd else (1.0, 0.0)
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= math.cos(angle) ** 2 * k / (k + 1)
    inside = math.sin(angle) * total
    return (angle + inside) * 2 / math.pi if odd else inside


@_styled
def accuracy_against_sparsity(results, metric="test_accuracy", reference=None):
    """Accuracy against sparsity: mean and 95 % t-interval over the seeds, one line per arm.

    Args:
        results: one row per run: arm, sparsity (in [0, 1]), the metric, and, for one panel per
            value, events.
        metric: column to draw, in [0, 1].
        reference: the metric's values of the dense runs, drawn as a line with its interval.

    Returns:
        The figure.

    Raises:
        ValueError: the table is empty, or lacks a column.

    Example:
        >>> runs = pd.DataFrame({"arm": "magnitude", "sparsity": [0.8, 0.9],
        ...                      "test_accuracy": [0.98, 0.97]})
        >>> len(accuracy_against_sparsity(runs).axes)
        1
    """
    _need(results, "accuracy_against_sparsity", "arm", "sparsity", metric)
    panels = _levels(results, "events")
    keys = ["arm", "sparsity", *(["events"] if "events" in results else [])]
    table = intervals(results, keys, metric)
    looks = _looks(table["arm"])
    offsets = _dodge(table["sparsity"], looks)
    figure = Figure(figsize=(_WIDTH, 4.4), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, ax in zip(panels, axes, strict=True):
        part = table if panel is None else table[table["events"] == panel]
        if reference is not None:
            _draw_reference(ax, reference)
        for arm, rows in part.groupby("arm", sort=False, observed=True):
            rows = rows.sort_values("sparsity")
            bars = (rows[metric] - rows[f"{metric}_low"]).fillna(0)
            ax.errorbar(
                rows["sparsity"] + offsets[arm], rows[metric], bars, label=arm, capsize=3,
                elinewidth=1, **looks[arm],
            )  # fmt: skip
        ticks = sorted(part["sparsity"].unique())
        ax.set_xticks(ticks, [f"{tick:.0%}" if _whole(tick) else f"{tick:.1%}" for tick in ticks])
        _percent(ax.yaxis)
        ax.set_xlabel("sparsity (% of the weights pruned)")
        if panel is not None:
            ax.set_title(f"{panel} pruning events")
    name = _words(metric)
    axes[0].set_ylabel(f"{name} (%)")
    runs = _range(table["runs"])
    spread = f"mean and 95 % t-interval over {runs}" if table["runs"].max() > 1 else "one run each"
    _head(figure, f"{name.capitalize()} against sparsity", spread)
    _legend(figure, axes[0])
    return figure


def _draw_reference(ax, values):
    values = pd.DataFrame({"arm": "dense", "value": np.ravel(np.asarray(values, dtype=float))})
    row = intervals(values, ["arm"], "value").iloc[0]
    label = "dense" if row["runs"] == 1 else "dense, mean and interval"
    ax.axhline(row["value"], color="#444444", linestyle=(0, (6, 3)), linewidth=1.2, label=label)
    if row["runs"] > 1:
        ax.axhspan(row["value_low"], row["value_high"], color="#444444", alpha=0.12, linewidth=0)


def _dodge(sparsity, looks):
    """A small shift per arm, so that the error bars stand side by side."""
    gap = np.diff(np.sort(sparsity.unique())).min(initial=0.05)
    count = len(looks)
    return {arm: 0.4 * gap * ((i + 0.5) / count - 0.5) for i, arm in enumerate(looks)}


@_styled
def training_curves(history, events):
    """Training and validation accuracy by epoch, with the pruning events and their sparsity.

    One panel per arm, one thin pair of curves per seed; below each, the sparsity. Dotted vertical
    lines mark the events of the first seed, labelled with the sparsity reached.

    Args:
        history: one row per epoch and run: arm, seed, epoch, train_accuracy,
            validation_accuracy, sparsity (fractions).
        events: one or more rows per event and run: arm, seed, epoch, total_sparsity; epochs
            counted as in `history`. May have no rows (a dense run).

    Returns:
        The figure.

    Raises:
        ValueError: `history` is empty, or a column is missing.

    Example:
        >>> history = pd.DataFrame({"arm": "a", "seed": 0, "epoch": [0, 1], "sparsity": [0, 0.5],
        ...                         "train_accuracy": 0.9, "validation_accuracy": 0.8})
        >>> events = pd.DataFrame({"arm": ["a"], "seed": 0, "epoch": 1, "total_sparsity": 0.5})
        >>> [ax.get_ylabel() for ax in training_curves(history, events).axes]
        ['accuracy (%)', 'sparsity (%)']
    """
    curves = {"train_accuracy": ("--", "#7a9cc6"), "validation_accuracy": ("-", PALETTE[0])}
    _need(history, "training_curves", "arm", "seed", "epoch", "sparsity", *curves)
    _need(events, "training_curves", "arm", "seed", "epoch", "total_sparsity", empty=True)
    arms = list(history["arm"].unique())
    columns = min(len(arms), 3)
    lines = math.ceil(len(arms) / columns)
    figure = Figure(figsize=(_WIDTH, 1.0 + 2.9 * lines), layout="constrained")
    grid = figure.subplots(
        2 * lines, columns, squeeze=False, sharex=True, sharey="row",
        height_ratios=[2.2, 1] * lines,
    )  # fmt: skip
    low, high = history[list(curves)].min().min(), history[list(curves)].max().max()
    for i, arm in enumerate(arms):
        line, column = divmod(i, columns)
        top, bottom = grid[2 * line : 2 * line + 2, column]
        runs = history[history["arm"] == arm].sort_values("epoch")
        for seed, run in runs.groupby("seed"):
            first = seed == runs["seed"].min()
            strength = {"lw": 1.3, "zorder": 3} if first else {"lw": 0.9, "alpha": 0.35}
            for name, (style, colour) in curves.items():
                label = _words(name) if first else None
                top.plot(run["epoch"], run[name], style, color=colour, label=label, **strength)
            bottom.step(run["epoch"], run["sparsity"], where="post", color=PALETTE[0], **strength)
        marks = events[(events["arm"] == arm) & (events["seed"] == runs["seed"].min())]
        _mark_events(top, bottom, marks.drop_duplicates("epoch"))
        top.set_title(arm)
        bottom.set_xlabel("epoch" if i + columns >= len(arms) else "")
        bottom.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        for ax, name in ((top, "accuracy (%)"), (bottom, "sparsity (%)")):
            _percent(ax.yaxis)
            ax.set_ylabel(name if column == 0 else "")
        top.set_ylim(low - 0.03 * (high - low), high + 0.03 * (high - low))
        bottom.set_ylim(0, 1.25)
        bottom.set_yticks([0, 0.5, 1])
        bottom.tick_params(labelbottom=i + columns >= len(arms))
    for ax in grid.T.ravel():
        ax.set_visible(ax.has_data())
    seeds = history.groupby("arm")["seed"].nunique()
    note = f"{_range(seeds)} per arm, the first in full strength; dotted lines: its pruning events"
    _head(figure, "Accuracy while training and pruning", note)
    _legend(figure, grid[0, 0])
    return figure


def _mark_events(top, bottom, marks):
    """Vertical lines through both panels; a label where it does not touch the last one."""
    end, labelled = top.get_xlim()[1] - top.get_xlim()[0], -math.inf
    for _, mark in marks.sort_values("epoch", ascending=False).iterrows():
        for ax in (top, bottom):
            ax.axvline(mark["epoch"], color="#777777", linestyle=":", linewidth=1)
        bottom.plot(mark["epoch"], mark["total_sparsity"], "o", color=PALETTE[0], markersize=3.5)
        # Backwards, so that the sparsity reached last always has its label.
        if labelled == -math.inf or labelled - mark["epoch"] > 0.2 * end:
            bottom.annotate(
                f"{mark['total_sparsity']:.0%}", (mark["epoch"], mark["total_sparsity"]),
                xytext=(-3, 3), textcoords="offset points", ha="right", path_effects=_HALO,
            )  # fmt: skip
            labelled = mark["epoch"]


@_styled
def activation_frequency(activity):
    """Activation frequency of every unit, sorted, one panel per layer; dead units are counted.

    A dead unit has frequency 0. Several seeds of an arm are pooled.

    Args:
        activity: one row per unit: layer, unit, frequency (in [0, 1]), and, for one line per
            value, arm.

    Returns:
        The figure.

    Raises:
        ValueError: the table is empty, or lacks a column.

    Example:
        >>> activity = pd.DataFrame({"layer": "dense", "unit": [0, 1], "frequency": [0.0, 0.5]})
        >>> activation_frequency(activity).axes[0].texts[0].get_text()
        '1 of 2 units dead'
    """
    _need(activity, "activation_frequency", "layer", "unit", "frequency")
    layers, arms = list(activity["layer"].unique()), _levels(activity, "arm", least=1)
    looks = _looks([""] if arms == [None] else arms)
    columns = min(len(layers), 3 if len(layers) > 4 and arms == [None] else 2)
    lines = math.ceil(len(layers) / columns)
    height = 1.2 + (1.8 + 0.15 * len(arms)) * lines  # room for a line of text per arm
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for ax, layer in zip(grid.ravel(), layers, strict=False):
        part, notes = activity[activity["layer"] == layer], []
        for arm in arms:
            units = part if arm is None else part[part["arm"] == arm]
            notes.append(_sorted_curve(ax, units["frequency"].dropna(), arm, looks[arm or ""]))
        ax.set_title(layer)
        ax.text(0.98, 0.96, "\n".join(notes), transform=ax.transAxes, ha="right", va="top")
        _percent(ax.xaxis)
        _percent(ax.yaxis)
        ax.set_ylim(-0.02, 1.02)
    _label_bottom(grid, len(layers), "units, most active first (%)")
    figure.supylabel("activation frequency (% of samples)", fontsize=9)
    _head(figure, "How often each unit is active", "dead: never active on the samples counted")
    if arms != [None]:
        _legend(figure, grid[0, 0])
    return figure


def _sorted_curve(ax, frequency, arm, look):
    """One line over the units' rank; returns the count of dead units in words."""
    values = np.sort(frequency.to_numpy())[::-1]
    share = (np.arange(len(values)) + 0.5) / max(len(values), 1)
    look = {**look, "marker": ""}
    ax.plot(share, values, label=arm, **look)
    if arm is None:
        ax.fill_between(share, values, color=look["color"], alpha=0.15, linewidth=0)
    dead = f"{int((values == 0).sum())} of {len(values)} units dead"
    return dead if arm is None else f"{arm}: {dead}".replace(" units", "")


@_styled
def mask_heatmap(masks):
    """Masks as pictures: one column per layer, one row per arm; dark is alive.

    A mask larger than 64 x 64 is shown by blocks, each with its share of weights alive.

    Args:
        masks: layer -> 2-D bool array (inputs, units), True = alive; or arm -> such a dict.
            Reshape a convolution's mask to ``mask.reshape(-1, filters)``.

    Returns:
        The figure.

    Raises:
        ValueError: there is no mask, or one is not two-dimensional.

    Example:
        >>> mask_heatmap({"dense": np.eye(4, dtype=bool)}).axes[0].get_title()
        'dense, 4 × 4\\n25.0% alive'
    """
    by_arm = masks if masks and isinstance(next(iter(masks.values())), dict) else {None: masks}
    layers = list(dict.fromkeys(layer for arm in by_arm.values() for layer in arm))
    if not layers:
        raise ValueError("mask_heatmap: masks is empty; give a dict of layer -> 2-D bool array")
    shares = {(a, n): _blocks(n, m) for a, group in by_arm.items() for n, m in group.items()}
    if len(layers) <= 5:
        places, columns = [(a, n) for a in by_arm for n in layers], len(layers)
    else:  # too many to stand side by side
        places, columns = [(a, n) for n in layers for a in by_arm], min(len(by_arm), 4)
        columns = 4 if columns == 1 else columns
    lines = math.ceil(len(places) / columns)
    figure = Figure(figsize=(_WIDTH, 0.9 + 2.1 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    top = max(0.1, math.ceil(10 * max(share.max() for share in shares.values())) / 10)
    for ax, place in itertools.zip_longest(grid.ravel(), places):
        ax.set_visible(place in shares)
        if place in shares:
            _draw_mask(ax, place, np.asarray(by_arm[place[0]][place[1]]), shares[place], top)
    scale = ScalarMappable(Normalize(0, top), "Greys")
    bar = figure.colorbar(scale, ax=grid, aspect=40, pad=0.02, format=PercentFormatter(1))
    bar.set_label("share of weights alive (%)")
    figure.supxlabel("output units, left to right", fontsize=9)
    figure.supylabel("inputs, top to bottom", fontsize=9)
    _head(figure, "Where the surviving weights are", "by blocks of weights; dark: many are alive")
    return figure


def _draw_mask(ax, place, mask, shares, top):
    arm, layer = place
    ax.imshow(shares, cmap="Greys", vmin=0, vmax=top, aspect="auto", interpolation="none")
    title = f"{layer}, {mask.shape[0]} × {mask.shape[1]}\n{mask.mean():.1%} alive"
    ax.set_title(title if arm is None else f"{arm}\n{title}")
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
    sns.despine(ax=ax, top=False, right=False)


def _blocks(layer, mask, most=64):
    """Shares alive of at most `most` x `most` blocks, as equal in size as whole weights allow."""
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.size == 0:
        raise ValueError(
            f"mask_heatmap: the mask of {layer!r} has shape {mask.shape}; give a 2-D array, for a "
            "convolution mask.reshape(-1, filters)"
        )
    sums, counts = mask.astype(float), np.ones(mask.shape)
    for axis, length in enumerate(mask.shape):
        starts = np.unique(np.linspace(0, length, min(length, most), endpoint=False).astype(int))
        sums, counts = (np.add.reduceat(a, starts, axis=axis) for a in (sums, counts))
    return sums / counts


@_styled
def sparsity_by_layer(events):
    """Sparsity of every layer after every event: one row per layer, dots from light to dark.

    Several seeds are averaged.

    Args:
        events: one row per event and site: event, layer, sparsity (in [0, 1]); optionally site
            (names the rows), total_sparsity (drawn as a line), arm (one panel each).

    Returns:
        The figure.

    Raises:
        ValueError: the table is empty, or lacks a column.

    Example:
        >>> events = pd.DataFrame({"event": [1, 2], "layer": "dense", "sparsity": [0.4, 0.8]})
        >>> sparsity_by_layer(events).axes[0].get_xlabel()
        'sparsity (% of the weights pruned)'
    """
    _need(events, "sparsity_by_layer", "event", "layer", "sparsity")
    row = "site" if "site" in events else "layer"
    panels, names = _levels(events, "arm"), list(events[row].unique())
    steps = sorted(events["event"].unique())
    shades = dict(
        zip(steps, np.linspace(0.8, 0.0, len(steps)) if steps[1:] else [0.0], strict=True)
    )
    columns = min(len(panels), 2)
    lines = math.ceil(len(panels) / columns)
    height = 1.3 + lines * (0.6 + 0.27 * len(names))
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for panel, ax in zip(panels, grid.ravel(), strict=False):
        part = events if panel is None else events[events["arm"] == panel]
        _draw_dots(ax, part, row, names, shades)
        ax.set_title(panel or "")
    _label_bottom(grid, len(panels), "sparsity (% of the weights pruned)")
    _head(
        figure, "Sparsity of each layer", "after each event, light to dark; number: after the last"
    )
    _legend(figure, grid[0, 0])
    return figure


def _draw_dots(ax, part, row, names, shades):
    table = part.groupby([row, "event"], sort=False, observed=True)["sparsity"].mean().reset_index()
    last = table["event"].max()
    for event, dots in table.groupby("event"):
        edge = {"markeredgecolor": "#222222", "markeredgewidth": 0.7}
        label = f"event {event}" if event in (min(shades), max(shades)) else None
        where = [names.index(name) for name in dots[row]]
        grey = str(shades[event])
        ax.plot(dots["sparsity"], where, "o", color=grey, label=label, markersize=6, **edge)
        for x, y in zip(dots["sparsity"], where, strict=True):
            if event == last:
                ax.annotate(
                    f"{x:.1%}",
                    (x, y),
                    xytext=(6, 0),
                    textcoords="offset points",
                    va="center",
                    path_effects=_HALO,
                )
    if "total_sparsity" in part:
        total = part.loc[part["event"] == last, "total_sparsity"].mean()
        ax.axvline(total, color="#777777", linestyle="--", lw=1, label="all layers, last event")
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlim(0, 1.14)  # room for the numbers
    ax.set_xticks(np.linspace(0, 1, 6))
    _percent(ax.xaxis)


def _need(table, function, *columns, empty=False):
    """Raise unless the table has rows, and these columns with values in them."""
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"{function}: expected a DataFrame, got a {type(table).__name__}")
    for name in columns:
        one_of(name, list(table.columns), f"{function}: column")
        if not empty and table[name].isna().all():
            what = "the table has no rows" if table.empty else f"column {name!r} has no values"
            raise ValueError(f"{function}: {what}; there is nothing to draw")


def _levels(table, name, least=2):
    """Values of an optional column that make panels or lines; [None] where there is no choice."""
    values = list(table[name].dropna().unique()) if name in table else []
    return values if len(values) >= least else [None]


def _looks(arms):
    """Colour, marker and line of every arm, in order of appearance."""
    looks = {}
    for i, arm in enumerate(dict.fromkeys(arms)):
        looks[arm] = {
            "color": PALETTE[i % len(PALETTE)],
            "marker": _MARKERS[i % len(_MARKERS)],
            "linestyle": _LINES[(i + i // len(_LINES)) % len(_LINES)],
            "linewidth": 1.5,
            "markersize": 5.5,
        }
    return looks


def _head(figure, title, note):
    head = figure.suptitle(f"{title}\n ", x=0.01, ha="left", fontsize=10, fontweight="bold")
    # The note takes the second line of the head, whose height the layout has reserved.
    style = {"xycoords": head, "annotation_clip": False, "in_layout": False}
    figure.axes[0].annotate(note, (0, 0), ha="left", va="bottom", fontsize=9.5, **style)


def _legend(figure, ax):
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 3))


def _label_bottom(grid, count, label):
    """Hide the panels after `count`; label the x axis of the last panel of each column."""
    for i, ax in enumerate(grid.ravel()):
        ax.set_visible(i < count)
        last = i + grid.shape[1] >= count
        ax.set_xlabel(label if last else "")
        ax.tick_params(labelbottom=last)


def _percent(axis):
    low, high = axis.get_view_interval()
    axis.set_major_formatter(PercentFormatter(1, decimals=0 if high - low > 0.05 else None))


def _range(runs):
    low, high = int(runs.min()), int(runs.max())
    return f"{high} run{'s' * (high > 1)}" if low == high else f"{low} to {high} runs"


def _words(name):
    return name.replace("_", " ")


def _whole(share):
    return abs(share * 100 - round(share * 100)) < 1e-9
