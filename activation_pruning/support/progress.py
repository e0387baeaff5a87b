"""How long work shows that it goes on."""

from typing import Any


def no_progress(done: int, total: int | None) -> None:
    """Show nothing."""


class ProgressBar:
    """A bar that shows itself with the first step of work, and anew for each piece of work.

    Called with (work done, work in all), in any unit; where nobody knows how much there is in
    all (None), it shows nothing.

    Args:
        verbose: 0 for none, otherwise as in `keras.utils.Progbar`.

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

            self.bar = keras.utils.Progbar(total, verbose=self.verbose, unit_name="part")
        self.done = done
        self.bar.update(done)
