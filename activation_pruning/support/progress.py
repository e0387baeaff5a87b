"""How long work shows that it goes on."""

import sys
from typing import Any


def no_progress(done: int, total: int | None) -> None:
    """Show nothing."""


def watched() -> bool:
    """Whether somebody looks on: in a terminal or a notebook, and not a log or a pipe."""
    return "ipykernel" in sys.modules or bool(getattr(sys.stdout, "isatty", bool)())


class ProgressBar:
    """A bar that shows itself with the first step of work, and anew for each piece of work.

    Called with (work done, work in all), in any unit; where nobody knows how much there is in
    all (None), it shows nothing. A log, which keeps every state of a bar, gets one line at the end.

    Args:
        verbose: 0 for none, 1 for a bar, 2 for a line at the end, as in `keras.utils.Progbar`.

    Example:
        >>> bar = ProgressBar(verbose=0)
        >>> bar(1, 10)
    """

    def __init__(self, verbose: int = 1):
        self.verbose, self.done = verbose, 0
        self.bar: Any = None

    def __call__(self, done: int, total: int | None) -> None:
        """Show that `done` of `total` is done."""
        if not total or not self.verbose:
            return
        if self.bar is None or self.bar.target != total or done < self.done:
            import keras

            verbose = self.verbose if watched() else 2
            self.bar = keras.utils.Progbar(total, verbose=verbose, unit_name="part")
        self.done = done
        self.bar.update(done)
