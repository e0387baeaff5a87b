"""The files of spectra_under_pruning: ranks, and how large and small singular values shrink."""

from pathlib import Path

import pandas as pd

from activation_pruning.reports import figures, statistics, workbook
from activation_pruning.reports.tables import around_events
from lab import comparison, differences, publication, spectra, words
from lab.publication import Picture

NAME = "spectra_under_pruning"
SETTING = comparison.SETTING
ALL = spectra.ALL
RUN = [*SETTING, "seed"]
KINDS = ("relative_share", "absolute_share")
MEASURES = ("rank_share", "effective_rank_share", "stable_rank", "nuclear", "kernel_sparsity")
# Values below this share of the largest are zeros up to rounding, as in NumPy's rank: 784 * eps.
ZERO = 1e-4

ABOUT = (
    "Mean over the seeds of each layer's kernel at the end of training; _ci95 is the half-width "
    "of the 95 % t-interval. rank_share is the rank in shares of the full one. Layers marked "
    f"'{ALL}' are means over the hidden layers."
)


@publication.publishing
@comparison.of_reached
def publish(records: list[dict], out: Path, options: dict) -> publication.Publication:
    """What there is to show."""
    runs, values = comparison.runs_table(records), spectra.table(records, out)
    ranks, tenths = spectra.ranks_table(records), reductions(values)
    end = ranks[ranks["moment"] == spectra.END]
    sized = large_against_small(tenths)
    tables = {
        "Summary": statistics.summary(end, [*SETTING, "site"], list(MEASURES)),
        "Large and small": sized,
        "Reduction": statistics.summary(tenths, [*SETTING, "tenth"], list(KINDS)),
        "By event": by_event(ranks),
        "Spectra": _shown(values),
        "Norms": publication.rows(records, "norms"),
        "Events": publication.rows(records, "events"),
    }
    charts = [
        workbook.Chart("Reduction", "tenth", kind, "arm", title=f"{_words(kind)} by an event")
        for kind in KINDS
    ]
    charts.append(workbook.Chart("By event", "event", "rank_share", "arm", panel="site"))
    charts.append(workbook.Chart("Spectra", "index", "value", "state", panel="site"))
    return publication.Publication(
        name=NAME,
        title="Singular values under pruning",
        findings=findings(runs, ranks, sized),
        about=ABOUT,
        tables=tables,
        charts=charts,
        pictures=_pictures(values, ranks, tenths),
        on_page=("Large and small",),
    )


def by_event(ranks: pd.DataFrame) -> pd.DataFrame:
    """Ranks before the first event (event 0) and after each: mean and interval by layer."""
    metrics = ["rank_share", "effective_rank_share", "nuclear", "spectral"]
    return statistics.summary(around_events(ranks), [*SETTING, "site", "event"], metrics)


def reductions(values: pd.DataFrame) -> pd.DataFrame:
    """What an event takes from the singular values, by their tenth, one row per run and tenth.

    The values above zero of a layer, largest first, make ten groups as equal as can be: tenth 1
    holds the largest. A layer with fewer than ten such values is left out. relative_share = 1 -
    after / before; absolute_share = (before - after) / the layer's largest value before. Means over
    the values of a tenth, then over layers and events.
    """
    key = [*RUN, "event", "site"]
    before, after = (values[values["moment"] == moment] for moment in ("before", "after"))
    pairs = before.merge(after, on=[*key, "index"], suffixes=("_before", "_after"))
    largest = pairs.groupby(key)["value_before"].transform("max")
    pairs, largest = (part[pairs["value_before"] > ZERO * largest] for part in (pairs, largest))
    alive = pairs.groupby(key)["index"].transform("max")
    pairs, largest, alive = (part[alive >= 10] for part in (pairs, largest, alive))
    change = pairs["value_before"] - pairs["value_after"]
    pairs = pairs.assign(
        tenth=10 * (pairs["index"] - 1) // alive + 1,
        relative_share=change / pairs["value_before"],
        absolute_share=change / largest,
    )
    layers = pairs.groupby([*key, "tenth"])[list(KINDS)].mean()
    return layers.groupby([*RUN, "tenth"]).mean().reset_index()


def large_against_small(tenths: pd.DataFrame) -> pd.DataFrame:
    """The reduction of the largest tenth less that of the smallest, paired within each run."""
    named, tables = "difference_share", []
    for kind in KINDS if len(tenths) else ():
        large, small = (tenths.loc[tenths["tenth"] == tenth, [*RUN, kind]] for tenth in (1, 10))
        found = statistics.differences(large, small, RUN, SETTING, kind, named)
        means = [part.groupby(SETTING)[kind].mean() for part in (large, small)]
        both = pd.concat(means, axis=1, keys=["large_share", "small_share"]).reset_index()
        tables.append(found.merge(both, on=SETTING).assign(reduction=kind))
    return differences.judged(tables, [*SETTING, "reduction", "large_share", "small_share"], named)


