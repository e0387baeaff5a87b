"""Singular values of the runs: kept as arrays beside the records, read back as one table."""

from pathlib import Path

import pandas as pd

import activation_pruning as ap
from lab import publication, storage

ALL = "all layers"
END = "end"  # the moment after training, once the best weights are restored


def measured(model, logger=None) -> tuple[list[dict], dict]:
    """(rows of `analysis.norms`, arrays of singular values) around the events and at the end.

    logger: a `SpectrumLogger` that watched the events alone (epochs=()), or None for the end.
    """
    place = {"moment": END, "epoch": 0, "event": 0}
    values = ap.analysis.spectra(model, exclude=None).assign(**place)
    norms = ap.analysis.norms(model, exclude=None).assign(**place)
    if logger is not None:
        values = pd.concat([logger.table(), values], ignore_index=True)
        norms = pd.concat([logger.norms(), norms], ignore_index=True)
    arrays = {
        f"{moment} {event} {site}": rows["value"].to_numpy("float32")
        for (moment, event, site), rows in values.groupby(["moment", "event", "site"], sort=False)
    }
    return norms.to_dict("records"), arrays


def table(records: list[dict], out: Path) -> pd.DataFrame:
    """All singular values: the run; moment, event, site, index, value."""
    parts = []
    for record in records:
        run = {name: record["settings"][name] for name in ("arm", "seed")}
        run |= {name: record["settings"][key] for key, name in publication.SETTING.items()}
        for key, values in storage.arrays_of(out / "runs", record).items():
            moment, event, site = key.split(" ", 2)
            place = run | {"moment": moment, "event": int(event), "site": site}
            indices = range(1, len(values) + 1)
            parts.append(pd.DataFrame({"index": indices, "value": values}).assign(**place))
    return pd.concat(parts, ignore_index=True)


def norms(records: list[dict]) -> pd.DataFrame:
    """The norms of each kernel that was measured, by run, with its ranks in shares of full ones."""
    table = publication.rows(records, "norms", publication.SETTING)
    table = table.rename(columns={"sparsity": "kernel_sparsity"})
    table["full_ranks"] = table["blocks"] * table[["rows", "columns"]].min(axis=1)
    for name in ("rank", "effective_rank"):
        table[f"{name}_share"] = table[name] / table["full_ranks"]
    return table


def ranks_table(records: list[dict]) -> pd.DataFrame:
    """Norms of each kernel around the events and at the end, with a row for all layers together."""
    table = norms(records)
    table["ranks"] = table["rank"]
    where = ["arm", *publication.SETTING.values(), "seed", "moment", "event"]
    numbers = ["rank_share", "effective_rank_share", "stable_rank", "nuclear", "spectral"]
    grouped = table.groupby(where, sort=False)
    together = grouped[[*numbers, "kernel_sparsity"]].mean()
    together[["ranks", "full_ranks"]] = grouped[["ranks", "full_ranks"]].sum()
    together = together.reset_index().assign(site=ALL)
    kept = [*where, "site", *numbers, "kernel_sparsity", "ranks", "full_ranks"]
    return pd.concat([table[kept], together[kept]], ignore_index=True)
