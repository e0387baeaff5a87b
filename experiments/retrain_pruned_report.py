"""The files of retrain_pruned: what training again does to ranks and accuracy."""

from pathlib import Path

import pandas as pd

from activation_pruning.reports import figures, statistics, workbook
from lab import comparison, differences, publication, spectra, words
from lab.publication import Picture

NAME = "retrain_pruned"
SETTING = comparison.SETTING
MEASURES = ("test_accuracy", "rank_share", "effective_rank_share", "sparsity", "epochs")
# What each way is compared with, and the question that this answers.
AGAINST = {
    "retrained": ("pruned", "does training on with the masks help?"),
    "unmasked": ("retrained", "are the masks in the way?"),
    "rewound": ("retrained", "is it the structure (lottery ticket), or the trained weights?"),
    "random": ("rewound", "do the initial weights matter?"),
}
RANKS_TOLD = (("rank_share", "retrained"), ("rank_share", "unmasked"))

ABOUT = (
    "Mean over the seeds; _ci95 is the half-width of the 95 % t-interval. way: pruned (at the end "
    "of the training that pruned it), retrained (on with its masks), unmasked (on without them), "
    "rewound (its masks, from the initial weights), random (its masks, from other random weights). "
    "rank_share: sum of the hidden ranks in shares of the full ones."
)


@publication.publishing
@comparison.of_reached
def publish(records: list[dict], out: Path, options: dict) -> publication.Publication:
    """What there is to show."""
    ways, ranks = ways_table(records)
    compared = differences_table(ways)
    numbers = ["rank_share", "effective_rank_share", "stable_rank"]
    tables = {
        "Summary": statistics.summary(ways, [*SETTING, "way"], list(MEASURES)),
        "Differences": compared,
        "Layers": statistics.summary(ranks, [*SETTING, "way", "site"], numbers),
        "Ways": ways,
        "Norms": publication.rows(records, "norms"),
    }
    tables["Chart"] = publication.one_setting(tables["Summary"])  # one chart has one setting
    return publication.Publication(
        name=NAME,
        title="Pruned networks trained again",
        findings=findings(ways, compared) + diverged(records),
        about=ABOUT,
        tables=tables,
        charts=[
            workbook.Chart("Chart", "way", name, "arm", kind="bar")
            for name in ("test_accuracy", "rank_share")
        ],
        pictures=_pictures(ways),
        on_page=("Differences",),
    )


def ways_table(records: list[dict]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(one row per run and way, with its ranks; the ranks by layer)."""
    ranks, key = spectra.norms(records), [*SETTING, "seed", "way"]
    sums = ranks.groupby(key, sort=False)[["rank", "effective_rank", "full_ranks"]].sum()
    shares = sums[["rank", "effective_rank"]].div(sums["full_ranks"], axis=0).add_suffix("_share")
    ways = publication.rows(records, "ways", publication.SETTING)
    ways = ways[~ways["diverged"]]
    return ways.merge(shares.reset_index(), on=key), ranks


def diverged(records: list[dict]) -> list[str]:
    """A sentence for each setting and way with trainings that ended in NaN."""
    ways = publication.rows(records, "ways", publication.SETTING)
    key = ["arm", "target_sparsity", "way"]
    lost = ways[ways["diverged"]].groupby(key, sort=False)["seed"].count()
    return [
        f"{arm} at {sparsity:.0%}, {way}: {count} training(s) diverged and are left out."
        for (arm, sparsity, way), count in lost.items()
    ]


def differences_table(ways: pd.DataFrame) -> pd.DataFrame:
    """Paired differences in test accuracy and ranks between the ways, and to the dense network."""
    parts, key, named = [], [*SETTING, "seed"], "difference_share"
    for measure in ("test_accuracy", "rank_share", "effective_rank_share"):
        for way, (other, _) in AGAINST.items():
            first, second = (ways[ways["way"] == name] for name in (way, other))
            found = statistics.differences(first, second, key, SETTING, measure, named)
            parts.append(found.assign(measure=measure, first=way, second=other))
        dense = ways.loc[(ways["arm"] == "dense") & (ways["way"] == "pruned"), ["seed", measure]]
        for way in ("retrained", "rewound", "random"):
            pruned = ways[(ways["way"] == way) & (ways["arm"] != "dense")]
            found = statistics.differences(pruned, dense, ["seed"], SETTING, measure, named)
            parts.append(found.assign(measure=measure, first=way, second="dense"))
    return differences.judged(parts, [*SETTING, "measure", "first", "second"], named)


def findings(ways: pd.DataFrame, compared: pd.DataFrame) -> list[str]:
    """Say in plain words what the numbers say."""
    lines = []
    for (arm, sparsity, events), rows in ways.groupby(SETTING, sort=False):
        means = rows.groupby("way", sort=False)[["test_accuracy", "rank_share"]].mean()
        told = "; ".join(
            f"{'trained' if way == 'pruned' and not events else way} "
            f"{row['test_accuracy']:.2%}, ranks {row['rank_share']:.0%}"
            for way, row in means.iterrows()
        )
        pruned = f" at {sparsity:.0%} with {events} events" if events else ""
        lines.append(f"{arm}{pruned}: test accuracy and ranks (of the full ones): {told}.")
    asked = compared[compared["second"] != "dense"]
    for (measure, first), rows in asked.groupby(["measure", "first"], sort=False):
        if measure != "test_accuracy" and (measure, first) not in RANKS_TOLD:
            continue
        other, question = AGAINST[first]
        told = "; ".join(
            f"{row['arm']} {row['verdict']} ({100 * row['difference_share']:+.2f} points, "
            f"{words.interval(row, 'difference_share', 100)})"
            for row in rows.to_dict("records")
        )
        name = measure.removesuffix("_share").replace("_", " ")
        lines.append(f"{first} against {other}, {name} ({question}): {told}.")
    return lines + words.family(compared)


def _pictures(ways):
    pictures = {}
    shown = publication.one_setting(ways)
    shown = pd.concat([ways[ways["events"] == 0], shown])
    where = f"{publication.where(shown)} The dense network is trained on as it is."
    for name, title in (("test_accuracy", "Test accuracy"), ("rank_share", "Ranks")):
        figure = figures.mean_dots(shown, name, "way", title=f"{title} after training again")
        pictures[name.removesuffix("_share")] = Picture(title, figure, where)
    return pictures
