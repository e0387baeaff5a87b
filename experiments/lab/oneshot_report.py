"""The files of weight_pruning_sweep and brain_surgeon: accuracy against sparsity."""

from pathlib import Path

import pandas as pd

from activation_pruning.reports import figures, statistics, workbook
from lab import differences, publication, words
from lab.publication import Picture

SWEEP, SURGEON = "weight_pruning_sweep", "brain_surgeon"
PUBLISHED = "published"
# Lines that belong together share a panel; more in one would hide each other.
PANELS = {
    "with compensation": ("lobs", "lobs_2000", "lobs_2000_trained", "sparsegpt",
                          "sparsegpt_sequential", "unit_obs", "unit_obs_sequential"),
    "by weights, inputs and activity": ("magnitude", "unit_norm", "random", "wanda", "activation",
                                        "activation_magnitude", "mean_activation", "n2ps"),
    "by the loss": ("obd", "obd_hutchinson", "taylor", "taylor_activation", "snip", "grasp",
                    "synflow"),
}  # fmt: skip
ABOUT = (
    "Test accuracy, mean over the seeds; _ci95 is the half-width of the 95 % t-interval. "
    "target_sparsity is what was asked for; sparsity counts zeros in all kernels, the output "
    "layer's among them; compression is all weights / those that are not zero."
)


@publication.publishing
def publish_sweep(
    records: list[dict], out: Path, options: dict, published: dict
) -> publication.Publication:
    """What one-step pruning gives, beside the published curve {sparsity: accuracy}."""
    baseline = "magnitude" if options["granularity"] == "weight" else "unit_norm"
    title = f"One-step pruning by {options['granularity']}, without training again"
    return _shown(records, f"{SWEEP}_{options['granularity']}", title, baseline, published)


@publication.publishing
def publish_surgeon(records: list[dict], out: Path, options: dict) -> publication.Publication:
    """Accuracy against compression of the brain surgeons."""
    return _shown(records, SURGEON, "Brain surgeons on LeNet-300-100", "magnitude", {})


def curves_table(records: list[dict]) -> pd.DataFrame:
    """One row per run and sparsity."""
    return publication.rows(records, "curve", {})


def wide_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy: a row per arm, a column per sparsity."""
    wide = summary.pivot_table("test_accuracy", "arm", "target_sparsity", sort=False)
    wide.columns = [f"accuracy_at_{100 * sparsity:g}_percent" for sparsity in wide.columns]
    return wide.reset_index()


def findings(curves, each, whole, published) -> list[str]:
    """Say in plain words what the numbers say, whoever wins."""
    dense = curves.loc[curves["target_sparsity"] == 0, "test_accuracy"]
    lines = [f"The dense networks: {dense.mean():.2%} test accuracy on average."]
    pruned = curves[curves["target_sparsity"] > 0]
    for sparsity, rows in pruned[pruned["target_sparsity"] >= 0.5].groupby("target_sparsity"):
        beside = f" (published: {published[sparsity]:.2%})" if sparsity in published else ""
        order = words.order(rows)
        lines.append(f"{sparsity:.1%} sparsity{beside}, best mean first: {order}.")
    for arm, rows in pruned[pruned["target_sparsity"].isin(published)].groupby("arm", sort=False):
        means = rows.groupby("target_sparsity")["test_accuracy"].mean()
        above = [s for s, mean in means.items() if mean > published[s]]
        lines.append(f"{arm} is above the published curve at {len(above)} of {len(means)} points.")
    return lines + differences.told(each, whole)


def _shown(records, name, title, baseline, published):
    curves = curves_table(records)
    by = ["arm", "target_sparsity"]
    numbers = ["test_accuracy", "sparsity", "compression", "test_loss", "time_s"]
    summary = statistics.summary(curves, by, numbers)
    pairs = differences.to_baseline(curves[curves["target_sparsity"] > 0], baseline)
    each = differences.by_setting(pairs, ["target_sparsity"])
    whole = differences.overall(pairs, ["target_sparsity"])
    points = {"target_sparsity": list(published), "test_accuracy": published.values()}
    reference = pd.DataFrame({"arm": PUBLISHED, "seed": 0} | points)
    tables = {
        "Accuracy": wide_table(pd.concat([summary, reference])),
        "Summary": summary,
        "Differences": each,
        "Differences overall": whole,
        "Curves": curves,
        "Warnings": publication.warnings_table(records),
    }
    return publication.Publication(
        name=name,
        title=title,
        findings=findings(curves, each, whole, published),
        about=ABOUT,
        tables=tables,
        charts=[workbook.Chart("Summary", "target_sparsity", "test_accuracy", "arm")],
        pictures=_pictures(curves, reference, name, title),
        on_page=("Summary", "Differences overall", "Differences"),
    )


def _pictures(curves, reference, name, title):
    panel = {arm: place for place, arms in PANELS.items() for arm in arms}
    shown = curves.assign(panel=curves["arm"].map(panel).fillna("others"))
    present = list(dict.fromkeys(shown["panel"]))
    beside = [reference.assign(panel=place) for place in present if len(reference)]
    whole = pd.concat([*beside, shown])  # first, so that it looks the same in every panel
    pictures = {}
    for part, rows, from_ in (("", whole, 0.0), ("_closeup", whole, 0.8)):
        rows = rows[rows["target_sparsity"] >= from_]
        figure = figures.mean_curves(
            rows, "target_sparsity", "test_accuracy", panel="panel", title=title,
            note="no training after pruning, unless named", y_label="test accuracy (%)",
        )  # fmt: skip
        caption = "The published curve is drawn beside." if len(reference) else ""
        pictures[f"{name}{part}"] = Picture("Test accuracy against sparsity", figure, caption)
    return pictures
