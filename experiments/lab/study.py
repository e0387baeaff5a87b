"""The course of an experiment: options, runs, what failed, publication."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import activation_pruning as ap
from lab import datasets, dense, runner


def describe(result: dict) -> str:
    """Say in a few words how a run ended."""
    return (
        f"test accuracy {result['test_accuracy']:.4f}, sparsity {result['sparsity']:.4f}, "
        f"{result['epochs']} epochs, {result['time_s']:.0f} s"
    )


def run(
    parser,
    arguments: list[str] | None,
    grid: Callable[..., list[dict]],
    work: Callable[[dict], tuple[dict, dict]],
    publish: Callable[[list[dict], Path, dict], None],
    describe: Callable[[dict], str] = describe,
    alone: Callable[..., list[dict]] = lambda options, records: [],
) -> int:
    """Run an experiment; return the exit code: 0, 1 if a run failed, 130 after Ctrl-C.

    A termination (SIGTERM) ends the workers as well.

    parser: of `command_line.parser`. arguments: of the command line; None for those of the
        process. grid: (options, fingerprint of the data) -> one settings dict per run.
    work: settings -> (result, arrays), see `runner.run_grid`.
    publish: (records that have a result, folder, options) -> writes and prints what was found.
    describe: result -> what a progress line says of it.
    alone: (options, records of the grid) -> one settings dict per run that comes after all of
        them, one at a time: what measures time wants the machine to itself.

    Bad options end it before any training, with the exit code 2 of argparse.
    """
    options = parser.parse_args(arguments)
    try:
        out = ap.reports.files.check_folder(options.out)
        if options.data_dir:
            os.environ[datasets.DATA_FOLDER] = options.data_dir  # the workers inherit it
        arrays = datasets.load(options.dataset)
        os.environ[dense.FOLDER] = str(out / "networks")
        settings = grid(options, datasets.fingerprint(arrays))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    # Else a terminated experiment would leave its workers behind, at work for nobody.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.fresh:
        runner.forget(out / "runs")
    try:
        records = runner.run_grid(settings, work, out / "runs", options.jobs, describe)
        records += runner.run_grid(alone(options, records), work, out / "runs", 1, describe)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", flush=True)
        return 130
    failed = [record for record in records if "traceback" in record]
    for record in failed:
        last = record["traceback"].strip().splitlines()[-1]
        print(f"failed: {record['name']}: {last}", file=sys.stderr)
    finished = [record for record in records if "result" in record]
    if finished:
        publish(finished, out, vars(options))
    return 1 if failed else 0
