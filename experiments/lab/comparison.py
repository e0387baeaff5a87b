"""Runs that are pruned while they train: one table of them, and which reached their sparsity."""

import functools
from dataclasses import replace

import pandas as pd

from lab import publication
from lab.publication import Show

MEASURED = ("test_accuracy", "test_top_5", "test_loss", "validation_accuracy", "validation_loss")
MEASURED += ("train_accuracy", "train_loss", "sparsity", "events_fired", "epochs", "time_s")
MEASURED += ("cpu_time_s",)
SETTING = ["arm", *publication.SETTING.values()]


def runs_table(records: list[dict]) -> pd.DataFrame:
    """One row per finished run.

    target_sparsity is what was asked for, sparsity what the weights say; reached tells whether they
    agree to within 0.0001. events is what was asked for, 0 for the arms without such events.
    """
    rows = []
    for record in records:
        settings, result = record["settings"], record["result"]
        row = {"arm": settings["arm"]}
        row |= {name: settings[key] for key, name in publication.SETTING.items()}
        reached = result["sparsity"] >= settings["sparsity"] - 1e-4
        row |= {"seed": settings["seed"], "reached": reached}
        row |= {key: value for key, value in result.items() if key in MEASURED}
        rows.append(row | {"warnings": "\n".join(result.get("warnings", []))})
    return pd.DataFrame(rows)


def reached(records: list[dict]) -> tuple[list[dict], list[str]]:
    """(the records of runs that reached their sparsity, sentences on the others)."""
    runs = runs_table(records)
    kept = [record for record, whole in zip(records, runs["reached"], strict=True) if whole]
    return kept, missed(runs)


def missed(runs: pd.DataFrame) -> list[str]:
    """A sentence for each setting with runs that ended below their sparsity."""
    short = runs[~runs["reached"]].groupby(SETTING, sort=False)["seed"].count()
    return [
        f"{arm} at {sparsity:.0%} with {events} events: {count} run(s) ended below the target "
        "sparsity and are left out of these comparisons."
        for (arm, sparsity, events), count in short.items()
    ]


def of_reached(show: Show) -> Show:
    """Make a `show` that looks at the runs that reached their sparsity, and tells of the others.

    All runs stand in the sheet Runs.
    """

    @functools.wraps(show)
    def shown(records, out, options):
        kept, short = reached(records)
        if not kept:
            return publication.nothing(short)
        found = show(kept, out, options)
        tables = found.tables | {"Runs": runs_table(records)}
        return replace(found, tables=tables, findings=found.findings + short)

    return shown
