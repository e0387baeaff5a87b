"""Trials for the tests of the runner, and a runner of them that can be killed.

    python trials.py FOLDER EXECUTOR NAP

EXECUTOR: a number of jobs, or the address of a Dask scheduler. Exits with the number of failures.
Nothing here imports Keras at the top: these trials start quickly.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

COUNT = 60


def nap(settings):
    """Sleep, note that it ran, and draw numbers from what the runner seeded."""
    with Path(settings["log"]).open("a") as log:
        log.write(f"{settings['seed']} {os.getpid()}\n")
    time.sleep(settings["nap"])
    drawn = np.random.default_rng(settings["seed"]).random(1000)
    result = {"mean": drawn.mean().item(), "seeded": random.random(), "time_s": time.time()}
    return result, {"drawn": drawn}


def hopeless(settings):
    """Fail, in the way that the settings say."""
    with Path(settings["log"]).open("a") as log:
        log.write("called\n")
    if settings["how"] == "raise":
        raise RuntimeError("on purpose")
    if settings["how"] == "not json":
        return {"value": np.float32(1)}, {}
    os.kill(os.getpid(), signal.SIGKILL)
    return None


def surroundings(settings):
    """What the process of a trial finds."""
    found = {"pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"], "folder": os.getcwd()}
    return found | {"path": sys.path}, {}


def grid(folder, nap_s, count=COUNT):
    """Settings of `nap`, with a log beside the folder of records."""
    log = str(Path(folder).with_suffix(".log"))
    return [{"seed": seed, "nap": nap_s, "log": log} for seed in range(count)]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
    from trials import nap as work  # as workers know it

    from lab import executors, runner

    target, executor, nap_s = sys.argv[1:]
    executor = executors.Loky(int(executor)) if executor.isdigit() else executors.Dask(executor)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # What runs in the background of a shell inherits that Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    found = runner.run_grid(grid(target, float(nap_s)), work, Path(target), executor=executor)
    sys.exit(sum("traceback" in record for record in found))
