"""What all budgets share: order the units, stop where the model is cheap enough, and say so."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import ClassVar

import numpy as np

from activation_pruning.allocations import Allocation, SiteItems
from activation_pruning.amounts import Budget, ByScores
from activation_pruning.amounts.base import Share
from activation_pruning.amounts.by_scores import exactly
from activation_pruning.budgets.order import removal_order
from activation_pruning.budgets.prediction import Prediction, Term
from activation_pruning.budgets.trial import fewest, without
from activation_pruning.graph.channels import Coupling
from activation_pruning.layers.wrapping import check_plain
from activation_pruning.sites import LiveSites
from activation_pruning.support.checks import check_number, is_integer
from activation_pruning.support.types import Array, Model, Sites


@dataclasses.dataclass(frozen=True)
class CostBudget(Budget):
    """The cost of a model once `compact` has taken its pruned units out; the base of all budgets.

    limit: the cost, or a fraction in (0, 1) of what the dense model costs.

    Example:
        >>> import keras, activation_pruning as ap
        >>> class Units(ap.budgets.CostBudget):  # so many units in all, whatever they cost
        ...     unit = "units"
        ...     def terms(self, model, coupling):
        ...         of_layer = {own.tobytes(): own for own in coupling.units.values()}
        ...         return [ap.budgets.Term((own,), float) for own in of_layer.values()]
        ...     def measure(self, model):
        ...         return float(sum(layer.units for layer in model.layers))
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="a"),
        ...                           keras.layers.Dense(6, name="b"), keras.layers.Dense(2)])
        >>> report = ap.prune(model, Units(9), granularity="unit")
        >>> [layer.units for layer in ap.compact(model).layers][2], report.spending.measured
        (2, 9.0)
    """

    limit: float
    way: float = dataclasses.field(default=1.0, kw_only=True, repr=False)  # from dense to the limit
    unit: ClassVar[str] = ""

    def __post_init__(self) -> None:
        hint = "0.5 for half of what the dense model costs, or the cost itself"
        check_number("limit", self.limit, above=0, hint=hint)
        if self.limit >= 1 and not is_integer(self.limit) and not float(self.limit).is_integer():
            raise ValueError(
                f"limit={self.limit!r}; a cost of 1 or more is a whole number: {hint}."
            )

    def terms(self, model: Model, coupling: Coupling) -> Iterable[Term]:
        """Return what of the cost follows from the widths of the layers, and how."""
        raise NotImplementedError

    def measure(self, model: Model) -> float:
        """Return what a model costs as it is; zeros in it count as any other number."""
        raise NotImplementedError

    def measure_beside(self, model: Model, dense: Model, cost: float) -> float:
        """Return what a model costs, where `dense`, that cost so much, may not cost it now."""
        return self.measure(model)

    def after(self, share: float) -> CostBudget:
        return dataclasses.replace(self, way=share * self.way) if share < 1 else self

    hint: ClassVar[str] = ""  # what else there is to say where it cannot be met

    def asked(self, dense: float) -> float:
        """Return the cost to come to, for a model that costs so much while it is dense."""
        final = dense * self.limit if self.limit < 1 else self.limit
        return dense + (final - dense) * self.way

    def fewest(self, costs: Array, asked: float, measure: Callable[[int], float]) -> int:
        """Return the smallest number of steps after which the cost is as low as asked for.

        Args:
            costs: predicted after 0, 1, 2, ... steps.
            asked: the cost to come to.
            measure: function of a number of steps; what it returns falls with it.
        """
        return fewest(costs, asked, measure)

    def of(self, model: Model, coupling: Coupling, live_sites: LiveSites) -> Spending:
        return Spending(self, model, coupling, live_sites)


class Spending(ByScores):
    """A budget for one pruning event of one model, and what came of it.

    asked, predicted, measured: the cost that it was to come to, and what it has come to, by the
    widths of the layers and by the compacted model itself. dense: the cost before any pruning.

    Example:
        >>> import keras, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8),
        ...                           keras.layers.Dense(1)])
        >>> report = ap.prune(model, ap.budgets.Parameters(0.5), granularity="unit")
        >>> print(report.spending)
        Asked for at most 24.5 parameters, of 49 dense; predicted 19, measured 19 after compaction.
    """

    dense: float
    asked: float
    predicted: float
    measured: float

    def __init__(
        self, budget: CostBudget, model: Model, coupling: Coupling | None, live_sites: LiveSites
    ) -> None:
        if coupling is None or coupling.graph is None:
            raise ValueError(
                f"{budget}: how channels run through {model.name!r} is not known; make a graph of "
                "it first, with ap.inline(model, inputs), which says what is in the way"
            )
        check_plain(live_sites, ", which costs something of its own and keeps its units")
        self.budget, self._model, self._coupling = budget, model, coupling
        self._sites = [site for site in live_sites if site.name in coupling.units]

    def __call__(self, sites: Sites, items: SiteItems, allocation: Allocation) -> Share:
        self.dense = self.budget.measure(self._coupling.graph)
        self.asked = self.budget.asked(self.dense)
        gone = _gone(sites, items, [])
        met = self.dense <= self.asked and not any(mask.any() for mask in gone.values())
        if met and self.budget.way == 1:
            self.predicted = self.measured = self.dense  # as cheap as was asked for already
        else:
            gone = self._enough(sites, items)
        for site in sites:  # the units that stay rank last, whatever their scores
            own = items[site.name]
            scores = np.where(gone[site.name], own.scores, np.inf)
            items[site.name] = dataclasses.replace(own, values=scores, alive=None)
        return exactly(sites, items, {name: int(mask.sum()) for name, mask in gone.items()})

    def _enough(self, sites, items):
        """{site name: which units go} for the model to cost as little as was asked for."""
        steps, costs = self._order(sites, items)
        measure = functools.cache(lambda count: self._measured(sites, items, steps[:count]))
        final = dataclasses.replace(self.budget, way=1.0).asked(self.dense)
        if costs[-1] > final and self.budget.way < 1:  # a later event would find out
            self._check(measure(len(steps)), final)
        count = self.budget.fewest(costs, self.asked, measure)
        self.predicted, self.measured = float(costs[count]), measure(count)
        self._check(self.measured, self.asked)
        return _gone(sites, items, steps[:count])

    def _check(self, measured, asked):
        if measured > asked:
            raise ValueError(
                f"{self.budget}: at most {asked:,.6g} {self.budget.unit} were asked for, but "
                f"{measured:,.6g} of {self.dense:,.6g} stay whatever is pruned. "
                "ap.removable(model) says what keeps units in the model; include= prunes more "
                f"layers, a smaller round_to= more units.{self.budget.hint}"
            )

    def _order(self, sites, items):
        """The steps, and what the model is predicted to cost after 0, 1, 2, ... of them."""
        coupling = self._coupling
        terms = list(self.budget.terms(coupling.graph, coupling))
        can_go = self._can_go()
        left = Prediction(terms, can_go)
        rest = self.dense - left.total  # what follows from no width
        channels = {site.name: site.channels for site in sites if site.channels is not None}
        dead = {c for name, mask in _gone(sites, items, []).items() if name in channels
                for c in channels[name][mask].tolist()}  # fmt: skip
        left.remove(dead)
        before = left.total
        steps = removal_order(sites, items, self._living(), left)
        return steps, rest + np.array([before, *(step.cost for step in steps)])

    def _living(self):
        """{site name: the channels of its units that have weights}, of which one has to stay."""
        found = {}
        for site in self._sites:
            alive = site.units_alive(site.kernel() != 0)
            found[site.name] = self._coupling.units[site.name][alive | ~alive.any()]
        return found

    def _can_go(self):
        """Channels that only these sites make, and that nothing else keeps in the model."""
        pruned = {site.name for site in self._sites}
        units = self._coupling.units
        own = {c for name in pruned for c in units[name].tolist()}
        others = {c for name in units.keys() - pruned for c in units[name].tolist()}
        return own - others - self._coupling.staying

    def _measured(self, sites, items, steps):
        """What the model costs once it is compacted without the units of these steps."""
        gone = _gone(sites, items, steps)
        channels = [s.channels[gone[s.name]] for s in sites if s.channels is not None]
        dead = np.concatenate(channels) if channels else np.zeros(0, int)
        units = {s.name: np.isin(self._coupling.units[s.name], dead) for s in self._sites}
        with without(self._model, self._coupling, self._sites, units) as smaller:
            return self.budget.measure_beside(smaller, self._coupling.graph, self.dense)

    def __str__(self) -> str:
        return (
            f"Asked for at most {self.asked:,.6g} {self.budget.unit}, of {self.dense:,.6g} dense; "
            f"predicted {self.predicted:,.6g}, measured {self.measured:,.6g} after compaction."
        )


def _gone(sites, items, steps):
    """{site name: bool array, True for its units that are dead, or go in one of these steps}."""
    gone = {site.name: items[site.name].scores == -np.inf for site in sites}
    for step in steps:
        gone[step.site][step.units] = True
    return gone
