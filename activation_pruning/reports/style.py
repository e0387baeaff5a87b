"""The look that all pictures share, and how a picture is saved."""

import functools
import math
from pathlib import Path

import seaborn as sns
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import AutoLocator, MaxNLocator, PercentFormatter

from activation_pruning.support.files import replacing

from .files import PALETTE, one_of

WIDTH = 7.2  # inches, the text width of an A4 or letter page: 9-point type prints as 9 points
HALO = [withStroke(linewidth=4, foreground="white")]  # keeps a number readable on lines
_MARKERS = "osD^vPX"
_LINES = ("-", "--", (0, (1, 1)), "-.", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 2)))
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


def styled(draw):
    """Draw in the package's style, without changing the user's; a decorator."""

    @functools.wraps(draw)
    def drawn(*args, **kwargs):
        with rc_context({**sns.axes_style("ticks"), **_RC}):
            return draw(*args, **kwargs)

    return drawn


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


def looks(arms):
    """Colour, marker and line of every arm, in order of appearance.

    Args:
        arms: names, which may repeat.

    Returns:
        dict from arm to keyword arguments of `Axes.plot`.

    Example:
        >>> {arm: look["marker"] for arm, look in looks(["magnitude", "random"]).items()}
        {'magnitude': 'o', 'random': 's'}
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


def head(figure, title, note):
    """Write the title, bold, and below it the note, at the top left."""
    title = figure.suptitle(f"{title}\n ", x=0.01, ha="left", fontsize=10, fontweight="bold")
    # The note takes the second line of the title, whose height the layout has reserved.
    place = {"xycoords": title, "annotation_clip": False, "in_layout": False}
    figure.axes[0].annotate(note, (0, 0), ha="left", va="bottom", fontsize=9.5, **place)


def legend(figure, ax):
    """Name the lines of one panel, for all panels, below them."""
    handles, labels = ax.get_legend_handles_labels()
    four = len(labels) == 4 and sum(map(len, labels)) <= 60  # they fit in one line
    columns = 4 if four else min(len(labels), 3)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def panels(count, sharey):
    """A figure with a grid of `count` panels, two side by side."""
    columns = min(count, 2)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(WIDTH, 1.3 + 2.4 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=sharey)


def label_bottom(grid, count, label):
    """Hide the panels after `count`; label the x axis of the last panel of each column."""
    for i, ax in enumerate(grid.ravel()):
        ax.set_visible(i < count)
        last = i + grid.shape[1] >= count
        ax.set_xlabel(label if last else "")
        ax.tick_params(labelbottom=last)


def percent(axis):
    """Label the ticks of an axis in percent, by whole ones where it spans more than 5 %."""
    if isinstance(axis.get_major_locator(), AutoLocator):  # not where ticks have been set
        axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10]))  # no tick at 92.5 %
    low, high = axis.get_view_interval()
    axis.set_major_formatter(PercentFormatter(1, decimals=0 if high - low > 0.05 else None))


def share(value):
    """A fraction as text, in percent, with a decimal where it has one.

    Example:
        >>> share(0.8), share(0.995)
        ('80%', '99.5%')
    """
    whole = abs(value * 100 - round(value * 100)) < 1e-9
    return f"{value:.0%}" if whole else f"{value:.1%}"


def count_runs(runs):
    """Smallest and largest number of runs, in words.

    Example:
        >>> import numpy as np
        >>> count_runs(np.array([3, 3])), count_runs(np.array([2, 3]))
        ('3 runs', '2 to 3 runs')
    """
    low, high = int(runs.min()), int(runs.max())
    return f"{high} run{'s' * (high > 1)}" if low == high else f"{low} to {high} runs"


def spread(runs):
    """How the intervals of a picture were made, in words, from the number of runs of each.

    Example:
        >>> import numpy as np
        >>> spread(np.array([3, 3])), spread(np.array([1]))
        ('mean and 95 % t-interval over 3 runs', 'one run each')
    """
    return f"mean and 95 % t-interval over {count_runs(runs)}" if runs.max() > 1 else "one run each"


def words(name):
    """A column's name as it reads in a picture: ``test_accuracy`` is "test accuracy"."""
    return name.replace("_", " ")
