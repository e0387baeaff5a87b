"""The files of nuclear_norm_equivalence: how far the spectra of two networks are apart."""

import itertools
from pathlib import Path

import pandas as pd

from activation_pruning.reports import figures, statistics, workbook
from lab import comparison, differences, publication, spectra, words
from lab.differences import METRIC, NAMED
from lab.publication import Picture

NAME = "nuclear_norm_equivalence"
REFERENCES = ("activation", "activation_magnitude", "magnitude")
ALL = spectra.ALL
SETTING = comparison.SETTING

ABOUT = (
    "Mean over the seeds at the end of training; _ci95 is the half-width of the 95 % t-interval. "
    "distance_activation is the distance of the spectra to those of the arm activation with the "
    "same seed: the mean of |a_i - b_i| over the singular values a_i, b_i of a layer, each divided "
    "by the layer's largest, and over the layers; 0 for equal spectra, at most 1. A penalty's "
    "strength is part of the arm's name."
)


def publish(records: list[dict], out: Path, options: dict) -> None:
    """As `publication.publishing` says; a penalty's strength becomes part of the arm's name."""
    _publish([_named(record) for record in records], out, options)


@publication.publishing
@comparison.of_reached
def _publish(records, out, options):
    penalties = {r["settings"]["arm"]: r["settings"] for r in records if "penalty" in r["settings"]}
    runs, curves = comparison.runs_table(records), normalised(spectra.table(records, out))
    ranks = spectra.ranks_table(records)
    ranks = ranks[ranks["site"] == ALL].drop(columns=["site", "moment", "event"])
    apart, first = distances(curves), curves[curves["seed"] == curves["seed"].min()]
    tables = {
        "Summary": _summary(runs, ranks, apart),
        "Nearer than dense": nearer_than_dense(apart),
        "Accuracy": accuracy_differences(runs, penalties),
        "Seeds apart": seeds_apart(curves),
        "Distances": apart,
        "Norms": publication.rows(records, "norms"),
        "Spectra": first[["arm", "seed", "site", "index", "value_share"]],
    }
    return publication.Publication(
        name=NAME,
        title="Nuclear-norm regularisation against pruning",
        findings=findings(tables, penalties),
        about=ABOUT,
        tables=tables,
        charts=[workbook.Chart("Spectra", "index", "value_share", "arm", panel="site")],
        pictures=_pictures(penalties, curves, apart),
        on_page=("Nearer than dense", "Accuracy", "Seeds apart"),
    )


def normalised(values: pd.DataFrame) -> pd.DataFrame:
    """The spectra at the end, each divided by its largest value."""
    end = values[values["moment"] == spectra.END]
    largest = end.groupby([*SETTING, "seed", "site"])["value"].transform("max")
    table = end.assign(value_share=end["value"] / largest)
    return table[[*SETTING, "seed", "site", "index", "value_share"]]


def distances(curves: pd.DataFrame) -> pd.DataFrame:
    """Distance of each run to the reference arms of its seed: by layer, and their mean."""
    parts = []
    for reference in REFERENCES:
        other = curves[curves["arm"] == reference].drop(columns="arm")
        other = other.rename(columns={name: f"of_{name}" for name in SETTING[1:]})
        pairs = curves[curves["arm"] != reference].merge(other, on=["seed", "site", "index"])
        parts.append(_mean_gap(pairs.assign(reference=reference), [*SETTING, "seed"]))
    return pd.concat(parts, ignore_index=True)


def seeds_apart(curves: pd.DataFrame) -> pd.DataFrame:
    """Distances between runs of one arm with different seeds: how far chance alone brings them."""
    parts = []
    for first, second in itertools.combinations(sorted(curves["seed"].unique()), 2):
        left, right = (curves[curves["seed"] == seed] for seed in (first, second))
        pairs = left.merge(right.drop(columns="seed"), on=[*SETTING, "site", "index"])
        pairs = pairs.assign(reference="itself", of_target_sparsity=0.0, of_events=0)
        parts.append(_mean_gap(pairs, SETTING).assign(seeds=f"{first}, {second}"))
    if not parts:
        return pd.DataFrame(columns=[*SETTING, "distance", "pairs"])
    table = pd.concat(parts)
    table = table[table["site"] == ALL].groupby(SETTING, sort=False)["distance"]
    return table.agg(["mean", "count"]).set_axis(["distance", "pairs"], axis=1).reset_index()


def nearer_than_dense(apart: pd.DataFrame) -> pd.DataFrame:
    """Distance to a reference less that of the dense network of the seed: "lower" is nearer."""
    together = apart[apart["site"] == ALL]
    on = ["reference", "of_target_sparsity", "of_events", "seed"]
    dense = together.loc[together["arm"] == "dense", [*on, "distance"]]
    others = together[together["arm"] != "dense"]
    parts = [
        statistics.differences(rows, dense, on, on[:-1], "distance").assign(
            **dict(zip(SETTING, setting, strict=True))
        )
        for setting, rows in others.groupby(SETTING, sort=False)
    ]
    return differences.judged(parts, [*on[:-1], *SETTING], "difference")


