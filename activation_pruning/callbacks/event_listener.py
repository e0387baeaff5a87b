"""What callbacks that tell others of pruning events have in common."""

from typing import Any

from activation_pruning.callbacks.attached_callback import AttachedCallback


class EventListener(AttachedCallback):
    """Hears of every event of a `PruningCallback` in the same fit, right after it.

    Subclasses say what to do as the fit begins, `_begin(epoch)`, and at an event that is not among
    those `_known`, {(epoch, step)}, from an older fit: `_event(rows, epoch, step)`, with its rows
    of `pruner.table()`.
    """

    def __init__(self, pruner: Any = None) -> None:
        if pruner is not None and not hasattr(pruner, "table"):
            raise ValueError(
                f"pruner={pruner!r}; it must be the PruningCallback of the same fit, or None where "
                "nothing is pruned"
            )
        super().__init__(getattr(pruner, "include", None), getattr(pruner, "exclude", None))
        self.pruner = pruner
        self._known: set[tuple[int, int]] = set()

    def _attach(self, hooks):
        hooks.listen(self, self._around_event)

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        self._begun, self._heard = False, 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._begin_once(epoch)

    def _begin_once(self, epoch):
        if not self._begun:
            self._begun = True
            self._begin(epoch)

    def _around_event(self, moment, epoch):
        self._begin_once(epoch)  # an event before the first step may come before our own hook
        if moment == "after" and self.pruner is not None:
            table = self.pruner.table()
            new = table[table["event"] > self._heard]  # none: the event was another callback's
            for event, rows in new.groupby("event"):
                self._heard = event
                epoch, step = (int(rows[name].iloc[0]) for name in ("epoch", "step"))
                if (epoch, step) not in self._known:
                    self._event(rows, epoch, step)

    def _begin(self, epoch):
        """The fit begins, after so many epochs: more than 0 where it goes on with an older one."""

    def _event(self, rows, epoch, step):
        """There has been an event."""


def settings(pruner: Any) -> dict[str, Any]:
    """{name: text or number} of what a `PruningCallback` was made with.

    Example:
        >>> import activation_pruning as ap
        >>> found = settings(ap.PruningCallback(ap.schedules.OneShot(0.5), exclude=["head"]))
        >>> found["criterion"], found["allocation"], found["exclude"], found["seed"]
        ('activation_magnitude', 'class_blind', ['head'], 0)
    """
    shared = pruner.settings
    named = {"criterion": shared.criterion, "allocation": shared.allocation}
    found: dict[str, Any] = {"schedule": repr(pruner.schedule)}
    found |= {key: getattr(value, "__name__", repr(value)) for key, value in named.items()}
    found |= {"granularity": repr(shared.granularity), "seed": shared.seed}
    for key in ("include", "exclude"):
        layers = getattr(pruner, key)
        layers = [layers] if isinstance(layers, str) else layers
        found[key] = layers if layers is None else [getattr(one, "name", one) for one in layers]
    found |= {key: getattr(pruner, key) for key in ("threshold", "respect_zeros", "reset_counts")}
    return found | {"regrow": None if pruner.regrow is None else repr(pruner.regrow)}
