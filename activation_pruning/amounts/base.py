"""What an amount is."""

from typing import Any, TypeAlias

from activation_pruning.allocations import Allocation, SiteItems
from activation_pruning.support.checks import SHARE, check_sparsity, is_number
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Sites

Share: TypeAlias = tuple[float, Allocation]  # a target over all sites, and how they share it


class Amount:
    """How much one pruning event takes: the base of all amounts.

    Example:
        >>> import keras, activation_pruning as ap
        >>> class AllButTen(ap.amounts.Amount):
        ...     def target(self, weights, pruned, event=0):
        ...         return max(pruned, weights - 10) / weights
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6)])
        >>> ap.prune(model, AllButTen(), exclude=()).table()["pruned"].tolist()[:1]
        [38]
    """

    def target(self, weights: int, pruned: int, event: int = 0) -> "float | ByScores":
        """Return what the amount comes to now: a sparsity, or what finds it from scores.

        Args:
            weights, pruned: how many there are now.
            event: number of the event, from 0.
        """
        raise NotImplementedError


class ByScores(Amount):
    """An amount that looks at the scores of the event: called with them, it says what they mean.

    Example:
        >>> import numpy as np, activation_pruning as ap
        >>> from types import SimpleNamespace as Site
        >>> class BelowTenth(ap.amounts.ByScores):  # of the highest score anywhere
        ...     def __call__(self, sites, items, allocation):
        ...         scores = np.concatenate([items[site.name].scores for site in sites])
        ...         return float(np.mean(scores < scores.max() / 10)), allocation
        >>> items = {"a": ap.allocations.Items(np.array([10.0, 0.1, 5.0, 0.2]))}
        >>> BelowTenth()([Site(name="a")], items, ap.allocations.class_blind)[0]
        0.5
    """

    def target(self, weights: int, pruned: int, event: int = 0) -> "ByScores":
        return self

    def __call__(self, sites: Sites, items: SiteItems, allocation: Allocation) -> Share:
        """Return (target sparsity over all sites, the allocation that shares it).

        Args:
            sites: in the order of the model.
            items: {site name: what the granularity ranks in it}; a site may be given others, that
                rank otherwise.
            allocation: the one asked for; the answer may hold another.
        """
        raise NotImplementedError


class Budget(ByScores):
    """What a pruned model may cost at most: the base of `ap.budgets`, which know models.

    Example:
        >>> import activation_pruning as ap
        >>> isinstance(ap.budgets.Parameters(0.5), ap.amounts.Budget)
        True
    """

    def of(self, model: Any, coupling: Any, live_sites: Any) -> ByScores:
        """Return the amount for one event of a model, whose units are coupled like that."""
        raise NotImplementedError

    def after(self, share: float) -> "Budget":
        """Return the budget on the way to this one, `share` in [0, 1] of the way from dense."""
        raise NotImplementedError


def is_amount(value: Any) -> bool:
    """Return whether a value is an amount; a sparsity is none.

    Example:
        >>> from activation_pruning.amounts import Number
        >>> is_amount(Number(10)), is_amount(0.5)
        (True, False)
    """
    return isinstance(value, Amount)


def check_type(amount: Any) -> None:
    """Raise a TypeError unless `amount` is one, or a number."""
    if not (is_number(amount) or is_amount(amount)):
        raise TypeError(
            f"amount={shown(amount)}; give amounts.Fraction(0.2), amounts.Number(1000) or another "
            "one."
        )
    if isinstance(amount, Budget):
        raise TypeError(
            f"amount={shown(amount)}: a budget says where to arrive, not how much to take; give it "
            "to ap.prune, or as the final_sparsity of a schedule such as schedules.Linear."
        )


def check_final(name: str, value: Any) -> None:
    """Raise a ValueError unless `value` is a sparsity in [0, 1), or a budget.

    Example:
        >>> check_final("final_sparsity", 80)
        Traceback (most recent call last):
            ...
        ValueError: final_sparsity=80; it must be a fraction in [0, 1), 0.8 for 80 %.
    """
    if not isinstance(value, Budget):
        check_sparsity(name, value)


def check(amount: Any) -> None:
    """Raise a ValueError for a number outside [0, 1), a TypeError for what is no amount either.

    Example:
        >>> check("half")
        Traceback (most recent call last):
            ...
        TypeError: amount='half'; give amounts.Fraction(0.2), amounts.Number(1000) or another one.
    """
    check_type(amount)
    if is_number(amount) and not 0 <= amount < 1:
        raise ValueError(
            f"amount={shown(amount)}; a number is a sparsity here, in [0, 1), {SHARE}: for a "
            "number of weights give amounts.Number(1000)."
        )
