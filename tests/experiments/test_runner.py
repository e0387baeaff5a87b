"""The runner: what happens to a study whose processes are killed, whose disk is full, and so on."""

import concurrent.futures
import contextlib
import dataclasses
import errno
import importlib
import json
import os
import random
import re
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import trials

from activation_pruning.support.files import replacing

FOLDER = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(FOLDER))  # as when a script of that folder runs

command_line = importlib.import_module("lab.command_line")
executors = importlib.import_module("lab.executors")
runner = importlib.import_module("lab.runner")
storage = importlib.import_module("lab.storage")
study = importlib.import_module("lab.study")
trial = importlib.import_module("lab.trial")

pytestmark = pytest.mark.skipif(os.name == "nt", reason="trials are forked")


def settings(tmp_path, **changed):
    return {"seed": 0, "log": str(tmp_path / "log")} | changed


def kept(folder):
    return len(list(folder.glob("*seed*.json")))


def runs(folder):
    return folder.with_suffix(".log").read_text().splitlines()


# -- Dask without a cluster ----------------------------------------------------------------------


def test_dask_workers_in_the_process_of_the_runner(tmp_path):
    executor = executors.Dask(2)
    found = runner.run_grid(
        trials.grid(tmp_path / "runs", 0.01, 4), trials.nap, tmp_path / "runs", executor=executor
    )
    assert [record["result"]["seeded"] for record in found] == [
        random.Random(seed).random() for seed in range(4)
    ]


def test_a_scheduler_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "ANSWER_S", 0.5)
    grid = trials.grid(tmp_path / "runs", 0, 1)
    for address in ("tcp://127.0.0.1:9", "nowhere://x:1"):
        with pytest.raises(ConnectionError, match=f"no Dask scheduler answers at {address}"):
            runner.run_grid(grid, trials.nap, tmp_path / "runs", executor=executors.Dask(address))
    assert kept(tmp_path / "runs") == 0


# -- a trial -------------------------------------------------------------------------------------


def calls(tmp_path):
    log = tmp_path / "log"
    return log.read_text().split() if log.exists() else []


def test_each_trial_has_a_fresh_process_with_one_thread_its_seed_and_the_runners_folder(tmp_path):
    grid = [settings(tmp_path, seed=seed) for seed in range(3)]
    found = runner.run_grid(grid, trials.surroundings, tmp_path / "runs")
    results = [record["result"] for record in found]
    assert len({result["pid"] for result in results}) == 3
    assert {result["threads"] for result in results} == {os.environ.get("OMP_NUM_THREADS", "1")}
    assert {result["folder"] for result in results} == {os.getcwd()}
    drawn = runner.run_grid(trials.grid(tmp_path / "nap", 0, 2), trials.nap, tmp_path / "nap")
    seeded = [record["result"]["seeded"] for record in drawn]
    assert seeded == [random.Random(seed).random() for seed in range(2)]


def test_workers_stay_small(tmp_path):
    executor = executors.Loky(1)
    try:
        executor.submit(runner.task_of(trials.nap), settings(tmp_path, nap=0)).result()
        found = executor.pool.submit(eval, "{*__import__('sys').modules}").result()
    finally:
        executor.stop()
    assert not {"activation_pruning", "keras", "pandas"} & found


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("raise", "RuntimeError: on purpose"),
        ("die", "died (SIGKILL), without a result"),
        ("not json", "TypeError: Object of type float32 is not JSON serializable"),
    ],
)
def test_a_failed_trial_is_tried_once_more_and_recorded(tmp_path, how, told):
    for times in (1, 2):  # and again by the next run
        (record,) = runner.run_grid(
            [settings(tmp_path, how=how)], trials.hopeless, tmp_path / "runs"
        )
        assert len(calls(tmp_path)) == 2 * times
        (path,) = (tmp_path / "runs").glob("*seed*.json")
        written = json.loads(path.read_text())
        assert written.pop("sha256")
        assert written == record
        assert told in record["traceback"]
        assert record["tries"] == 2


def test_a_trial_whose_worker_is_lost_again_and_again_fails(tmp_path):
    class Lossy:
        submitted, lost = 0, (concurrent.futures.BrokenExecutor,)

        def slots(self):
            return 1

        def submit(self, work, settings):
            self.submitted += 1
            future = concurrent.futures.Future()
            future.set_exception(concurrent.futures.BrokenExecutor("gone"))
            return future

        def stop(self):
            pass

    executor = Lossy()
    (record,) = runner.run_grid(
        [settings(tmp_path)], trials.nap, tmp_path / "runs", executor=executor
    )
    assert "its worker was lost, 5 time(s)" in record["traceback"]
    assert executor.submitted == 5


