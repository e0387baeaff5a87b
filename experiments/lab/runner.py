"""Run a grid of settings in worker processes; keep what finishes, go on after a stop."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

# One thread per run: results then do not depend on how many runs go side by side.
ONE_THREAD = {
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


def name_of(settings: dict) -> str:
    """Name a run: <arm>-<sparsity>-<events>-seed<seed>-<hash of all settings>."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    return "{arm}-{sparsity:.2f}-{events}-seed{seed}-".format(**settings) + digest


def run_grid(
    grid: list[dict],
    work: Callable[[dict], tuple[dict, dict[str, np.ndarray]]],
    folder: Path,
    jobs: int = 1,
    describe: Callable[[dict], str] = lambda result: "",
) -> list[dict]:
    """Run each settings dict once; return all records, in the grid's order.

    grid: JSON-able dicts with arm, sparsity, events, seed and everything else that changes a
        result: what is stored under other settings is never taken for this one.
    work: a module-level function, settings -> (JSON-able result, arrays by name); it runs in one
        of `jobs` worker processes. The arrays, if any, are kept in an .npz beside the result.
    folder: finished records are read from here and written to here.
    describe: result -> what the progress line says about it.

    Returns records: a dict of name, settings, and either result or (the run failed) traceback. A
    failed run is told, recorded, and tried again by the next call. KeyboardInterrupt ends the
    workers and leaves finished records where they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records = {name_of(settings): stored(folder, settings) for settings in grid}
    waiting = [settings for settings in grid if records[name_of(settings)] is None]
    progress = _Progress(len(records), len(records) - len(waiting), jobs)
    # closing(): the workers end as soon as this loop does, for whatever reason.
    with contextlib.closing(_work_off(waiting, work, jobs, progress)) as finished:
        for record in finished:
            keep(folder, record, record.pop("arrays", {}))
            records[record["name"]] = record
            progress.finished(record, describe)
    return [records[name_of(settings)] for settings in grid]


def stored(folder: Path, settings: dict) -> dict | None:
    """Read a finished record; None where there is none, it failed, or it cannot be read."""
    path = folder / f"{name_of(settings)}.json"
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text())
        if record["settings"] != settings:
            raise ValueError("the settings in it are not those of its name")
        if "traceback" in record:
            print(f"{path.name}: failed last time; runs again", flush=True)
            return None
        record["result"].keys()
        arrays_of(folder, record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        print(f"{path}: cannot be used ({error!r}); this run is done again", flush=True)
        return None
    return record


def arrays_of(folder: Path, record: dict) -> dict[str, np.ndarray]:
    """Read the arrays that belong to a record; an empty dict where it has none."""
    if not record.get("has_arrays"):
        return {}
    try:
        with np.load(folder / f"{record['name']}.npz", allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # whatever a damaged zip raises, it is a damaged file
        raise ValueError(f"{record['name']}.npz: {error}") from error


def keep(folder: Path, record: dict, arrays: dict[str, np.ndarray]) -> None:
    """Write a record, and its arrays before it, each complete or not at all."""
    if arrays:
        target = folder / f"{record['name']}.npz"
        part = target.with_suffix(".part")
        with part.open("wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(part, target)
    record["has_arrays"] = bool(arrays)
    target = folder / f"{record['name']}.json"
    part = target.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1))
    os.replace(part, target)


def forget(folder: Path) -> None:
    """Delete the records in a folder, and nothing else that may be there."""
    for path in folder.glob("*-seed*"):
        if path.suffix in (".json", ".npz", ".part"):
            path.unlink()


def _work_off(waiting, work, jobs, progress):
    """Yield a record per settings as the runs finish; never more than `jobs` are under way."""
    waiting, running, pool = list(waiting), {}, None
    try:
        while waiting or running:
            pool = pool or _pool(jobs)
            while waiting and len(running) < jobs:
                settings = waiting.pop(0)
                progress.starts(settings)
                running[pool.submit(_guarded, work, settings)] = settings, pool
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                settings, its_pool = running.pop(future)
                record = {"name": name_of(settings), "settings": settings}
                try:
                    record |= future.result()
                except BrokenProcessPool:
                    record["traceback"] = "the worker process died; what it said is above"
                    pool = None if pool is its_pool else pool  # the rest gets new workers
                yield record
    except BaseException:
        # Also reached on Ctrl-C, which the workers ignore: they are ended here, at once.
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _pool(jobs):
    for name, value in ONE_THREAD.items():
        os.environ.setdefault(name, value)  # inherited by the workers, before they import Keras
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_worker_signals)


def _worker_signals():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # lets `finally` and `with` blocks run


def _guarded(work, settings):
    try:
        result, arrays = work(settings)
    except Exception:
        return {"traceback": traceback.format_exc()}
    return {"result": result, "arrays": arrays}


class _Progress:
    """Plain lines: they read the same in a terminal and in a log."""

    def __init__(self, total: int, done: int, jobs: int):
        self.total, self.done, self.jobs = total, done, jobs
        self.started, self.finished_now = time.monotonic(), 0
        print(f"{total} runs: {done} finished before, {total - done} to do", flush=True)

    def starts(self, settings: dict) -> None:
        print(f"  starts    {_title(settings)}", flush=True)

    def finished(self, record: dict, describe) -> None:
        self.done += 1
        self.finished_now += 1
        elapsed = time.monotonic() - self.started
        left = elapsed / self.finished_now * (self.total - self.done)
        failed = "traceback" in record
        print(
            f"[{self.done:>{len(str(self.total))}}/{self.total}] {_title(record['settings'])}: "
            f"{'FAILED' if failed else describe(record['result'])} | "
            f"elapsed {_clock(elapsed)}, about {_clock(left)} left",
            flush=True,
        )
        if failed:
            print(record["traceback"], flush=True)


def _title(settings: dict) -> str:
    pruned = f" {settings['sparsity']:.2f}" if settings["sparsity"] else ""
    events = f", {settings['events']} events" if settings["events"] else ""
    strength = f" {settings['strength']:g}" if settings.get("strength") else ""
    where = f"{settings['network']}, " if "network" in settings else ""
    return f"{where}{settings['arm']}{strength}{pruned}{events}, seed {settings['seed']}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
