"""What a surgeon is, what it is given, and the registry of their names."""

import dataclasses
from collections.abc import Callable
from numbers import Real

import numpy as np

from activation_pruning import masks
from activation_pruning.criteria import CRITERIA
from activation_pruning.criteria import get as get_criterion
from activation_pruning.support.names import lookup
from activation_pruning.support.progress import no_progress

SURGEONS = {}
_SPELLED = {"Weight": "'weight'", "Unit": "'unit'", "NM": "'2:4'", "Block": "(4, 4)"}
DAMPING = 0.01  # share of the mean diagonal, the usual one since Frantar & Alistarh 2022


@dataclasses.dataclass(frozen=True)
class Selection:
    """How scores become masks in one event: target, granularity and allocation.

    sparsity: the target over all the sites, in [0, 1).
    granularity, allocation: objects, as `masks.granularity` and `allocations.get` return them.
    progress: called with (work done, work in all), in any unit, as the work goes on.
    """

    sparsity: float
    granularity: object
    allocation: Callable
    progress: Callable = no_progress

    def masks(self, sites, scores):
        """{site name: bool mask} for {site name: scores}."""
        return masks.select(sites, scores, self.sparsity, self.granularity, self.allocation)


class Surgeon:
    """A criterion that also changes the surviving weights, to make up for those that go.

    A surgeon says what it `needs`, as a criterion does, and with which `granularities` it can
    work, and implements `operate`. Its subclasses are frozen dataclasses of their options.
    """

    needs = frozenset()
    rounds = 1
    granularities = ()
    note = ""  # what a report of the pruning should say

    def scores(self, sites, progress=no_progress):
        """The saliency of each weight, which decides how the allocation shares the target.

        Args:
            sites: sequence of Site with `statistics`, in the order of the model.
            progress: called with (work done, work in all) as the work goes on.

        Returns:
            {site name: float array of the kernel's shape}; low scores go first.
        """
        raise NotImplementedError

    def operate(self, sites, selection):
        """Decide what goes and compensate for it.

        Args:
            sites: sequence of Site with `statistics`, in the order of the model.
            selection: a `Selection`.

        Returns:
            ({site name: bool mask}, {site name: new kernel}); among the second may be kernels of
            other sites of the model, and biases under "<layer>/bias".
        """
        raise NotImplementedError

    def check(self, granularity):
        """Raise for a granularity that this surgeon cannot work with.

        Raises:
            ValueError: lists those that it can.
        """
        if not isinstance(granularity, self.granularities):
            known = " or ".join(_SPELLED[kind.__name__] for kind in self.granularities)
            raise ValueError(
                f"granularity={granularity} does not go with criterion {type(self).__name__}; give "
                f"granularity={known}, or choose another criterion"
            )


def register(name, surgeon):
    """Make a surgeon known under a name."""
    SURGEONS[name] = surgeon


def get(spec):
    """The criterion or surgeon for a name; an object is returned as it is.

    Args:
        spec: a name in `SURGEONS` or `criteria.CRITERIA`, a `Surgeon`, or a callable
            `site -> scores`.

    Raises:
        ValueError: unknown name.
        TypeError: none of these.

    Example:
        >>> from activation_pruning import surgeons
        >>> surgeons.get("lobs")
        LayerwiseOBS(damping=None, recalculate_every=1)
    """
    if isinstance(spec, str):
        return lookup("criterion", spec, CRITERIA | SURGEONS)
    if isinstance(spec, type) and issubclass(spec, Surgeon):
        raise TypeError(f"criterion={spec.__name__} is a class; give an object: {spec.__name__}()")
    return spec if isinstance(spec, Surgeon) else get_criterion(spec)


def check_damping(damping):
    """Raise unless `damping` is None or a number of at least 0.

    Raises:
        ValueError: names the value.

    Example:
        >>> check_damping(-1)
        Traceback (most recent call last):
            ...
        ValueError: damping=-1; it must be a share of the mean diagonal, at least 0, such as 0.01.
    """
    if damping is not None and not (isinstance(damping, Real) and 0 <= damping < np.inf):
        raise ValueError(
            f"damping={damping!r}; it must be a share of the mean diagonal, at least 0, such as "
            "0.01."
        )


def damping_note(damping):
    """What a report says of the damping."""
    share = DAMPING if damping is None else damping
    return f"Hessians damped by {share:g} x their mean diagonal." if share else ""


def check_rows(name, rows, inputs, damping, what="samples times positions"):
    """Raise unless there are as many rows of inputs as the Hessian has, or damping was chosen.

    Args:
        name: of the site, for the message.
        rows: how many there are: samples times positions.
        inputs: side of the Hessian.
        damping: None for the default, which wants enough data; a number was chosen knowingly.
        what: rows are.

    Raises:
        ValueError: says how many rows are needed.

    Example:
        >>> check_rows("a/kernel", 10, 784, 0.1)
    """
    if damping is None and rows < inputs:
        raise ValueError(
            f"{name}: {rows} rows ({what}) are too few for a Hessian of {inputs} x {inputs}; give "
            f"data with at least {inputs} rows, or choose the damping yourself, which stands in "
            "for the missing ones: criterion=ap.surgeons.LayerwiseOBS(damping=0.1), and likewise "
            "for the other surgeons"
        )