def test_a_worker_without_the_modules_or_with_other_versions(tmp_path):
    work = runner.task_of(trials.nap)
    for changed, told in (
        ({"module": "nowhere"}, "No module named 'nowhere'"),
        ({"versions": (("numpy", "0.1"),)}, "numpy is .* here, and 0.1 where the study runs"),
    ):
        try:
            with pytest.raises(ImportError, match=rf"cannot run (?s:.*){told}"):
                trial.run(dataclasses.replace(work, **changed), settings(tmp_path, nap=0))
        finally:
            trial.close()


def test_work_that_a_worker_cannot_find(tmp_path):
    def inner(settings):
        return {}, {}

    with pytest.raises(ValueError, match=r"not a function of module .*test_runner: a worker can"):
        runner.run_grid([settings(tmp_path)], inner, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


# -- settings and folders ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.int64(3), r"setting 'units' is np.int64\(3\), a int64, of which no hash"),
        ((300, 100), r"'units' is \(300, 100\), a tuple"),
        (float("nan"), "'units' is nan, a float"),
        ({1: "a"}, "'units' is {1: 'a'}, a dict"),
        (len, "a builtin_function_or_method"),
    ],
)
def test_settings_without_a_hash(tmp_path, value, told):
    with pytest.raises(TypeError, match=told):
        runner.run_grid([settings(tmp_path, units=value)], trials.nap, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("seed", [None, -1, 0.5, True])
def test_every_trial_has_a_seed(tmp_path, seed):
    with pytest.raises(ValueError, match=f"'seed' is {seed}; every trial has a whole number"):
        runner.run_grid([{"seed": seed}], trials.nap, tmp_path / "runs")


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_folder_of_another_study_or_format_is_left_alone(tmp_path):
    folder, grid = tmp_path / "runs", trials.grid(tmp_path / "runs", 0, 2)
    runner.run_grid(grid, trials.nap, folder)
    before = content(folder)
    with pytest.raises(ValueError, match=r"holds the study 'trials.nap', not 'trials.hopeless'"):
        runner.run_grid(grid, trials.hopeless, folder)
    assert content(folder) == before
    for changed in (folder / storage.STUDY, folder / f"{storage.name_of(grid[0])}.json"):
        sound = changed.read_text()
        changed.write_text(json.dumps(json.loads(sound) | {"format": 2}))
        before = content(folder)
        with pytest.raises(ValueError, match=f"{changed.name} has format 2, and this program"):
            runner.run_grid(grid, trials.nap, folder)
        assert content(folder) == before
        changed.write_text(sound)
    (folder / storage.STUDY).write_text("{")
    with pytest.raises(ValueError, match="not readable as what a study is"):
        runner.run_grid(grid, trials.nap, folder)


def test_records_from_before_there_was_a_format_are_read(tmp_path):
    folder, grid = tmp_path / "runs", trials.grid(tmp_path / "runs", 0, 1)
    runner.run_grid(grid, trials.nap, folder)
    path = folder / f"{storage.name_of(grid[0])}.json"
    old = json.loads(path.read_text())
    for name in ("format", "tries", "sha256", "arrays_sha256"):
        del old[name]
    path.write_text(json.dumps(old))
    (folder / storage.STUDY).unlink()
    assert runner.run_grid(grid, trials.nap, folder) == [old]
    assert len(runs(folder)) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_a_full_disk_is_told_and_what_finished_is_kept(tmp_path, monkeypatch, suffix):
    folder, grid = tmp_path / "runs", trials.grid(tmp_path / "runs", 0.05, 4)
    folder.mkdir()
    name = f"{storage.name_of(grid[2])}{suffix}"

    @contextlib.contextmanager
    def full(path):
        with replacing(path) as part:
            yield Path("/dev/full") if path.name == name else part

    monkeypatch.setattr(storage, "replacing", full)
    with pytest.raises(OSError, match=f"cannot write .*{suffix}': No space left on device. Give"):
        runner.run_grid(grid, trials.nap, folder)
    assert kept(folder) == 2
    monkeypatch.undo()
    assert not list(folder.glob(".*"))
    assert [r["settings"]["seed"] for r in runner.run_grid(grid, trials.nap, folder)] == [
        0,
        1,
        2,
        3,
    ]
    assert len(runs(folder)) <= 4 + 2  # the one that was not written, and one under way


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    grid = trials.grid(tmp_path / "runs", 0, 1)
    with pytest.raises(OSError, match=r"cannot write '.*file/runs/study.json': "):
        runner.run_grid(grid, trials.nap, tmp_path / "file" / "runs")

    def refuse(source, target):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match=r"Read-only file system\. Give a path"):
        runner.run_grid(grid, trials.nap, tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []
    assert not (tmp_path / "runs.log").exists()


# -- the course of a study -----------------------------------------------------------------------


@pytest.fixture
def course(tmp_path, monkeypatch):
    """Runs a study of naps with options; returns its exit code."""
    monkeypatch.setenv("ACTIVATION_PRUNING_NETWORKS", "")
    handler = signal.getsignal(signal.SIGTERM)

    def run(*arguments, work=trials.nap, publish=lambda *_: None):
        parser = command_line.shared_parser("naps", "Sleep.", ("short", "long"))
        parser.add_argument("--nap-s", type=command_line.positive, default=0.01, help="seconds")

        def grid(options, data):
            told = [{"arm": arm, "nap": options.nap_s} for arm in options.arms]
            log = str(tmp_path / "log")
            return [{"seed": s, "log": log} | one for s in range(options.seeds) for one in told]

        arguments = ["--out", str(tmp_path / "out"), *map(str, arguments)]
        return study.run(parser, arguments, grid, work, publish, lambda result: "slept")

    yield run
    signal.signal(signal.SIGTERM, handler)


def test_options_of_a_file_and_flags_that_win(tmp_path, course):
    file = tmp_path / "study.yaml"
    file.write_text("seeds: 2\narms: [long]\nnap_s: 1e-3\ndata-dir:\nfresh: true\njobs: 2\n")
    seen = []
    assert course("--config", file, "--seeds", 3, publish=lambda *found: seen.append(found)) == 0
    ((found, out, options),) = seen
    assert [(r["settings"]["arm"], r["settings"]["seed"]) for r in found] == [
        ("long", seed) for seed in range(3)
    ]
    assert found[0]["settings"]["nap"] == 1e-3
    assert options["jobs"] == 2
    assert options["fresh"]
    assert out == tmp_path / "out"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sedes: 2", "option 'sedes' is unknown; .*; did you mean 'seeds'?"),
        ("seeds: none", "argument --seeds: none is not a whole number of at least 1"),
        ("seeds: 0", "argument --seeds: 0 is not a whole number of at least 1"),
        ("seeds: [1, 2]", r"seeds: \[1, 2\]; give one value"),
        ("arms: middle", "argument --arms: invalid choice: 'middle'"),
        ("arms: {short: 1}", "give a number, a text, or a list of these"),
        ("fresh: 1", "fresh: 1; give true or false"),
        ("- seeds", "holds list; expected: lines of `option: value`"),
        ("seeds: [", "not readable as YAML"),
        (None, "No such file"),
        ("scheduler: tcp://a:1\nlocal_cluster: 2", "--scheduler and --local-cluster: give one"),
    ],
)
def test_a_bad_file_of_options(tmp_path, course, capsys, text, told):
    file = tmp_path / "study.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SystemExit) as stopped:
        course("--config", file)
    assert stopped.value.code == 2
    assert re.search(told, capsys.readouterr().err.replace("\n", " "))
    assert not (tmp_path / "out").exists()


