"""Amounts that follow from how many weights are alive."""

from dataclasses import dataclass

from activation_pruning.allocations import rounded
from activation_pruning.amounts.base import Amount, check_type
from activation_pruning.support.checks import check_count, check_number, is_integer


@dataclass(frozen=True)
class Fraction(Amount):
    """A share of the weights still alive: floor(share * alive + 0.5) of them.

    Args:
        share: in (0, 1), else a ValueError.

    Example:
        >>> Fraction(0.5).target(weights=100, pruned=60)
        0.8
    """

    share: float

    def __post_init__(self) -> None:
        hint = "0.2 for 20 %; for a number of weights give amounts.Number(1000)"
        check_number("share", self.share, above=0, below=1, hint=hint)

    def target(self, weights: int, pruned: int, event: int = 0) -> float:
        return (pruned + rounded(self.share, weights - pruned)) / weights


@dataclass(frozen=True)
class Number(Amount):
    """A fixed number of weights; all that are alive if there are fewer.

    Args:
        weights: an integer of at least 1, else a ValueError.

    Example:
        >>> Number(10).target(weights=100, pruned=60)
        0.7
    """

    weights: int

    def __post_init__(self) -> None:
        check_count("weights", self.weights, 1)

    def target(self, weights: int, pruned: int, event: int = 0) -> float:
        return min(pruned + self.weights, weights) / weights


def get(spec: Amount | float) -> Amount:
    """Return an amount: a fraction in (0, 1) is a share of what is alive, an integer a number.

    Raises:
        ValueError, TypeError: a number that is neither; anything else.

    Example:
        >>> get(0.2), get(500)
        (Fraction(share=0.2), Number(weights=500))
    """
    check_type(spec)
    if isinstance(spec, Amount):
        return spec
    if is_integer(spec):
        return Number(int(spec))
    hint = "0.2 for 20 % of what is alive; a number of weights is an integer"
    check_number("amount", spec, above=0, below=1, hint=hint)
    return Fraction(float(spec))
