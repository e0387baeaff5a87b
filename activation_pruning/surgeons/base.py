"""What a surgeon is, and what it is given."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, TypeAlias

from activation_pruning import masks
from activation_pruning.allocations import Allocation
from activation_pruning.amounts import ByScores
from activation_pruning.masks.granularities import Granularity
from activation_pruning.support.checks import check_number
from activation_pruning.support.progress import no_progress
from activation_pruning.support.types import Array, Masks, Progress, Scores, Sites
from activation_pruning.surgeons import obs

Kernels: TypeAlias = dict[str, Array]  # by the names of the sites
_SPELLED = {"Weight": "'weight'", "Unit": "'unit'", "NM": "'2:4'", "Block": "(4, 4)"}
DAMPING = 0.01  # share of the mean diagonal, the usual one since Frantar & Alistarh 2022


@dataclasses.dataclass(frozen=True)
class Selection:
    """How scores become masks in one event: target, granularity and allocation.

    sparsity: the target over all the sites, in [0, 1), or an amount that looks at the scores.
    granularity, allocation: objects, as `masks.granularity` and `allocations.get` return them.
    progress: called with (work done, work in all) as the work goes on.

    Example:
        >>> import numpy as np, activation_pruning as ap
        >>> from types import SimpleNamespace as Site
        >>> w = np.array([[1.0, 4.0], [2.0, 3.0]])
        >>> site = Site(name="a", kernel=w, mask=np.ones((2, 2), bool))
        >>> half = Selection(0.5, ap.masks.granularity("weight"), ap.allocations.get("global"))
        >>> half.masks([site], {"a": w})["a"].tolist()
        [[False, True], [False, True]]
    """

    sparsity: float | ByScores
    granularity: Granularity
    allocation: Allocation
    progress: Progress = no_progress

    def masks(self, sites: Sites, scores: Mapping[str, Scores]) -> Masks:
        """{site name: bool mask} for {site name: scores}."""
        return masks.select(sites, scores, self.sparsity, self.granularity, self.allocation)


class Surgeon:
    """A criterion that also changes the surviving weights, to make up for those that go.

    A surgeon says what it `needs`, as a criterion does, and with which `granularities` it works.
    It is a frozen dataclass of its options.

    Example:
        >>> import keras, numpy as np, activation_pruning as ap
        >>> layer = keras.layers.Dense(1, kernel_initializer="ones")
        >>> model = keras.Sequential([keras.Input((2,)), layer])
        >>> x = np.repeat([[1.0], [3.0]], 2, axis=1)  # one input can stand in for the other
        >>> surgeon = ap.surgeons.LayerwiseOBS(damping=1e-6)
        >>> report = ap.prune(model, 0.5, surgeon, data=x, exclude=(), verbose=0)
        >>> sorted(layer.get_weights()[0].round(2).ravel().tolist())
        [0.0, 2.0]
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    # Whether each site has its own scores, and nothing but these and the selection says how many
    # weights it loses.
    separable: bool = False
    # Whether it changes weights of a site that loses none.
    rewrites: ClassVar[bool] = False
    rounds: ClassVar[int] = 1
    granularities: ClassVar[tuple[type[Granularity], ...]] = ()

    @property
    def note(self) -> str:
        """What a report of the pruning should say."""
        return ""

    def scores(self, sites: Sites, progress: Progress = no_progress) -> dict[str, Scores]:
        """{site name: the saliency of each weight}, which decides how the target is shared."""
        raise NotImplementedError

    def operate(self, sites: Sites, selection: Selection) -> tuple[Masks, Kernels]:
        """Decide what goes and compensate for it.

        Returns ({site name: bool mask}, {site name: new kernel}); among the second may be kernels
        of other sites of the model, and biases under "<layer>/bias".
        """
        raise NotImplementedError

    def check(self, granularity: Granularity) -> None:
        """Raise a ValueError for a granularity that this surgeon cannot work with."""
        if not isinstance(granularity, self.granularities):
            known = " or ".join(_SPELLED[kind.__name__] for kind in self.granularities)
            raise ValueError(
                f"granularity={granularity} does not go with criterion {type(self).__name__}; give "
                f"granularity={known}, or choose another criterion"
            )


class Damped(Surgeon):
    """A surgeon that adds damping * mean(diag H) * I to the Hessian H.

    Example:
        >>> import dataclasses, numpy as np
        >>> @dataclasses.dataclass(frozen=True)
        ... class Mine(Damped):
        ...     damping: float | None = None
        >>> Mine(damping=0.5).hessian("a", np.diag([1.0, 3.0]), rows=8).tolist()
        [[2.0, 0.0], [0.0, 4.0]]
    """

    damping: float | None

    def __post_init__(self) -> None:
        if self.damping is not None:
            check_number("damping", self.damping, 0, "a share of the mean diagonal, such as 0.01")

    @property
    def share(self) -> float:
        """The share of the mean diagonal that is added."""
        return DAMPING if self.damping is None else self.damping

    @property
    def note(self) -> str:
        return f"Hessians damped by {self.share:g} x their mean diagonal." if self.share else ""

    def hessian(
        self, name: str, found: Array, rows: int, what: str = "samples times positions"
    ) -> Array:
        """The Hessian of a site, found from so many rows, with the damping added.

        Raises:
            ValueError: too few rows, unless damping was chosen knowingly; nothing but zeros.
        """
        inputs = len(found)
        if self.damping is None and rows < inputs:
            raise ValueError(
                f"{name}: {rows} rows ({what}) are too few for a Hessian of {inputs} x {inputs}; "
                f"give data with at least {inputs} rows, or choose the damping yourself, which "
                f"stands in for the missing ones: ap.surgeons.{type(self).__name__}(damping=0.1)"
            )
        return obs.damped(found, self.share, name)
