"""Where trials run: in workers of loky on this machine, or of a Dask cluster on many.

Both give `slots()`, how many trials can run side by side, `submit(work, settings)`, a future as in
`concurrent.futures`, and `stop()`. A future that raises one of `lost` has lost its worker, which is
no fault of the trial.
"""

import concurrent.futures
import os
from concurrent.futures import BrokenExecutor, CancelledError
from dataclasses import asdict

from joblib.externals.loky import ProcessPoolExecutor

from activation_pruning.support.optional import optional
from lab import trial

ANSWER_S = 10  # how long a scheduler may take to answer


class Loky:
    """`jobs` worker processes on this machine."""

    def __init__(self, jobs: int):
        self.jobs, self.pool = jobs, None
        self.lost = (BrokenExecutor,)

    def slots(self) -> int:
        """How many trials can run side by side."""
        return self.jobs

    def submit(self, work: trial.Work, settings: dict) -> concurrent.futures.Future:
        """Start a trial; workers are there from the first one on, and new ones after a loss."""
        try:
            self.pool = self.pool or self._pool()
            return self.pool.submit(trial.run, work, settings)
        except BrokenExecutor:
            self.stop()
            return self.submit(work, settings)

    def stop(self) -> None:
        """End the workers, and the trials in them."""
        if self.pool is not None:
            self.pool.shutdown(kill_workers=True)
            self.pool = None

    def _pool(self):
        return ProcessPoolExecutor(self.jobs, initializer=trial.begin, initargs=[os.getpid()])


class Dask:
    """The workers of a Dask cluster.

    cluster: address of a scheduler, or how many workers to have on this machine. Those are
    threads of this process: the trials have processes of their own.
    """

    def __init__(self, cluster: str | int):
        self.cluster = cluster
        self.client = self.local = self.pool = None
        self.lost = (CancelledError,)

    def slots(self) -> int:
        """How many trials can run side by side: threads of all workers, which come and go."""
        self._connect()
        if self.client.status != "running":
            raise ConnectionError(f"the Dask scheduler {self.cluster} is gone")
        return sum(self.client.nthreads().values())

    def submit(self, work: trial.Work, settings: dict) -> concurrent.futures.Future:
        """Start a trial on some worker."""
        self._connect()
        return self.pool.submit(_remote(), asdict(work), settings)

    def stop(self) -> None:
        """End the trials and the connection; the cluster stays, unless it is of this process."""
        if self.client is None:
            return
        if self.client.status == "running":
            self.pool.shutdown(wait=False)
            self.client.run(_closing(), on_error="ignore")
        self.client.close()
        if self.local is not None:
            self.local.close()
        self.client = self.local = self.pool = None

    def _connect(self):
        if self.client is not None:
            return
        distributed = optional("distributed", "distributed")
        try:
            if isinstance(self.cluster, int):
                self.local = distributed.LocalCluster(
                    n_workers=self.cluster,
                    threads_per_worker=1,
                    processes=False,
                    dashboard_address=":0",  # any port
                )
            self.client = distributed.Client(self.local or self.cluster, timeout=ANSWER_S)
        except (OSError, ValueError) as error:
            raise ConnectionError(
                f"no Dask scheduler answers at {self.cluster} ({error}). Start one with "
                "`dask scheduler`, and give the address that it prints"
            ) from error
        self.pool = self.client.get_executor(pure=False)
        self.lost = (CancelledError, distributed.KilledWorker)


# Functions within functions travel by value: a worker need not have the modules of this folder on
# its path before they say where these are.


def _remote():
    def remote(work, settings):
        import importlib
        import sys

        import distributed

        sys.path += [place for place in work["path"] if place not in sys.path]
        trial = importlib.import_module("lab.trial")
        worker = distributed.get_worker()
        key = worker.get_current_task()

        def wanted():  # else the task was cancelled, or the runner is gone
            task = worker.state.tasks.get(key)
            return task is not None and task.state == "executing"

        return trial.run(trial.Work(**work), settings, wanted)

    return remote


def _closing():
    def closing():
        import sys
        import threading

        if "lab.trial" in sys.modules:
            threading.Thread(target=sys.modules["lab.trial"].close).start()

    return closing
