"""The look that all pictures share, what several of them draw, and how one is saved."""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import seaborn as sns
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import AutoLocator, MaxNLocator, PercentFormatter

from activation_pruning.reports.formats import PALETTE
from activation_pruning.reports.tables import one_of
from activation_pruning.support import texts, types
from activation_pruning.support.files import check_path, replacing
from activation_pruning.support.types import Array, Table

WIDTH = 7.2  # inches, the text width of an A4 or letter page: 9-point type prints as 9 points
REFERENCE: dict[str, Any] = {"color": "#444444", "linestyle": (0, (6, 3)), "linewidth": 1.2}
_MARKERS = "osD^vPX"
_LINES = ("-", "--", (0, (1, 1)), "-.", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 2)))
_SIZES = ("font.size", "axes.titlesize", "axes.labelsize", "legend.fontsize")
_RC: dict[str, Any] = dict.fromkeys((*_SIZES, "xtick.labelsize", "ytick.labelsize"), 9)
_RC |= {"legend.frameon": False, "axes.grid": True, "grid.color": "#e3e3e3"}
_RC |= {"axes.spines.top": False, "axes.spines.right": False}
_STYLE = rc_context(sns.axes_style("ticks") | _RC)
Draw = TypeVar("Draw", bound=Callable[..., Figure])


def styled(draw: Draw) -> Draw:
    """A decorator of what draws: in the package's style, without changing the user's.

    Names in the arguments are drawn as they are: no formulas between dollar signs, and no
    characters that a picture cannot hold.

    Example:
        >>> styled(lambda title: title)("a$b$")
        'a\\\\$b\\\\$'
    """
    drawn = _STYLE(draw)

    @functools.wraps(draw)
    def drawing(*args: Any, **options: Any) -> Figure:
        found = texts.translated([list(args), options], _drawable)
        return drawn(*found[0], **found[1])

    return cast(Draw, drawing)


def _drawable(text):
    return texts.for_xml(text).replace("$", r"\$")


def save(figure: Figure, path: types.Path, dpi: float = 150) -> Path:
    """Save a figure; the file appears complete or not at all.

    Args:
        path: file ending in .png, .svg or .pdf, else ValueError; missing folders are made. OSError
            where it cannot be written.
        dpi: dots per inch of a .png.

    Example:
        >>> save(figure, "reports/accuracy.png")                        # doctest: +SKIP
        PosixPath('reports/accuracy.png')
    """
    path = check_path(path)
    one_of(path.suffix.lower(), (".png", ".svg", ".pdf"), "picture suffix")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format=path.suffix.lower().lstrip("."))
    return path


