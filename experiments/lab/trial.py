"""One trial in a fresh process: what a worker runs, be it one of loky or of Dask.

A worker starts a server, a process that imports what the trials need; for each trial the server
forks a process, which works and sends back what it found. So a fresh process costs a fork, not an
import. Each thread of a worker has a server of its own, each study new ones: no code or backend
of an earlier study is left in them. Whoever loses the process above ends what is below it.

Nothing but the standard library is imported here, so that workers stay small.
"""

import contextlib
import importlib
import importlib.metadata
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import random
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

# One thread per trial: results then do not depend on how many trials go side by side.
ONE_THREAD = {
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "OMP_NUM_THREADS": "1",  # PyTorch, oneDNN
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",  # JAX
    "NPROC": "1",  # the thread pools of JAX's client
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
FORK = multiprocessing.get_context("fork")
GRACE_S = 5  # from SIGTERM, which lets `finally` and `with` blocks run, to SIGKILL
LOOK_S = 1  # how often a process looks whether the one above is still there


@dataclass(frozen=True)
class Work:
    """What a worker has to know about a study.

    module, function: settings -> (JSON-able result, arrays by name). path: of modules, in front
    of the worker's own. folder: that relative paths start from, where it exists. environment: of
    the process. study: another text, another server.
    """

    module: str
    function: str
    path: tuple[str, ...]
    folder: str
    environment: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    study: str


def run(work: Work, settings: dict, wanted: Callable[[], bool] = lambda: True) -> dict:
    """Run one trial in a fresh process; return {"result", "arrays"} or {"traceback"}.

    wanted: asked every second; once it says no, the trial is ended.

    Raises ImportError where this machine does not have what the trials need.
    """
    server = _servers.get(threading.get_ident())
    if server is None or server.work != work or server.process.poll() is not None:
        if server is not None:
            server.close()
        server = _servers[threading.get_ident()] = _Server(work)
    outcome = server.run(settings, wanted)
    if outcome is None:
        server.close()
        return {"traceback": "the trial was ended: nobody waits for it, or its server died"}
    if "unable" in outcome:
        raise ImportError(outcome["unable"])
    return outcome


def own_path() -> list[str]:
    """Where this process finds modules, but for those that come with its Python."""
    own = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    places = dict.fromkeys(os.path.abspath(place) for place in sys.path)
    return [place for place in places if not place.startswith(tuple(own))]


def close() -> None:
    """End the servers of this worker."""
    while _servers:
        _servers.popitem()[1].close()


class _Server:
    """A worker's end of a server: the process below, and the line to it."""

    def __init__(self, work: Work):
        self.work = work
        self.line, theirs = multiprocessing.Pipe()
        path = os.pathsep.join([*work.path, *own_path()])
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "lab.trial", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=work.folder if os.path.isdir(work.folder) else None,
                env=os.environ | dict(work.environment) | {"PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C in a terminal is for the runner alone
            )
        self.line.send(work)

    def run(self, settings, wanted):
        """The outcome of a trial; None where it is no longer wanted, or the server died."""
        try:
            self.line.send(settings)
            while not self.line.poll(LOOK_S):
                if not wanted():
                    return None
            return self.line.recv()
        except (EOFError, OSError):
            return None

    def close(self):
        self.line.close()  # the server then ends its trial, and itself
        try:
            self.process.wait(2 * GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()


_servers: dict[int, _Server] = {}  # by thread


def begin(runner: int) -> None:
    """What a worker of loky does first; `runner` is the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the runner alone
    live_with(runner)


def live_with(parent: int) -> None:
    """End this process, and at once, when its parent is gone: it would be at work for nobody."""

    def watch():
        while os.getppid() == parent:
            time.sleep(LOOK_S)
        leads = os.getpgrp() == os.getpid()
        (os.killpg if leads else os.kill)(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


# -- below: in the server, and in the trials that it forks ---------------------------------------


def serve(line) -> None:
    """Import what the trials need; then fork a process for each trial that comes in."""
    function, unable, work = None, {}, line.recv()
    try:
        _check_versions(work.versions)
        function = getattr(importlib.import_module(work.module), work.function)
    except Exception:
        where = f"a worker on {socket.gethostname()} cannot run {work.module}.{work.function}"
        told = "start workers where the same versions and this folder (PYTHONPATH) are found"
        unable = {"unable": f"{where}; {told}:\n{traceback.format_exc()}"}
    with contextlib.suppress(EOFError, ConnectionError):  # the worker is done, or gone
        while True:
            settings = line.recv()
            line.send(_forked(function, settings, line) if function else unable)


def _check_versions(versions):
    for package, version in versions:
        found = importlib.metadata.version(package)
        if found != version:
            raise ImportError(f"{package} is {found} here, and {version} where the study runs")


def _forked(function, settings, line):
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = FORK.Process(target=_live, args=[function, settings, theirs, os.getpid()])
    process.start()
    theirs.close()
    _lead(process.pid)
    outcome = None
    with ours:
        if ours in multiprocessing.connection.wait([ours, line]):
            with contextlib.suppress(EOFError):
                outcome = ours.recv()
        else:  # the worker has hung up
            _signal(process.pid, signal.SIGTERM)
        process.join(GRACE_S)
    _signal(process.pid, signal.SIGKILL)  # and what it may have started
    process.join()
    code = process.exitcode
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return outcome or {"traceback": f"the process of the trial died ({how}), without a result"}


def _lead(pid):
    with contextlib.suppress(OSError):  # done by both sides, so that neither is ahead of it
        os.setpgid(pid, pid)


def _signal(group, number):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _live(function, settings, answer, server):
    """The whole life of a trial's process."""
    _lead(os.getpid())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    live_with(server)
    logging.getLogger("tensorflow").setLevel("ERROR")  # its advice on retracing is not for us
    answer.send(_outcome(function, settings))


def _outcome(function, settings):
    try:
        _seed(settings["seed"])
        result, arrays = function(settings)
        result.keys()
        json.dumps(result)  # what cannot be kept is this trial's failure, not the study's
        return {"result": result, "arrays": arrays}
    except Exception:
        return {"traceback": traceback.format_exc()}


def _seed(seed):
    """Seed everything that is there; a trial that says nothing about seeds is repeatable, too."""
    random.seed(seed)
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(seed)
    elif "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)


if __name__ == "__main__":
    serve(multiprocessing.connection.Connection(int(sys.argv[1])))
