"""What decides a pruning event."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from activation_pruning import allocations, amounts, masks, sites, surgeons
from activation_pruning.evidence import gathering
from activation_pruning.evidence.statistic import look_up
from activation_pruning.sites import Found
from activation_pruning.support.checks import SHARE, check_count, is_number
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Layers, Model


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides a pruning event, looked up by name and checked; the fields as for `prune`.

    Raises:
        ValueError: for an unknown criterion, allocation or granularity, or a granularity that the
            criterion cannot work with.

    Example:
        >>> Settings("magnitude", granularity="unit").granularity
        Unit(round_to=1)
    """

    criterion: Any = "magnitude"
    allocation: Any = "global"
    granularity: Any = "weight"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "criterion", surgeons.get(self.criterion))
        object.__setattr__(self, "allocation", allocations.get(self.allocation))
        object.__setattr__(self, "granularity", masks.granularity(self.granularity))
        check_count("seed", self.seed, 0)
        gathering.check(self.needs)
        grain = type(self.granularity).__name__.lower()
        if grain in getattr(self.criterion, "not_for", ()):
            raise ValueError(
                f"granularity={shown(grain)} does not go with criterion "
                f"{self.criterion.__name__!r}, "
                "whose scores compare weights within units only; choose 'weight' or another one"
            )
        if self.surgeon:
            self.surgeon.check(self.granularity)

    @property
    def surgeon(self) -> surgeons.Surgeon | None:
        """The criterion if it is one that also changes the surviving weights, else None."""
        return self.criterion if isinstance(self.criterion, surgeons.Surgeon) else None

    @property
    def needs(self) -> frozenset[str]:
        """What the criterion needs to be gathered, each at a price."""
        return frozenset(getattr(self.criterion, "needs", ()))

    @property
    def asked(self) -> Mapping[str, Mapping[str, Any]]:
        """{one of its needs: further arguments for what gathers it}."""
        return getattr(self.criterion, "asked", {})

    @property
    def statistics(self) -> tuple[str, ...]:
        """Those of its needs that are counted while a model trains."""
        return tuple(one.name for one in look_up(self.needs, "activity"))

    @property
    def tracked(self) -> tuple[str, ...]:
        """What the criterion needs of the gradients of training steps."""
        return tuple(one.name for one in look_up(self.needs, "training"))

    @property
    def rounds(self) -> int:
        """In how many rounds the criterion goes to a target."""
        return getattr(self.criterion, "rounds", 1)

    @property
    def couples(self) -> bool:
        """Whether units that can only go together are ranked together."""
        return isinstance(self.granularity, masks.Unit) and not self.surgeon

    def find(self, model: Model, include: Layers = None, exclude: Layers = None) -> Found:
        """The sites that can be pruned by these settings, and what was left out; see `sites.find`.

        Raises:
            ValueError: when the granularity fits none of the layers, and as `sites.find`.
        """
        sites.check_model(model, layers=False)
        found = sites.find(model, include, exclude)
        refusal = getattr(self.granularity, "refusal", lambda shape, input_axis: "")
        reasons = [refusal(tuple(s.variable.shape), s.input_axis) for s in found.sites]
        return found.without(dict(zip(found.sites, reasons, strict=True)))

    def check_target(self, sparsity: Any) -> None:
        """Raise ValueError for a target that no event could reach; None is one not known yet."""
        most = self.granularity.max_sparsity
        if isinstance(sparsity, amounts.Budget) and not self.couples:
            raise ValueError(
                f"sparsity={shown(sparsity)}: a budget is met by whole units that leave the model; "
                "give granularity='unit' with it, and a criterion that is no surgeon"
            )
        if isinstance(sparsity, amounts.Budget) and self.allocation is not allocations.class_blind:
            raise ValueError(
                f"allocation={self.allocation.__name__!r} has no say where a budget decides which "
                "units go; leave it out"
            )
        if sparsity is None or (amounts.is_amount(sparsity) and most == 1):
            return
        if not (is_number(sparsity) and 0 <= sparsity < 1 and sparsity <= most):
            allowed = "[0, 1)" if most == 1 else f"[0, {most:g}] with {self.granularity}"
            schedule = hasattr(sparsity, "final_sparsity")
            more = "a schedule is for PruningCallback" if schedule else SHARE
            raise ValueError(f"sparsity must be in {allowed}, received {shown(sparsity)}; {more}")
