"""Lists what goes from each layer and what stays, with the reasons."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd

from activation_pruning.compaction.removal import Removal
from activation_pruning.graph.channels import units_of
from activation_pruning.graph.channels.flow import Size
from activation_pruning.graph.holding import Named, named
from activation_pruning.graph.reasons import Why
from activation_pruning.sites import kernels
from activation_pruning.sites.site import units_alive
from activation_pruning.support.types import Array, Mask, Model, Table

_KINDS = {"output_dim": "channels", "output_shape": "channels"}
_HEADS = "num_heads", "num_query_heads"
# From what other layers, or other rows, say.
_FOLLOWING = "target_shape", "newshape", "shape", "groups", "epsilon", "num_key_value_heads"
_COLUMNS = ["layer", "kind", "units", "constant", "removed", "left", "reason", "remedy"]
_LAST = Why("the last unit of a layer stays", "take the layer itself out of the model")


def table(model: Model, gone: Removal, paths: Mapping[str, str]) -> Table:
    """The table of `removable`, for a model without wrappers.

    Args:
        model: as it was followed.
        gone: what goes from it.
        paths: {name of a layer of its graph: the path of that layer}, where that is another.
    """
    layers = named(model, paths)
    found = list(_kernels(layers))
    sizes = [size for size in gone.flow.sizes.values() if size.key not in _FOLLOWING]
    sized = {(id(size.layer), len(size.ids)) for size in sizes if size.key not in _HEADS}
    known = {id(one.layer): one.path for one in layers}
    rows = [_sized(size, known.get(id(size.layer), size.layer.name), gone, found) for size in sizes]
    others: dict[tuple[int, int], list[_Kernel]] = {}
    for kernel in found:
        if (id(kernel.layer), len(kernel.dead)) not in sized:
            others.setdefault((id(kernel.layer), len(kernel.dead)), []).append(kernel)
    rows += [row for own in others.values() if (row := _unsized(own, gone))]
    return pd.DataFrame(rows, columns=_COLUMNS)


class _Kernel(NamedTuple):
    """A registered kernel of a layer; `around`: that layer and those it is in, outermost first."""

    path: str
    layer: keras.Layer
    around: tuple[keras.Layer, ...]
    variable: Any
    units: Array
    dead: Mask  # units without weights


def _kernels(layers: list[Named]) -> Iterator[_Kernel]:
    for layer, path, around in layers:
        for kernel in kernels.of(layer) or []:
            variable = kernel.variable(layer)
            if variable is None:
                continue
            units = kernel.unit_index(variable.shape)
            alive = keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32")) != 0
            if not alive.any():  # a fresh one
                alive[...] = True
            yield _Kernel(path, layer, around, variable, units, ~units_alive(units, alive))


def _sized(size: Size, path: str, gone: Removal, found: list[_Kernel]) -> tuple:
    """The row of a layer whose configuration counts its channels."""
    number, layer = len(size.ids), size.layer
    constant = np.zeros(number, bool)
    if size.key not in _HEADS:
        value = gone.flow.units.get(id(layer), (None, None, np.full(number, np.nan)))[2]
        constant |= np.isfinite(value)
        own = [one.dead for one in found if one.layer is layer and len(one.dead) == number]
        constant |= np.all(own, axis=0) if own else False
    removed = gone.of(size.ids)
    left = constant & ~removed
    reasons = gone.reasons(size.ids[left]) or [_LAST] * int(left.any())
    kind = "heads" if size.key in _HEADS else _KINDS.get(size.key, size.key)
    return _row(path, kind, constant, removed, left, reasons)


def _unsized(own: list[_Kernel], gone: Removal) -> tuple | None:
    """The row of a layer that compaction doesn't resize; None where no pruned unit is left."""
    first, flow = own[0], gone.flow
    dead = np.any([kernel.dead for kernel in own], axis=0)
    constant = np.all([kernel.dead for kernel in own], axis=0)
    ids = units_of(flow, first.variable, first.units)
    if ids is None:
        ids = flow.units.get(id(first.layer), (None, None, None))[1]
    if ids is None or len(ids) != len(dead):
        ids = np.zeros(0, int)  # not known
    removed = gone.of(ids) if len(ids) else np.zeros(len(dead), bool)
    left = dead & ~removed
    if not left.any():
        return None
    reasons = gone.reasons(ids[left[: len(ids)]]) or [_blocked(first, flow)]
    return _row(first.path, "units", constant, removed, left, reasons)


def _blocked(kernel, flow):
    """What keeps the units of a layer that has channels of no known kind."""
    for layer in kernel.around:
        if id(layer) in flow.unknown:
            return flow.unknown[id(layer)]
    outer = kernel.around[-2] if len(kernel.around) > 1 else kernel.layer
    reason = f"only whole channels of {outer.name!r} ({type(outer).__name__}) can go"
    return Why(reason, "prune all weights of a channel, or a head, together")


def _row(path, kind, constant, removed, left, reasons):
    counts = len(left), *(int(some.sum()) for some in (constant, removed, left))
    remedies = list(dict.fromkeys(why.remedy for why in reasons))
    if "" in remedies:  # something that nobody can change
        remedies = [f"leave the layer out of unit pruning: exclude={path!r}"]
    said = ("; ".join(parts) for parts in ([why.reason for why in reasons], remedies))
    return path, kind, *counts, *said
