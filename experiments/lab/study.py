"""The course of an experiment: options, trials, what failed, publication."""

import contextlib
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import pandas as pd

import activation_pruning as ap
from activation_pruning.support.files import check_folder, replacing
from activation_pruning.support.texts import write_csv
from lab import command_line, datasets, dense, executors, publication, runner, storage

TABLE = "trials.csv"


def describe(result: dict) -> str:
    """Say in a few words how a run ended."""
    return (
        f"test accuracy {result['test_accuracy']:.4f}, sparsity {result['sparsity']:.4f}, "
        f"{result['epochs']} epochs, {result['time_s']:.0f} s"
    )


def run(
    parser: command_line.Parser,
    arguments: list[str] | None,
    grid: Callable[..., list[dict]],
    work: Callable[[dict], tuple[dict, dict]],
    publish: Callable[[list[dict], Path, dict], None],
    describe: Callable[[dict], str] = describe,
    alone: Callable[..., list[dict]] = lambda options, records: [],
    load: Callable[[str], dict] = datasets.load,
) -> int:
    """Run an experiment; return 0, 1 if a trial failed or could not be kept, 130 after Ctrl-C.

    Bad options end it before any training, with the exit code 2 of argparse.

    arguments: of the command line; None for those of the process.
    grid: (options, fingerprint of the data) -> one settings dict per trial.
    work, describe: see `runner.run_grid`.
    publish: (records that have a result, folder, options) -> writes and prints what was found.
    alone: (options, records of the grid) -> one settings dict per trial that comes after all of
        them, one at a time, on this machine: what measures time wants the machine to itself.
    load: name of a data set -> its arrays; where it raises, the experiment ends.
    """
    options = parser.parse_args(arguments)
    out = Path(options.out)
    try:
        settings = _prepared(options, out, grid, load)
        runner.check(settings, work, out / "runs")
    except (ValueError, TypeError, OSError, ImportError) as error:
        parser.error(str(error))
    # Else a terminated experiment would leave its workers behind, at work for nobody.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.fresh:
        storage.forget(out / "runs")
    try:
        done = runner.run_grid(
            settings, work, out / "runs", describe=describe, executor=_on(options)
        )
        if last := alone(options, done):
            done += runner.run_grid(last, work, out / "runs", describe=describe)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", flush=True)
        return 130
    except (OSError, ImportError) as error:
        told = "what finished is kept; the same command goes on from here"
        print(f"{error}\n{told}", file=sys.stderr)
        return 1
    return _published(done, out, publish, vars(options))


def versions() -> dict[str, str]:
    """What settings say of the software: a trial with other versions is another trial."""
    found = {"backend": keras.backend.backend(), "keras": keras.__version__}
    return found | {"activation_pruning": ap.__version__}


@contextlib.contextmanager
def warned() -> Iterator[list[str]]:
    """Give a list that has, after the block, what users were warned of in it, each text once."""
    told = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield told
    told += sorted({str(w.message) for w in caught if issubclass(w.category, UserWarning)})


def _prepared(options, out, grid, load):
    check_folder(out)
    if options.data_dir:
        os.environ[datasets.DATA_FOLDER] = os.path.abspath(options.data_dir)  # workers get it
    os.environ[dense.FOLDER] = os.path.abspath(out / "networks")
    return grid(options, datasets.fingerprint(load(options.dataset)))


def _on(options):
    cluster = options.scheduler or options.local_cluster
    return executors.Dask(cluster) if cluster else executors.Loky(options.jobs)


def _published(done, out, publish, options):
    failed = [record for record in done if "traceback" in record]
    for record in failed:
        print(f"failed: {record['name']}: {_last_line(record)}", file=sys.stderr)
    with replacing(out / TABLE) as part:
        write_csv(table(done), part)
    finished = [record for record in done if "result" in record]
    if finished:
        publish(finished, out, options)
    print(f"every trial in one table: {out / TABLE}")
    return 1 if failed else 0


def table(records: list[dict]) -> pd.DataFrame:
    """One row per trial: its name, settings, status, and the numbers and words of its result.

    Columns are the settings, lists and dicts among them as JSON; status, "done" or "failed"; what
    the result has by single values, named result_<name> where a setting has that name; error, the
    last line of a traceback. Lists of a result (histories, layers) stay in the records.
    """
    rows = []
    for record in records:
        settings, result = record["settings"], record.get("result", {})
        names = publication.TARGET
        row = {"name": record["name"]}
        row |= {names.get(key, key): _cell(value) for key, value in settings.items()}
        row["status"] = "failed" if "traceback" in record else "done"
        row |= {
            f"result_{key}" if key in row else key: value
            for key, value in result.items()
            if not isinstance(value, (list, dict))
        }
        rows.append(row | ({"error": _last_line(record)} if "traceback" in record else {}))
    return pd.DataFrame(rows)


def _cell(value):
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def _last_line(record):
    return record["traceback"].strip().splitlines()[-1]
