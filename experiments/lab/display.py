"""What a runner shows while it runs: lines in a log, and in a terminal a live one below them."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich import live, text


class Progress:
    """Counts the trials of a study, and tells of them.

    total: trials. done: of these, finished before. describe: result -> a few words on it.
    """

    def __init__(self, total: int, done: int, describe: Callable[[dict], str]):
        self.total, self.done, self.describe = total, done, describe
        self.started, self.finished_now, self.failed = time.monotonic(), 0, 0
        self.running: list[dict] = []
        self.alone = False
        print(f"{total} runs: {done} finished before, {total - done} to do", flush=True)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """In a terminal, keep a line on the present state below all others."""
        if not sys.stdout.isatty() or self.done == self.total:
            yield
            return
        with live.Live(get_renderable=self._live, refresh_per_second=2, transient=True):
            yield

    def starts(self, settings: dict) -> None:
        """Tell that a trial is under way."""
        self.alone = False
        self.running.append(settings)
        print(f"  starts    {title(settings)}", flush=True)

    def again(self, settings: dict, why: str) -> None:
        """Tell that a trial has to be done once more, and why."""
        self.running.remove(settings)
        print(f"  failed    {title(settings)}; it is tried again\n{why.rstrip()}", flush=True)

    def no_worker(self) -> None:
        """Tell, once, that there is nobody to run a trial."""
        if not self.alone:
            print("no worker is there; waiting for one", flush=True)
        self.alone = True

    def finished(self, record: dict) -> None:
        """Tell how a trial ended."""
        failed = "traceback" in record
        self.running.remove(record["settings"])
        self.done += 1
        self.finished_now += 1
        self.failed += failed
        told = "FAILED" if failed else self.describe(record["result"])
        number = f"[{self.done:>{len(str(self.total))}}/{self.total}]"
        print(f"{number} {title(record['settings'])}: {told} | {self._state()}", flush=True)
        if failed:
            print(record["traceback"], flush=True)

    def _state(self):
        elapsed = time.monotonic() - self.started
        counts = f"{len(self.running)} running, {self.failed} failed"
        if not self.finished_now:
            return f"{counts}, elapsed {clock(elapsed)}"
        left = elapsed / self.finished_now * (self.total - self.done)
        return f"{counts}, elapsed {clock(elapsed)}, about {clock(left)} left"

    def _live(self):
        line = f"{self.done} of {self.total} done, {self._state()}"
        names = "; ".join(map(title, self.running))
        return text.Text(f"{line} | {names}", no_wrap=True, overflow="ellipsis", style="bold")


def title(settings: dict) -> str:
    """A trial in a few words."""
    pruned = f" {settings['sparsity']:.2f}" if settings.get("sparsity") else ""
    events = f", {settings['events']} events" if settings.get("events") else ""
    strength = f" {settings['strength']:g}" if settings.get("strength") else ""
    arm = settings.get("arm", "")
    named = [f"{settings['network']}"] if "network" in settings else []
    named += [f"{arm}{strength}{pruned}{events}"] if arm or pruned or events else []
    return ", ".join([*named, f"seed {settings['seed']}"])


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, or m:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