def looks(arms: Iterable[Any]) -> dict[Any, dict[str, Any]]:
    """Colour, marker and line of every arm, in order of appearance, as `Axes.plot` takes them.

    Example:
        >>> [look["marker"] for look in looks(["magnitude", "random"]).values()]
        ['o', 's']
    """
    return {
        arm: {
            "color": PALETTE[i % len(PALETTE)],
            "marker": _MARKERS[(i + 2 * (i // len(_MARKERS))) % len(_MARKERS)],
            "linestyle": _LINES[(i + i // len(_LINES)) % len(_LINES)],
            "linewidth": 1.5,
            "markersize": 5.5,
        }
        for i, arm in enumerate(dict.fromkeys(arms))
    }


def greys(count: int, lightest: float) -> list[str]:
    """Shades of grey from light to black, for what follows in time."""
    return [str(shade) for shade in (np.linspace(lightest, 0.0, count) if count > 1 else [0.0])]


def parts(table: Table, column: str | None, least: int = 1) -> list[tuple[Any, Table]]:
    """(value, its rows) of each value of a column; ("", table) where there are none, or few."""
    values = table[column].dropna().unique() if column in table else []
    found = [(value, table[table[column] == value]) for value in values]
    return found if len(found) >= max(least, 1) else [("", table)]


def panels(
    titles: Sequence[Any], columns: int = 2, base: float = 1.3, row: float = 2.4, **share: Any
) -> tuple[Figure, Array]:
    """A figure with a grid of panels, one for each title, at most `columns` side by side.

    base, row: inches of height, around the panels and for each row. share: sharex, sharey.
    """
    columns = min(len(titles), columns)
    rows = math.ceil(len(titles) / columns)
    figure = Figure(figsize=(WIDTH, base + row * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **share)
    for ax, title in itertools.zip_longest(grid.ravel(), titles):
        ax.set_title(title or "")
        ax.set_visible(title is not None)
    return figure, grid


def label(grid: Array, x: str, y: str = "", own_ticks: bool = False) -> None:
    """Label the panels at the bottom and at the left; own_ticks: each x axis shows its numbers."""
    count = sum(ax.get_visible() for ax in grid.ravel())
    for i, ax in enumerate(grid.ravel()):
        last = i + grid.shape[1] >= count
        ax.set_xlabel(x if last else "")
        ax.tick_params(labelbottom=last or own_ticks)
    for ax in grid[:, 0] if y else ():
        ax.set_ylabel(y)


def name_rows(ax: Axes, names: Sequence[str]) -> None:
    """A row for each name, the first at the top."""
    ax.set_yticks(range(len(names)), names)
    if not any(names):
        ax.tick_params(axis="y", length=0)  # no tick that stands for nothing
    ax.set_ylim(len(names) - 0.5, -0.5)


def percent(axis: Axis) -> None:
    """Label the ticks of an axis in percent, by whole ones where it spans more than 5 %."""
    if isinstance(axis.get_major_locator(), AutoLocator):  # not where ticks have been set
        axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10]))  # no tick at 92.5 %
    low, high = axis.get_view_interval()
    axis.set_major_formatter(PercentFormatter(1, decimals=0 if high - low > 0.05 else None))


def number(ax: Axes, text: str, x: float, y: float, shift: tuple[int, int], **place: Any) -> None:
    """Write a number beside a point, shifted by points of type; it stays readable on lines."""
    place["path_effects"] = [withStroke(linewidth=4, foreground="white")]
    ax.annotate(text, (x, y), xytext=shift, textcoords="offset points", **place)


def finish(figure: Figure, ax: Axes | None, title: str, *notes: str) -> Figure:
    """Write the title, bold, and the notes that are not empty at the top left; add the legend.

    ax: whose lines stand in the legend, below the panels; None for none.
    """
    above = figure.suptitle(f"{title}\n ", x=0.01, ha="left", fontsize=10, fontweight="bold")
    # The notes take the second line of the title, whose height the layout has reserved.
    figure.axes[0].annotate(
        "; ".join(filter(None, notes)), (0, 0), xycoords=above, annotation_clip=False,
        in_layout=False, ha="left", va="bottom", fontsize=9.5,
    )  # fmt: skip
    if ax is not None:
        handles, labels = ax.get_legend_handles_labels()
        four = len(labels) == 4 and sum(map(len, labels)) <= 60  # they fit in one line
        columns = 4 if four else min(len(labels), 3)
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    return figure


def share(value: float) -> str:
    """A fraction as text, in percent, with a decimal where it has one: 80%, 99.5%."""
    whole = abs(value * 100 - round(value * 100)) < 1e-9
    return f"{value:.0%}" if whole else f"{value:.1%}"


def count_runs(runs: Any) -> str:
    """Smallest and largest number of runs, in words: "3 runs", "2 to 3 runs"."""
    low, high = int(runs.min()), int(runs.max())
    return f"{high} run{'s' * (high > 1)}" if low == high else f"{low} to {high} runs"


def spread(runs: Any) -> str:
    """How the intervals of a picture were made, in words, from the number of runs of each."""
    return f"mean and 95 % t-interval over {count_runs(runs)}" if runs.max() > 1 else "one run each"


def words(name: str) -> str:
    """A column's name as it reads in a picture: ``test_accuracy`` is "test accuracy"."""
    return name.replace("_", " ")
