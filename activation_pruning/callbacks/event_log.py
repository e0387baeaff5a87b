"""The callback that writes every pruning event to a file as it happens."""

import datetime
from typing import Any

import keras
import numpy as np
import pandas as pd

from activation_pruning import sites
from activation_pruning.callbacks.base import EventListener, settings
from activation_pruning.support import files, texts
from activation_pruning.support.settings import settings_table
from activation_pruning.support.types import Path


class EventLog(EventListener):
    """Write pruning events to `events.csv`, and what is needed to repeat the run to `run.json`.

    A name that a spreadsheet would take for a formula gets an apostrophe in front.
    Each file is replaced as a whole after every event: a run that is killed leaves complete ones.
    A fit that goes on with an older one (`BackupAndRestore`, `initial_epoch`) adds its events, in
    place of those after the epoch where it begins; a new fit gets a new number in the column
    `fit`. The metrics of the epochs are for Keras's `CSVLogger`.

    Args:
        folder: where to write; made if it is not there.
        pruner: the `PruningCallback` of the same fit; None where nothing is pruned, which writes
            `run.json` alone.

    Raises:
        ValueError: for another `pruner`, or files in the folder that are not of this kind.
        OSError: the folder cannot be written; before training where possible.

    Example:
    >>> import keras, numpy as np, pandas as pd, tempfile, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> folder = tempfile.mkdtemp()
    >>> pruner = ap.PruningCallback(ap.schedules.Linear(0.5, begin=1, end=2), "magnitude")
    >>> _ = model.fit(np.ones((8, 4)), np.ones((8, 1)), epochs=2, verbose=0,
    ...               callbacks=[pruner, ap.EventLog(folder, pruner)])
    >>> pd.read_csv(f"{folder}/events.csv")[["fit", "event", "epoch", "sparsity"]].values.tolist()
    [[1.0, 1.0, 1.0, 0.0], [1.0, 2.0, 2.0, 0.5]]
    """

    def __init__(self, folder: Path, pruner: Any = None) -> None:
        super().__init__(pruner)
        self.folder = files.check_folder(folder)
        self._fit = None

    def _begin(self, epoch):
        path = self.folder / "run.json"
        fits = _read_json(path)
        resumed = epoch > 0 and fits
        self._fit = fits[-1]["fit"] if resumed else len({one["fit"] for one in fits}) + 1
        with files.replacing(path) as temporary:
            text = files.sealed({"fits": [*fits, self._facts(epoch)]}, default=str)
            temporary.write_text(text, encoding="utf-8")
        if self.pruner is not None:
            steps = self.params.get("steps")
            self._write(self.pruner.table()[:0], epoch, epoch * steps if steps else np.inf)

    def _facts(self, epoch):
        """What is needed to run this fit again, as far as it can be known here."""
        known = settings_table(backend=keras.backend.backend())
        facts = dict(zip(known["key"], known["value"], strict=True))
        facts["date"] = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        model = {"name": self.model.name, "parameters": sites.parameters(self.model)}
        model["sites"] = {site.name: list(site.variable.shape) for site in self._sites}
        if getattr(self.trainer, "optimizer", None) is not None:
            model["optimizer"] = self.trainer.optimizer.get_config()
        planned = {name: self.params.get(name) for name in ("epochs", "steps")}
        pruning = self.pruner and settings(self.pruner)
        fit = {"fit": self._fit, "first_epoch": epoch, **planned}
        return {**fit, "pruning": pruning, "model": model, **facts}

    def _event(self, rows, epoch, step):
        self._write(rows, epoch, step - 1)

    def _write(self, rows, epoch, step):
        """Write the file with these rows added, in place of those of this fit after a time."""
        path = self.folder / "events.csv"
        known = _read_events(path)
        later = (known["epoch"] > epoch) | ((known["epoch"] == epoch) & (known["step"] > step))
        known = known[~((known["fit"] == self._fit) & later)]
        events = known.loc[known["fit"] == self._fit, "event"]
        rows = rows.assign(event=events.max() + 1 if len(events) else 1)
        rows.insert(0, "fit", self._fit)
        table = pd.concat([known, rows], ignore_index=True) if len(known) else rows
        with files.replacing(path) as temporary:
            texts.write_csv(table, temporary)


def _read_json(path):
    if not path.exists():
        return []
    try:
        fits = files.unsealed(path, ["fits"], version=1)["fits"]
        return [{**one, "fit": int(one["fit"])} for one in fits]
    except (ValueError, KeyError, TypeError) as error:
        raise _foreign(path, error) from error


def _read_events(path):
    if not path.exists():
        return pd.DataFrame(columns=["fit", "event", "epoch", "step"])
    try:
        table = texts.read_csv(path)  # written back as it is
        return table.astype({"fit": int, "event": int, "epoch": int, "step": int})
    except (ValueError, KeyError) as error:
        raise _foreign(path, error) from error


def _foreign(path, error):
    return ValueError(
        f"{str(path)!r} is not a file that EventLog wrote, or is damaged; give another folder, or "
        f"move the file ({error})"
    )