def accuracy_differences(runs: pd.DataFrame, penalties: dict) -> pd.DataFrame:
    """Test accuracy of the penalised networks less that of the reference arms, by seed."""
    pairs = {
        (arm, reference): (runs[runs["arm"] == arm], runs[runs["arm"] == reference])
        for arm in runs["arm"].unique()
        if arm in penalties
        for reference in ("dense", *REFERENCES)
    }
    parts = []
    for (arm, reference), (first, second) in pairs.items():
        first = first[["seed", METRIC]]
        found = statistics.differences(first, second, ["seed"], SETTING[1:], METRIC, NAMED)
        parts.append(found.assign(first=arm, second=reference))
    return differences.judged(parts, ["first", "second", *SETTING[1:]])


def findings(tables: dict, penalties: dict) -> list[str]:
    """Say in plain words what the numbers say."""
    lines = []
    for row in tables["Summary"].to_dict("records"):
        share, events = row["target_sparsity"], row["events"]
        pruned = f" at {share:.0%} with {events} events" if events else ""
        apart = {name: row.get(f"distance_{name}") for name in REFERENCES}
        near = ", ".join(f"{apart[name]:.3f} to {name}" for name in apart if pd.notna(apart[name]))
        lines.append(
            f"{row['arm']}{pruned}: test accuracy {row['test_accuracy']:.2%}, effective ranks "
            f"{row['effective_rank_share']:.0%} of the full ones; distances of the spectra: "
            f"{near or 'no other arm to compare with'}."
        )
    told = {"lower": "nearer than dense", "higher": "farther than dense"}
    for row in tables["Nearer than dense"].to_dict("records"):
        if row["arm"] in penalties:
            lines.append(
                f"{row['arm']} to {row['reference']} at {row['of_target_sparsity']:.0%} with "
                f"{row['of_events']} events: {told.get(row['verdict'], row['verdict'])} "
                f"({row['difference']:+.3f}, {words.interval(row, 'difference', digits=3)})."
            )
    for row in tables["Seeds apart"].to_dict("records"):
        if row["arm"] in REFERENCES:
            lines.append(
                f"Two networks of {row['arm']} with different seeds are {row['distance']:.3f} "
                f"apart (mean of {row['pairs']} pair(s))."
            )
    compared = [tables[name] for name in ("Nearer than dense", "Accuracy")]
    if len(_strengths(penalties)) > 1:
        lines.append(
            "The strengths are several, and whichever comes nearest was found on the same seeds: "
            "its distance is an optimistic one."
        )
    return lines + words.family(*compared)


def _named(record):
    """The record with the strength of the penalty in the name of its arm."""
    settings = record["settings"]
    if "strength" not in settings:
        return record
    named = {"arm": f"{settings['arm']} {settings['strength']:g}", "penalty": settings["arm"]}
    return record | {"settings": settings | named}


def _strengths(penalties):
    """{arm: strength} of the plain nuclear norm."""
    return {a: s["strength"] for a, s in penalties.items() if s["penalty"] == "nuclear"}


def _mean_gap(pairs, by):
    """Mean |a - b| by layer, and over the layers, of merged normalised spectra."""
    gap = (pairs["value_share_x"] - pairs["value_share_y"]).abs()
    key = [*by, "reference", "of_target_sparsity", "of_events"]
    layers = pairs.assign(distance=gap).groupby([*key, "site"], sort=False)["distance"].mean()
    layers = layers.reset_index()
    together = layers.groupby(key, sort=False)["distance"].mean().reset_index().assign(site=ALL)
    return pd.concat([layers, together], ignore_index=True)


def _summary(runs, ranks, apart):
    together = apart[apart["site"] == ALL]
    key = [*SETTING, "seed"]
    wide = together.pivot_table("distance", key, "reference", sort=False).add_prefix("distance_")
    names = [f"distance_{name}" for name in REFERENCES if f"distance_{name}" in wide]
    table = runs.merge(ranks, on=key).merge(wide.reset_index(), on=key, how="left")
    numbers = ["test_accuracy", "effective_rank_share", "rank_share", "nuclear", "epochs"]
    return statistics.summary(table, SETTING, [*numbers, *names])


def _pictures(penalties, curves, apart):
    strengths = {"dense": 0.0} | _strengths(penalties)
    # More lines would hide each other.
    left_out = curves["arm"].isin({"random", *penalties} - set(strengths))
    told = {"title": "Singular values at the end of training"}
    told |= {"note": "each spectrum divided by its largest value"}
    told |= {"x_label": "index, largest value first", "y_label": "% of the largest value"}
    figure = figures.mean_curves(curves[~left_out], "index", "value_share", panel="site", **told)
    pictures = {"spectra": Picture("Normalised spectra", figure)}
    rows = apart[(apart["site"] == ALL) & apart["arm"].isin(strengths)]
    rows = rows.assign(strength=rows["arm"].map(strengths))
    if rows["strength"].nunique() < 2:
        return pictures | {"distances": None}
    told = {"title": "Distance of the spectra to those of pruned networks"}
    told |= {"note": "by strength of the penalty; 0: dense", "x_label": "strength of NuclearNorm"}
    figure = figures.mean_curves(rows, "strength", "distance", by="reference", **told)
    caption = "Mean over layers and singular values of the difference of the normalised spectra."
    return pictures | {"distances": Picture("Distance to pruned networks", figure, caption)}