def test_a_cluster_on_the_command_line_wins_over_one_in_the_file(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("local_cluster: 2\nseeds: 5\n")
    parser = command_line.shared_parser("naps", "Sleep.", ("short", "long"))
    options = parser.parse_args(["--config", str(file), "--scheduler=tcp://a:1"])
    assert (options.scheduler, options.local_cluster, options.seeds) == ("tcp://a:1", None, 5)


def test_one_table_of_all_trials(tmp_path, course, capsys):
    assert course("--arms", "short", "--seeds", 2) == 0
    found = pd.read_csv(tmp_path / "out" / study.TABLE)
    assert str(tmp_path / "out" / study.TABLE) in capsys.readouterr().out
    assert found["seed"].tolist() == [0, 1]
    assert found["status"].tolist() == ["done", "done"]
    drawn = [np.random.default_rng(seed).random(1000).mean() for seed in (0, 1)]
    assert found["mean"].tolist() == drawn  # to the last bit

    record = {"name": "a", "settings": {"seed": 1, "hidden": [3, 2], "sparsity": 0.8}}
    result = {"sparsity": 0.79, "accuracy": 0.9, "history": [1, 2]}
    failed = record | {"name": "b", "traceback": "Traceback\nOSError: no\n"}
    rows = study.table([record | {"result": result}, failed]).to_dict("records")
    assert rows[0]["hidden"] == "[3, 2]"
    assert (rows[0]["target_sparsity"], rows[0]["sparsity"], rows[0]["accuracy"]) == (
        0.8,
        0.79,
        0.9,
    )
    assert "history" not in rows[0]
    assert (rows[1]["status"], rows[1]["error"]) == ("failed", "OSError: no")


def test_a_study_that_cannot_go_on_says_why(tmp_path, course, capsys, monkeypatch):
    monkeypatch.setattr(executors, "ANSWER_S", 0.5)
    assert course("--scheduler", "tcp://127.0.0.1:9") == 1
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err
    assert course() == 0
    with pytest.raises(SystemExit) as stopped:
        course("--fresh", work=trials.surroundings)
    assert stopped.value.code == 2
    assert "holds the study 'trials.nap'" in capsys.readouterr().err
    assert kept(tmp_path / "out" / "runs") == 6
    (tmp_path / "out" / "runs" / f"{'x' * 9}.json.part").touch()
    assert course("--fresh", "--arms", "short", "--seeds", 1) == 0
    assert kept(tmp_path / "out" / "runs") == 1
