"""Regrowth: sparse training, where the alive weights change places while their number stays.

At an exchange each site drops a fraction of its alive weights, those with the smallest |w|, and
grows as many: the highest scores among all weights that are not kept; for equal ones see
`masks.ties`. A rule says how large the fraction is and gives the scores; it is a frozen dataclass
without state, so a resumed run goes on where it was. To add one, name it in `REGROWTHS`.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol
from zlib import crc32

import numpy as np

from activation_pruning.allocations import rounded
from activation_pruning.criteria.base import needed
from activation_pruning.masks import check_finite, lowest
from activation_pruning.support.checks import check_count, check_number
from activation_pruning.support.names import lookup
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Mask, Masks, Scores, Site


class Rule(Protocol):
    """What a rule of regrowth is; `needs` holds names in `hooks.tracking.TRACKED`.

    Example:
        >>> import numpy as np, activation_pruning as ap
        >>> class Crowded:  # grows where units have the most weights
        ...     needs = frozenset()
        ...     def fraction_at(self, time, end):
        ...         return 0.2
        ...     def scores(self, site, time):
        ...         return np.broadcast_to(site.mask.sum(axis=0), site.mask.shape)
        >>> pruner = ap.PruningCallback(ap.schedules.Constant(0.8), regrow=Crowded())
    """

    @property
    def needs(self) -> frozenset[str]: ...
    def fraction_at(self, time: int, end: int | None) -> float: ...
    def scores(self, site: Site, time: int) -> Scores: ...


@dataclass(frozen=True)
class SET:
    """Grow at random: sparse evolutionary training.

    The same `site.seed` grows the same weights. (The paper drops a fraction of the smallest
    positive and one of the largest negative weights; here the smallest |w| go, as in Evci et al.)

    Args:
        fraction: of a site's alive weights, exchanged each time, in (0, 1).
        decay: "constant", or "cosine": f = fraction / 2 * (1 + cos(pi * t / end)).
        end: no exchange from then on, in the unit of the schedule (epochs or steps); None is the
            schedule's own end, or else that of `fit`.

    Raises:
        ValueError: an argument out of range.

    Source: Mocanu et al., Nature Communications 9:2383, 2018, algorithm 1.

    Example:
        >>> SET(0.2).fraction_at(3, end=10), SET(0.2, decay="cosine").fraction_at(5, end=10)
        (0.2, 0.1)
    """

    fraction: float = 0.3
    decay: str = "constant"
    end: int | None = None
    needs: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        check_number("fraction", self.fraction, above=0, below=1, hint="0.3 for 30 %")
        if self.decay not in ("constant", "cosine"):
            raise ValueError(f"decay={shown(self.decay)}; it must be 'constant' or 'cosine'.")
        if self.end is not None:
            check_count("end", self.end, 1)

    def fraction_at(self, time: int, end: int | None) -> float:
        """Return the fraction to exchange at `time`; `end` is the default for `self.end`.

        Raises a ValueError for a cosine decay when neither says where it ends.
        """
        end = end if self.end is None else self.end
        if self.decay == "constant":
            return self.fraction if self.end is None or time < self.end else 0.0
        if end is None:
            raise ValueError(
                f"{self}: the length of an epoch is not known, so neither is the end of the decay; "
                "give end=, in training steps."
            )
        return self.fraction / 2 * (1 + np.cos(np.pi * time / end).item()) if time < end else 0.0

    def scores(self, site: Site, time: int) -> Scores:
        """Return one score for each weight of the kernel; the highest are grown."""
        generator = np.random.default_rng([site.seed, crc32(site.name.encode()), time])
        return generator.random(site.kernel.shape)


@dataclass(frozen=True)
class RigL(SET):
    """Grow the weights with the largest |gradient| of the loss: the rigged lottery.

    The gradient is dense, as the optimizer received it in the last training step. Weights just
    dropped can be grown again, as in the authors' code; they keep their values and their momenta.
    Arguments as for `SET`; the paper ends after three quarters of the training.

    Source: Evci et al., ICML 2020, algorithm 1.

    Example:
        >>> [round(RigL(0.3).fraction_at(time, end=4), 3) for time in range(5)]
        [0.3, 0.256, 0.15, 0.044, 0.0]
    """

    decay: str = "cosine"
    needs: ClassVar[frozenset[str]] = frozenset({"last_gradient"})

    def scores(self, site: Site, time: int) -> Scores:
        gradient = needed(site, "last_gradient")
        check_finite(site.name, gradient, "gradients")
        return np.abs(gradient)


REGROWTHS: dict[str, type[SET]] = {"set": SET, "rigl": RigL}


def get(spec: str | Rule | None) -> Rule | None:
    """Return the rule for a name in `REGROWTHS`; a `Rule` and None are returned as they are.

    Raises:
        ValueError, TypeError: an unknown name; neither a name nor a rule.

    Example:
        >>> get("rigl")
        RigL(fraction=0.3, decay='cosine', end=None)
    """
    if isinstance(spec, str):
        return lookup("regrow", spec, REGROWTHS)()
    rule = all(hasattr(spec, name) for name in ("needs", "fraction_at", "scores"))
    if spec is None or (rule and not isinstance(spec, type)):
        return spec
    raise TypeError(
        f"regrow={shown(spec)} is not a rule; give one of {sorted(REGROWTHS)}, or an object such "
        "as regrowth.RigL(fraction=0.3)."
    )


def exchange(site: Site, fraction: float, scores: Scores, missing: int = 0) -> Mask:
    """Return the mask of one site after an exchange.

    Of n places for alive weights floor(fraction * n + 0.5) are given anew, but never all. Exactly n
    weights are alive afterwards, whatever the ties.

    Args:
        site: `kernel` and `mask` are read.
        fraction: in [0, 1].
        scores: array of the kernel's shape, without NaN.
        missing: n less the weights alive now: places to be given as well.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> site = Site(kernel=np.array([3.0, 1.0, 0.0, 0.0]), mask=np.array([1, 1, 0, 0], bool))
        >>> exchange(site, 0.5, scores=np.array([9, 1, 2, 5])).tolist()
        [True, False, False, True]
    """
    alive = np.flatnonzero(site.mask)
    places = alive.size + missing
    kept = min(max(places - rounded(fraction, places), 1), alive.size)
    mask = np.zeros(site.mask.size, bool)
    mask[alive[~lowest(np.abs(site.kernel.reshape(-1)[alive]), alive.size - kept)]] = True
    free = np.flatnonzero(~mask)
    left = free.size - (places - kept)
    mask[free[~lowest(np.asarray(scores).reshape(-1)[free], left)]] = True
    return mask.reshape(site.mask.shape)


def shortfall(found: Masks, wanted: Masks) -> dict[str, int]:
    """Return how many weights each site lacks: {name: count}, no more than all lack together.

    Args:
        found: {site name: bool mask}, read from weights: grown ones that never moved are zeros and
            look pruned.
        wanted: {site name: bool mask} with the right number of weights alive.

    Example:
        >>> found = {"a": np.array([1, 0, 0], bool), "b": np.array([1, 1, 0], bool)}
        >>> shortfall(found, {"a": np.ones(3, bool), "b": np.array([1, 0, 0], bool)})
        {'a': 1, 'b': 0}
    """
    lacks = {name: int(wanted[name].sum()) - int(mask.sum()) for name, mask in found.items()}
    left, counts = sum(lacks.values()), {}
    for name, lack in lacks.items():
        counts[name] = max(min(lack, left), 0)
        left -= counts[name]
    return counts