def findings(runs: pd.DataFrame, ranks: pd.DataFrame, sized: pd.DataFrame) -> list[str]:
    """Say in plain words what the numbers say."""
    lines = []
    together = ranks[(ranks["site"] == ALL) & (ranks["moment"] == spectra.END)]
    for (arm, sparsity, events), rows in together.groupby(SETTING, sort=False):
        chosen = (runs[SETTING] == [arm, sparsity, events]).all(axis=1)
        how = f"{arm} at {sparsity:.0%} with {events} events" if events else arm
        lines.append(
            f"{how}: the hidden ranks add up to {rows['ranks'].mean():.0f} of "
            f"{rows['full_ranks'].mean():.0f} at the end, effective ranks are "
            f"{rows['effective_rank_share'].mean():.0%} of the full ones, test accuracy "
            f"{runs.loc[chosen, 'test_accuracy'].mean():.2%}."
        )
    told = {statistics.LOWER: "it takes less from large values"}
    told |= {statistics.HIGHER: "it takes more from large values"}
    for row in sized.to_dict("records"):
        lines.append(
            f"{row['arm']} at {row['target_sparsity']:.0%} with {row['events']} events: an event "
            f"changes the largest tenth of the singular values by {-row['large_share']:+.1%} and "
            f"the smallest by {-row['small_share']:+.1%} ({_words(row['reduction'])}): "
            f"{told.get(row['verdict'], row['verdict'])} (difference "
            f"{100 * row['difference_share']:+.1f} points, "
            f"{words.interval(row, 'difference_share', 100)})."
        )
    if len(sized):
        lines.append(
            "A penalty on the sum of the singular values would take the same absolute amount from "
            "small and large ones."
        )
        lines += words.family(sized)
    return lines


def _words(kind):
    of = {"relative_share": "of themselves", "absolute_share": "of the layer's largest value"}
    return f"in shares {of[kind]}"


def _shown(values):
    """The first seed of the arm that stands for the paper: unpruned, and after each event."""
    table = around_events(_first(values[values["arm"] == _shown_arm(values)]))
    return table[["arm", "seed", "site", "state", "index", "value"]]


def _shown_arm(values):
    arms = list(values.loc[values["moment"] == "after", "arm"].unique())
    return "activation_magnitude" if "activation_magnitude" in arms else next(iter(arms), None)


def _first(table):
    """The rows of one run of each arm."""
    one = publication.one_setting(table)
    return one[one["seed"] == one["seed"].min()]


def _pictures(values, ranks, tenths):
    pictures = {}
    for arm, rows in _first(values).groupby("arm", sort=False):
        where = f"{arm}, seed {rows['seed'].iloc[0]}. {publication.where(rows)}"
        if arm == _shown_arm(values):
            figure = figures.singular_values(rows)
            pictures["singular_values"] = Picture(f"Singular values: {arm}", figure, where)
        figure = figures.singular_values(rows, relative=True)
        title = f"Singular values relative to the unpruned network: {arm}"
        pictures[f"singular_values_relative_{arm}"] = Picture(title, figure, where)
    if tenths.empty:
        return pictures
    shown = publication.one_setting(tenths)
    where = publication.where(shown)
    return pictures | _of_tenths(shown, where) | _by_event(ranks, where)


def _of_tenths(shown, where):
    pictures = {}
    for kind, level in (
        ("relative_share", "A level line would be the same factor for all values."),
        ("absolute_share", "A penalty on the nuclear norm would draw a level line."),
    ):
        figure = figures.mean_curves(
            shown, "tenth", kind, title="What a pruning event takes from the singular values",
            note=_words(kind), x_label="tenth of the singular values, largest first",
            y_label="reduction (%)",
        )  # fmt: skip
        title = f"Reduction by an event, {_words(kind)}"
        caption = f"{where} Means over events and hidden layers of each run. {level}"
        pictures[f"reduction_{kind.removesuffix('_share')}"] = Picture(title, figure, caption)
    return pictures


def _by_event(ranks, where):
    pictures = {}
    rows = publication.one_setting(around_events(ranks[ranks["site"] != ALL]))
    for name in ("rank_share", "effective_rank_share"):
        title = name.removesuffix("_share").replace("_", " ").capitalize()
        figure = figures.mean_curves(
            rows, "event", name, panel="site", title=f"{title} of each layer",
            x_label="pruning events", y_label="% of the full rank",
        )  # fmt: skip
        caption = f"{where} 0: unpruned."
        pictures[name.removesuffix("_share")] = Picture(f"{title} by event", figure, caption)
    return pictures
