"""The runner: studies whose processes are killed, on this machine and on a Dask cluster."""

import contextlib
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras_trials
import numpy as np
import pandas as pd
import psutil
import pytest
import trials

FOLDER = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(FOLDER))  # as when a script of that folder runs

executors = importlib.import_module("lab.executors")
runner = importlib.import_module("lab.runner")
storage = importlib.import_module("lab.storage")

pytestmark = pytest.mark.skipif(os.name == "nt", reason="trials are forked")


def table(folder):
    """What a study found, without times; each file is read whole."""
    rows = []
    for path in sorted(folder.glob("*seed*.json")):
        record = json.loads(path.read_text())
        with np.load(path.with_suffix(".npz")) as arrays:
            drawn = arrays["drawn"].sum()
        result = record["result"]
        row = {"name": record["name"], "seed": record["settings"]["seed"], "drawn": drawn}
        rows.append(row | {"mean": result["mean"], "seeded": result["seeded"]})
    return pd.DataFrame(rows)


def undisturbed(folder):
    """The table that a study without any trouble gives, of names as in a folder."""
    rows = []
    for one in trials.grid(folder, 0.05):
        drawn = np.random.default_rng(one["seed"]).random(1000)
        seeded = random.Random(one["seed"]).random()
        row = {"name": storage.name_of(one), "seed": one["seed"], "drawn": drawn.sum()}
        rows.append(row | {"mean": drawn.mean(), "seeded": seeded})
    return pd.DataFrame(rows).sort_values("name", ignore_index=True)


def start(folder, executor="2", nap="0.05"):
    command = [sys.executable, str(Path(trials.__file__)), str(folder), str(executor), nap]
    with folder.with_suffix(".out").open("a") as out:
        return subprocess.Popen(command, stdout=out, stderr=out)


def wait_for(condition, seconds=60):
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if condition():
            return True
        time.sleep(0.02)
    return False


def kept(folder):
    return len(list(folder.glob("*seed*.json")))


def runs(folder):
    return folder.with_suffix(".log").read_text().splitlines()


def of_study(folder):
    """All processes at work for a study, but for its runner: those that have its log's path."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        if (process.info["environ"] or {}).get("ACTIVATION_PRUNING_TEST") == str(folder):
            found.append(process)
    return found


# -- killed ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_runner_killed_at_random_and_started_again(tmp_path):
    folder, chance, kills = tmp_path / "runs", random.Random(0), 0
    while kills < 5:
        process, before = start(folder), kept(folder)
        assert wait_for(lambda b=before, p=process: kept(folder) > b or p.poll() is not None)
        time.sleep(chance.random() / 3)
        process.kill()
        process.wait()
        kills += 1
    assert 0 < kept(folder) < trials.COUNT
    assert start(folder).wait(60) == 0
    pd.testing.assert_frame_equal(table(folder), undisturbed(folder))
    assert list(folder.glob("*.part")) == []
    # What was under way, two trials at most, and one that was about to be written.
    assert trials.COUNT <= len(runs(folder)) <= trials.COUNT + 3 * kills


@pytest.mark.slow
def test_workers_servers_and_trials_killed_at_random(tmp_path):
    folder, chance, killed = tmp_path / "runs", random.Random(1), []
    process = start(folder, nap="0.1")
    assert wait_for(lambda: kept(folder) > 2)
    while process.poll() is None and len(killed) < 8:
        below = psutil.Process(process.pid).children(recursive=True)
        victims = [p for p in below if "tracker" not in " ".join(cmdline(p))]
        if victims:
            victim = chance.choice(victims)
            with contextlib.suppress(psutil.Error):
                victim.kill()
                killed.append(victim)
        time.sleep(chance.random() / 2)
    code = process.wait(60)
    assert len(killed) >= 4
    assert code == 0 or start(folder, nap="0.1").wait(60) == 0  # one trial may be hit twice
    assert kept(folder) == trials.COUNT
    found = table(folder)
    assert found["seed"].sort_values().tolist() == list(range(trials.COUNT))
    assert found["mean"].to_dict() == {
        i: np.random.default_rng(seed).random(1000).mean() for i, seed in found["seed"].items()
    }


def cmdline(process):
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nobody_is_left_behind(tmp_path, monkeypatch, how):
    folder = tmp_path / "runs"
    monkeypatch.setenv("ACTIVATION_PRUNING_TEST", str(folder))
    process = start(folder, nap="60")
    assert wait_for(lambda: folder.with_suffix(".log").exists() and len(runs(folder)) == 2)
    assert len(of_study(folder)) >= 3
    process.send_signal(how)
    assert process.wait(20) != 0
    assert wait_for(lambda: not of_study(folder), 20)


# -- a Dask cluster ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """(address, processes): a scheduler and two workers on loopback, by the README's commands."""
    folder = tmp_path_factory.mktemp("cluster")
    place = folder / "scheduler.json"
    plain = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    began = []

    def begin(*command):
        with (folder / "log").open("a") as log:
            began.append(
                subprocess.Popen(["dask", *command], stdout=log, stderr=log, cwd=folder, env=plain)
            )

    try:
        begin("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
              "--scheduler-file", str(place))  # fmt: skip
        whole = lambda: place.exists() and place.read_text().rstrip().endswith("}")  # noqa: E731
        assert wait_for(whole), (folder / "log").read_text()
        address = json.loads(place.read_text())["address"]
        for _ in range(2):
            begin("worker", address, "--nthreads", "1", "--no-dashboard")
        yield address, began
    finally:
        for process in reversed(began):
            process.terminate()
            process.wait(30)


