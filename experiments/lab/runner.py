"""Run the trials of a study, each in a fresh process; keep what finishes, go on after a stop.

    runner (this process) -> executor (loky or Dask) -> worker -> fresh process of a trial

The runner alone writes records, so that workers on other machines need no disk in common with it.
A record is written as its trial ends: whatever dies, at most trials that were under way are lost.
"""

import importlib.metadata
import os
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lab import executors, storage, trial
from lab.display import Progress

TRIES = 2  # a trial that fails is tried once more
LOSSES = 5  # after which a trial counts as failed: how often it may lose its worker
LOOK_S = 1  # how often the runner looks for new workers
PASSED_ON = ("KERAS_", "ACTIVATION_PRUNING_")  # environment that workers elsewhere need as well
PACKAGES = ("activation-pruning", "keras", "numpy")  # and the backend; the same everywhere


def run_grid(
    grid: list[dict],
    work: Callable[[dict], tuple[dict, dict[str, np.ndarray]]],
    folder: Path,
    jobs: int = 1,
    describe: Callable[[dict], str] = lambda result: "",
    executor=None,
) -> list[dict]:
    """Run each settings dict once; return all records, in the grid's order.

    grid: JSON-able dicts with a seed and everything else that changes a result: what is stored
        under other settings is never taken for this one. Equal ones are one trial.
    work: a module-level function, settings -> (JSON-able result, arrays by name). The arrays, if
        any, are kept in an .npz beside the result. Random generators are seeded before it starts.
    folder: finished records are read from here and written to here; it belongs to this work.
    jobs: worker processes on this machine, unless an executor (see `lab.executors`) is given.
    describe: result -> what the progress line says about it.

    Returns records: a dict of name, settings, tries, and either result or (the trial failed, twice)
    traceback. A failed trial is told, recorded, and tried again by the next call. KeyboardInterrupt
    and errors end the workers and leave finished records where they are.

    Raises TypeError or ValueError for settings that cannot be kept, for work that is not found by
    its name, and for a folder of another study or format; OSError where a record cannot be written;
    ImportError where a worker lacks the modules.
    """
    task = check(grid, work, folder)
    names = [storage.name_of(settings) for settings in grid]
    found = {name: storage.stored(folder, s) for name, s in zip(names, grid, strict=True)}
    todo = {name: s for name, s in zip(names, grid, strict=True) if found[name] is None}
    progress = Progress(len(found), len(found) - len(todo), describe)
    executor = executor or executors.Loky(jobs)
    try:
        with progress.shown():
            for record, arrays in _work_off(list(todo.values()), task, executor, progress):
                storage.keep(folder, record, arrays)
                found[record["name"]] = record
                progress.finished(record)
    finally:
        executor.stop()
    return list(found.values())


def check(grid: list[dict], work: Callable, folder: Path) -> trial.Work:
    """Raise what `run_grid` raises before it starts a trial; the folder is the study's then."""
    for settings in grid:
        storage.check(settings)
    task = task_of(work)
    storage.claim(folder, f"{task.module}.{task.function}")
    return task


def task_of(work: Callable) -> trial.Work:
    """What a worker has to know to run a function of this process in its own.

    Raises ValueError for a function that a fresh process would not find by its name.
    """
    module = sys.modules[work.__module__]
    name = work.__module__
    if name == "__main__":  # a script: its folder is on the path
        name = Path(module.__file__).stem
    if getattr(module, work.__qualname__, None) is not work:
        raise ValueError(f"{work!r} is not a function of module {name}: a worker cannot find it")
    passed = {key: value for key, value in os.environ.items() if key.startswith(PASSED_ON)}
    if "keras" in sys.modules:  # as chosen here, whatever is chosen elsewhere
        passed["KERAS_BACKEND"] = sys.modules["keras"].backend.backend()
    pinned = {key: os.environ.get(key, value) for key, value in trial.ONE_THREAD.items()}
    return trial.Work(
        module=name,
        function=work.__qualname__,
        path=tuple(trial.own_path()),
        folder=os.getcwd(),
        environment=tuple((passed | pinned).items()),
        versions=tuple(_versions(passed.get("KERAS_BACKEND", "numpy"))),
        study=uuid.uuid4().hex,
    )


def _versions(backend):
    for package in dict.fromkeys([*PACKAGES, backend]):
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # not installed here, so not needed there


@dataclass
class _Attempt:
    settings: dict
    tries: int = 0
    losses: int = 0


def _work_off(grid, task, executor, progress):
    """Yield (record, arrays) as trials end; never more are under way than the executor can take."""
    waiting, running = [_Attempt(settings) for settings in grid], {}
    while waiting or running:
        while waiting and len(running) < executor.slots():
            attempt = waiting.pop(0)
            running[executor.submit(task, attempt.settings)] = attempt
            progress.starts(attempt.settings)
        if not running:
            progress.no_worker()
            time.sleep(LOOK_S)
        for future in wait(running, timeout=LOOK_S, return_when=FIRST_COMPLETED).done:
            attempt = running.pop(future)
            outcome = _outcome(future, attempt, executor.lost)
            if "traceback" in outcome and attempt.tries < TRIES and attempt.losses < LOSSES:
                progress.again(attempt.settings, outcome["traceback"])
                waiting.append(attempt)
                continue
            arrays = outcome.pop("arrays", {})
            record = {"name": storage.name_of(attempt.settings), "settings": attempt.settings}
            yield record | {"tries": attempt.tries} | outcome, arrays


def _outcome(future, attempt, lost):
    try:
        outcome = future.result()
    except lost as error:
        attempt.losses += 1
        return {"traceback": f"its worker was lost, {attempt.losses} time(s): {error!r}"}
    attempt.tries += 1
    return outcome
