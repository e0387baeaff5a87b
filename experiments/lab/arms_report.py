"""What experiments that compare arms at several settings have in common: tables, words, pictures.

Tables of runs are those of `lab.differences`, with more that was measured.
"""

from collections.abc import Callable

import pandas as pd

from activation_pruning.reports import figures, statistics, workbook
from lab import differences, publication, words
from lab.differences import METRIC
from lab.publication import Picture

ABOUT = "Mean over the seeds; _ci95 is the half-width of the 95 % t-interval."


def tables(runs: pd.DataFrame, by: list[str], baseline: str, metrics: list[str]) -> dict:
    """Sheets by title: summary, paired differences to the baseline, mean ranks, runs."""
    pairs = differences.to_baseline(runs, baseline)
    found = {
        "Summary": statistics.summary(runs, ["arm", *by], [METRIC, *metrics]),
        "Differences": differences.by_setting(pairs, by),
        "Differences overall": differences.overall(pairs, by),
    }
    ranked = whole_blocks(runs, by)
    if ranked["arm"].nunique() > 1:
        found["Ranks"] = statistics.ranks(ranked, METRIC, blocks=("seed", *by))
    return found | {"Runs": runs}


def whole_blocks(runs: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The runs of the seeds and settings that have all arms: only those can be ranked."""
    arms = runs["arm"].nunique()
    sizes = runs.groupby(["seed", *by])["arm"].transform("nunique")
    return runs[sizes == arms]


def findings(runs: pd.DataFrame, found: dict, by: list[str], where) -> list[str]:
    """Say in plain words what the numbers say, whoever wins.

    where: values of a setting -> its words, such as "80 % sparsity".
    """
    lines = [
        f"{where(*values)}, best mean first: {words.order(rows)}."
        for values, rows in runs.groupby(by, sort=False)
    ]
    if "Ranks" in found:
        lines.append(ranked(found["Ranks"]))
    return lines + differences.told(found["Differences"], found["Differences overall"])


def ranked(ranks: pd.DataFrame, by: str = "arm") -> str:
    """The order of the mean ranks in words, and what it is worth."""
    order = ", ".join(f"{row[by]} {row['mean_rank']:.2f}" for row in ranks.to_dict("records"))
    blocks = int(ranks["blocks"].iloc[0])
    if not ranks["enough"].iloc[0]:
        return f"Mean ranks, of {blocks} blocks, too few to tell any two apart: {order}."
    letters = sorted(set("".join(ranks["groups"])))
    groups = [list(ranks.loc[ranks["groups"].str.contains(g, regex=False), by]) for g in letters]
    alike = "; ".join(", ".join(group) for group in groups if len(group) > 1)
    told = f"Not told apart: {alike}." if alike else "Any two are told apart."
    return f"Mean ranks, of {blocks} blocks: {order}. {told}"


def pictures(runs: pd.DataFrame, found: dict, name: str, title: str, by: list[str]) -> dict:
    """Accuracy by arm against the first column of the setting, panels by the second; the ranks."""
    panel = by[1] if len(by) > 1 else None
    if runs[by[0]].nunique() > 1:
        figure = figures.mean_curves(runs, by[0], METRIC, panel=panel, title=title)
    else:
        one = by[0] if panel is None else panel
        figure = figures.mean_dots(runs, METRIC, one, title=title)
    drawn = {name: Picture(title, figure), f"{name}_ranks": None}
    if "Ranks" in found:
        ranks = figures.ranking(found["Ranks"], title=f"{title}: mean ranks")
        drawn[f"{name}_ranks"] = Picture("Mean ranks", ranks, "1 is the best.")
    return drawn


def compared(
    runs: pd.DataFrame,
    name: str,
    title: str,
    baseline: str,
    by: tuple[str, ...] = ("target_sparsity",),
    metrics: tuple[str, ...] = ("train_accuracy", "sparsity", "epochs", "time_s"),
    about: str = "",
    more: dict | None = None,
    told: list[str] = (),
    where: Callable[..., str] = lambda sparsity: f"{sparsity:.1%} sparsity",
) -> publication.Publication:
    """What there is to show of arms that are compared at settings.

    runs: see above. baseline: the arm that the others are compared with. by: the columns of a
        setting; the first is a number. more: further sheets. told: further findings. where: the
        values of a setting -> its words.
    """
    by = list(by)
    if runs.empty:
        return publication.nothing([*told, "Nothing to compare: no trial ended as asked for."])
    found = tables(runs, by, baseline, list(metrics))
    return publication.Publication(
        name=name,
        title=title,
        findings=[*told, *findings(runs, found, by, where)],
        about=f"{ABOUT} {about}".strip(),
        tables=found | (more or {}),
        charts=[workbook.Chart("Summary", by[0], METRIC, "arm", panel=(by[1:] or [None])[0])],
        pictures=pictures(runs, found, name, title, by),
        on_page=("Differences overall", "Differences", "Ranks"),
    )
