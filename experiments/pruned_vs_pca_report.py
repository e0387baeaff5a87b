"""The files of pruned_vs_pca: pruned networks against the dense one, PCA-reduced."""

from pathlib import Path

import pandas as pd

from activation_pruning.reports import figures, statistics, workbook
from activation_pruning.reports.tables import in_each_match
from lab import comparison, publication, storage, words
from lab.publication import Picture

NAME = "pruned_vs_pca"
SETTING = comparison.SETTING
PLACE = [*SETTING, "match", "stage"]
OTHERS = ("low_rank", "factorized", "dense")
LAST = ("factorized", "fine_tuned")

ABOUT = (
    "Test accuracy, mean over the seeds; accuracy_ci95 is the half-width of the 95 % t-interval. "
    "The PCA-reduced networks have the ranks of the pruned network's hidden kernels (match: rank) "
    "or as many weights (match: weights). low_rank trains whole kernels, whose ranks grow again; "
    "factorized trains two factors in their place, where that saves weights, and keeps its ranks. "
    "stage: raw, or fine-tuned by the same number of epochs for every network, at whichever of the "
    "learning rates tried had the lowest validation loss."
)


@publication.publishing
@comparison.of_reached
def publish(records: list[dict], out: Path, options: dict) -> publication.Publication:
    """What there is to show."""
    accuracy, ranks = in_each_match(_named(records, "accuracy")), _named(records, "ranks")
    differences = differences_table(accuracy)
    scree = _scree(records)
    numbers = ["full_rank", "rank_pruned", "components", "kernel_sparsity", "energy_share"]
    tables = {
        "Summary": statistics.summary(accuracy, [*PLACE, "model"], ["accuracy", "loss"]),
        "Differences": differences,
        "Ranks": statistics.summary(ranks, [*SETTING, "match", "site"], numbers),
        "Accuracies": accuracy,
        "Scree": scree,
    }
    return publication.Publication(
        name=NAME,
        title="Pruned against PCA-reduced networks",
        findings=findings(accuracy, differences, ranks),
        about=ABOUT,
        tables=tables,
        charts=[workbook.Chart("Scree", "component", "cumulative", "network", panel="site")],
        pictures=_pictures(records, accuracy, scree, out),
        on_page=("Differences", "Ranks"),
    )


def differences_table(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Paired differences in test accuracy: the pruned network less each other one."""
    pruned, tables = accuracy[accuracy["model"] == "pruned"], []
    for other in OTHERS:
        second = accuracy[accuracy["model"] == other]
        found = statistics.differences(
            pruned, second, [*PLACE, "seed"], PLACE, "accuracy", "accuracy_difference"
        )
        tables.append(found.assign(first="pruned", second=other))
    columns = [*PLACE, "first", "second", *statistics.columns("accuracy_difference")]
    return statistics.holm(pd.concat(tables, ignore_index=True), "accuracy_difference")[columns]


def findings(accuracy, differences, ranks) -> list[str]:
    """Say in plain words what the numbers say, whoever wins."""
    lines, by = [], [*SETTING, "match"]
    means = accuracy.groupby([*PLACE, "model"])["accuracy"].mean()
    for keys, rows in ranks.groupby(by, sort=False):
        arm, sparsity, events, match = keys
        sums = rows.groupby("seed")[["components", "full_rank"]].sum().mean()
        told = [
            _told(row, means)
            for row in differences[(differences[by] == list(keys)).all(axis=1)].to_dict("records")
            # Raw, the two low-rank networks are one.
            if row["second"] == "low_rank" or (row["second"], row["stage"]) == LAST
        ]
        lines.append(
            f"{arm} at {sparsity:.0%} with {events} events, equal {match} (PCA keeps "
            f"{sums['components']:.0f} of {sums['full_rank']:.0f} components and "
            f"{rows['energy_share'].mean():.0%} of the variance, mean of the layers): "
            f"{'; '.join(told)}."
        )
    return lines + words.family(differences)


def _told(row, means):
    place = tuple(row[name] for name in PLACE)
    return (
        f"{row['stage'].replace('_', '-')}, pruned {means[(*place, 'pruned')]:.2%} against "
        f"{row['second']} {means[(*place, row['second'])]:.2%}, {row['verdict']} "
        f"({100 * row['accuracy_difference']:+.2f} points, "
        f"{words.interval(row, 'accuracy_difference', 100)})"
    )


def _named(records, key):
    """The rows kept under `key`, by arm, sparsity and events."""
    table = publication.rows(records, key, publication.SETTING)
    return table.rename(columns={"sparsity": "kernel_sparsity", "energy": "energy_share"})


def _first(records):
    """The records with pictures of one setting: most sparse, fewest events."""
    kept = [record for record in records if record["has_arrays"]]
    if not kept:
        return []
    most = max(record["settings"]["sparsity"] for record in kept)
    fewest = min(record["settings"]["events"] for record in kept)
    wanted = (most, fewest)
    return [r for r in kept if (r["settings"]["sparsity"], r["settings"]["events"]) == wanted]


def _scree(records):
    """The dense network once, and the pruned one of each arm: first seed, one setting."""
    parts = []
    for record in _first(records):
        table = pd.DataFrame(record["result"]["scree"])
        if not parts:
            parts.append(table[table["network"] == "dense"])
        part = table[table["network"] == "pruned"]
        parts.append(part.assign(network=record["settings"]["arm"]))
    columns = ["network", "site", "component", "share", "cumulative"]
    table = pd.concat(parts) if parts else pd.DataFrame(columns=columns)
    return table[columns].rename(columns={"share": "variance_share"})


def _pictures(records, accuracy, scree, out):
    first = _first(records)
    if not first:
        return {"accuracy": None, "scree": None, "kernels": None}
    settings = first[0]["settings"]
    chosen = accuracy["target_sparsity"].eq(settings["sparsity"]) & accuracy["events"].eq(
        settings["events"]
    )
    where = f"{settings['sparsity']:.0%} sparsity, {settings['events']} pruning events."
    caption = f"{where} Fine-tuned, low rank trains whole kernels, factorized keeps the ranks."
    figure = figures.low_rank_accuracy(accuracy[chosen])
    pictures = {"accuracy": Picture("Pruned against PCA-reduced", figure, caption)}
    figure = figures.scree(scree)
    pictures["scree"] = Picture("Scree", figure, f"{where} First seed, PCA of each kernel.")
    kernels = {}
    for record in first:
        arrays = storage.arrays_of(out / "runs", record)
        for key, kernel in arrays.items():
            network, layer = key.split(" ", 1)
            name = "dense" if network == "dense" else record["settings"]["arm"]
            kernels.setdefault(name, {})[layer] = kernel
    kernels = {"dense": kernels.pop("dense")} | kernels
    figure = figures.kernel_heatmap(kernels)
    pictures["kernels"] = Picture("Sizes of the weights", figure, f"{where} First seed.")
    return pictures
