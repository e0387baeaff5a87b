"""Surgeons: criteria that also change the surviving weights to make up for those that go.

`layerwise` (with `layerwise_economical`, its former variant), `sparsegpt`, `gptq`, `units` and
`optimal_brain_surgeon` hold one surgeon each; `base` what all are, `obs` the mathematics,
`problems` a site as least squares. To add one, derive it from `Surgeon` or `Damped` in a file of
its own and name it in `SURGEONS`.
"""

from typing import Any

from activation_pruning import criteria
from activation_pruning.support.names import lookup
from activation_pruning.support.types import Criterion
from activation_pruning.surgeons.base import Damped, Selection, Surgeon
from activation_pruning.surgeons.gptq import GPTQ
from activation_pruning.surgeons.layerwise import LayerwiseOBS
from activation_pruning.surgeons.optimal_brain_surgeon import OptimalBrainSurgeon
from activation_pruning.surgeons.sparsegpt import SparseGPT
from activation_pruning.surgeons.units import UnitOBS

__all__ = [
    "GPTQ",
    "SURGEONS",
    "Damped",
    "LayerwiseOBS",
    "OptimalBrainSurgeon",
    "Selection",
    "SparseGPT",
    "Surgeon",
    "UnitOBS",
    "get",
    "register",
]

SURGEONS: dict[str, Surgeon] = {
    "obs": OptimalBrainSurgeon(),
    "lobs": LayerwiseOBS(),
    "sparsegpt": SparseGPT(),
    "unit_obs": UnitOBS(),
}


def register(name: str, surgeon: Surgeon) -> None:
    """Make a surgeon of your own known under a name.

    Example:
        >>> import activation_pruning as ap
        >>> ap.surgeons.register("damped_lobs", ap.surgeons.LayerwiseOBS(damping=0.1))
        >>> ap.surgeons.get("damped_lobs")
        LayerwiseOBS(damping=0.1, recalculate_every=1)
        >>> del ap.surgeons.SURGEONS["damped_lobs"]  # forget it again
    """
    SURGEONS[name] = surgeon


def get(spec: "Criterion | Surgeon") -> Surgeon | criteria.base.Function:
    """Return the criterion or surgeon for a name; an object is returned as it is.

    Args:
        spec: a name in `SURGEONS` or `CRITERIA`, a `Surgeon`, or a callable `site -> scores`.

    Raises:
        ValueError, TypeError: an unknown name; none of these.

    Example:
        >>> get("lobs")
        LayerwiseOBS(damping=None, recalculate_every=1)
    """
    if isinstance(spec, str):
        known: dict[str, Any] = {**criteria.CRITERIA, **SURGEONS}
        return lookup("criterion", spec, known)
    if isinstance(spec, type) and issubclass(spec, Surgeon):
        raise TypeError(f"criterion={spec.__name__} is a class; give an object: {spec.__name__}()")
    return spec if isinstance(spec, Surgeon) else criteria.get(spec)  # type: ignore[arg-type]