@pytest.fixture
def dask(cluster):
    return executors.Dask(cluster[0])


@pytest.mark.slow
def test_dask_and_joblib_give_the_same_numbers(tmp_path, dask):
    """Networks trained with two seeds each: equal to the last bit, and seeds differ."""
    grid = [{"seed": seed, "copy": copy} for seed in (0, 1) for copy in (0, 1)]
    found, weights = {}, {}
    for name, executor in {"loky": executors.Loky(2), "dask": dask}.items():
        found[name] = runner.run_grid(
            grid, keras_trials.training, tmp_path / name, executor=executor
        )
        assert not any("traceback" in record for record in found[name]), found[name]
        weights[name] = [storage.arrays_of(tmp_path / name, one) for one in found[name]]
    assert found["loky"] == found["dask"]
    for one, other in zip(weights["loky"], weights["dask"], strict=True):
        assert all((one[key] == other[key]).all() for key in one)
    losses = [record["result"]["loss"] for record in found["loky"]]
    assert losses[0] == losses[1]
    assert losses[2] == losses[3] != losses[0]


@pytest.mark.slow
def test_dask_workers_and_runner_killed(tmp_path, cluster, monkeypatch):
    address, began = cluster
    folder, chance = tmp_path / "runs", random.Random(2)
    monkeypatch.setenv("ACTIVATION_PRUNING_TEST", str(folder))
    process = start(folder, address, nap="0.1")
    watch = executors.Dask(address)
    for _ in range(3):
        before = kept(folder)
        # A nanny gives up on a worker that dies while it starts; those at work are started again.
        assert wait_for(lambda: watch.slots() == 2)
        assert wait_for(lambda b=before: kept(folder) > b), folder.with_suffix(".out").read_text()
        nanny = psutil.Process(chance.choice(began[1:]).pid)
        for worker in nanny.children():
            with contextlib.suppress(psutil.Error):
                worker.kill()
        time.sleep(chance.random())
    process.kill()
    process.wait()
    assert wait_for(lambda: watch.slots() == 2)
    watch.client.close()
    assert kept(folder) < trials.COUNT
    assert start(folder, address, nap="0.1").wait(120) == 0, folder.with_suffix(".out").read_text()
    assert table(folder)["seed"].sort_values().tolist() == list(range(trials.COUNT))


@pytest.mark.slow
def test_a_trial_on_dask_ends_with_its_runner(tmp_path, cluster):
    for how in (signal.SIGKILL, signal.SIGINT):
        folder = tmp_path / how.name
        process = start(folder, cluster[0], nap="60")
        assert wait_for(lambda f=folder: f.with_suffix(".log").exists() and len(runs(f)) == 2)
        trial_pids = [int(line.split()[1]) for line in runs(folder)]
        process.send_signal(how)
        assert process.wait(20) != 0
        assert wait_for(lambda p=trial_pids: not any(map(psutil.pid_exists, p)), 30)
