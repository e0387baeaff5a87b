"""The files of deep_compression: accuracy against the ratio of compression."""

from pathlib import Path

import pandas as pd

from activation_pruning.reports import figures, statistics, workbook
from lab import publication, words
from lab.publication import Picture

NAME = "deep_compression"
PUBLISHED = {"lenet_300_100": 40.0, "lenet_5": 39.0}  # ratio at no loss, on MNIST
LOSS = 0.001  # of test accuracy, that still counts as none
SETTING = ["arm", "target_sparsity", "bits"]
ABOUT = (
    "Mean over the seeds; _ci95 is the half-width of the 95 % t-interval. ratio: bytes of all "
    "float32 parameters / bytes of the whole file; ratio_of_weights leaves out the file's header "
    "(the architecture, checksums). stage: dense; pruned (and trained on); shared (weights shared "
    "by k-means); trained (the shared weights trained on, saved and read again)."
)


@publication.publishing
def publish(records: list[dict], out: Path, options: dict) -> publication.Publication:
    """What there is to show."""
    stages = stages_table(records)
    differences = differences_table(stages)
    by = ["arm", "stage", "target_sparsity", "bits"]
    numbers = ["test_accuracy", "ratio", "ratio_of_weights", "size_bytes", "sparsity"]
    tables = {
        "Summary": statistics.summary(stages, by, numbers),
        "Differences": differences,
        "Stages": stages,
        "Tensors": tensors_table(records),
    }
    trained = tables["Summary"][tables["Summary"]["stage"] == "trained"]
    tables["Chart"] = trained.assign(
        network=trained["arm"] + trained["bits"].map(", {} bits".format)
    )
    return publication.Publication(
        name=NAME,
        title="Deep Compression of LeNets",
        findings=findings(stages, differences),
        about=ABOUT,
        tables=tables,
        charts=[
            workbook.Chart("Chart", "target_sparsity", name, "network")
            for name in ("ratio", "test_accuracy")
        ],
        pictures=_pictures(stages),
        on_page=("Differences", "Tensors"),
    )


def stages_table(records: list[dict]) -> pd.DataFrame:
    """One row per run, sparsity, bits and stage."""
    table = publication.rows(records, "stages", {})
    return table.astype({"ratio": float, "ratio_of_weights": float, "size_bytes": float})


def tensors_table(records: list[dict]) -> pd.DataFrame:
    """What each stage made of each tensor, of the first seed."""
    first = [record for record in records if record["settings"]["seed"] == 0]
    return publication.as_target(publication.rows(first, "tensors", {}))


def differences_table(stages: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy with trained shared weights less that of the dense network, paired by seed."""
    first = stages[stages["stage"] == "trained"]
    dense = stages.loc[stages["stage"] == "dense", ["arm", "seed", "test_accuracy"]]
    return statistics.holm(
        statistics.differences(
            first, dense, ["arm", "seed"], SETTING, "test_accuracy", "accuracy_difference"
        ),
        "accuracy_difference",
    )


def findings(stages: pd.DataFrame, differences: pd.DataFrame) -> list[str]:
    """Say in plain words what the numbers say."""
    trained = stages[stages["stage"] == "trained"]
    means = trained.groupby(SETTING, sort=False)[["test_accuracy", "ratio", "ratio_of_weights"]]
    both = means.mean().reset_index().merge(differences, on=SETTING)
    lines = []
    for arm, rows in both.groupby("arm", sort=False):
        dense = stages.loc[(stages["arm"] == arm) & (stages["stage"] == "dense"), "test_accuracy"]
        lines.append(f"{arm}: {dense.mean():.2%} test accuracy when dense.")
        for row in rows.to_dict("records"):
            lines.append(
                f"{arm}, {row['target_sparsity']:.0%} sparsity, {row['bits']} bits: "
                f"{row['ratio']:.1f} times smaller ({row['ratio_of_weights']:.1f} without the "
                f"header) at {row['test_accuracy']:.2%}, "
                f"{100 * row['accuracy_difference']:+.2f} points to dense "
                f"({words.interval(row, 'accuracy_difference', 100)})."
            )
        lines.append(_best(arm, rows))
    return lines


def _best(arm, rows):
    """The largest mean ratio at no loss, beside the published one."""
    fine = rows[rows["accuracy_difference"] >= -LOSS - 1e-12]
    published = f"published: {PUBLISHED[arm]:.0f}, on MNIST"
    if fine.empty:
        return f"{arm}: no setting stays within {100 * LOSS:.1f} points of dense ({published})."
    best = fine.loc[fine["ratio"].idxmax()]
    return (
        f"{arm}: within {100 * LOSS:.1f} points of dense at most {best['ratio']:.1f} times "
        f"smaller, at {best['target_sparsity']:.0%} sparsity and {best['bits']} bits ({published})."
    )


def _pictures(stages):
    trained = stages[stages["stage"] == "trained"]
    shown = trained.assign(line=trained["bits"].map("{} bits".format))
    pictures = {}
    for name, title in (("test_accuracy", "Test accuracy"), ("ratio", "Ratio of compression")):
        figure = figures.mean_curves(
            shown, "target_sparsity", name, by="line", panel="arm",
            title=f"{title} against sparsity", note="shared weights, trained on",
        )  # fmt: skip
        pictures[f"{NAME}_{name}"] = Picture(f"{title} against sparsity", figure)
    return pictures
