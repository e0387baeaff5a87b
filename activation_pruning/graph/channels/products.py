"""Products of tensors: `keras.ops.einsum` and `matmul`, of which attention is made."""

import inspect
import string

import numpy as np

from activation_pruning.graph.channels.flow import Channels
from activation_pruning.graph.channels.rules import Call, NotFollowed, rule


@rule("numpy.Einsum")
def einsum(call: Call) -> Channels:
    """Channels along a letter that stays, such as heads, go together in all that has it."""
    subscripts, operands = call.layer.subscripts.replace(" ", ""), call.operands
    if "->" not in subscripts or "." in subscripts:
        raise NotFollowed(f"its subscripts {subscripts!r} are not understood")
    taken, result = subscripts.split("->")
    return _product(call, operands, taken.split(","), result)


@rule("numpy.Matmul")
def matmul(call: Call) -> Channels:
    """The einsum that it is."""
    first, second = call.operands
    rank = len(call.shape)
    if not (len(first.shape) == len(second.shape) == rank >= 2):
        raise NotFollowed("it multiplies tensors of different rank")
    rest, (rows, summed, columns) = string.ascii_lowercase[: rank - 2], "xyz"
    return _product(
        call,
        [first, second],
        [rest + rows + summed, rest + summed + columns],
        rest + rows + columns,
    )


@rule("nn.DotProductAttention")
def dot_product_attention(call: Call) -> Channels:
    """Attention as one operation, on tensors of (samples, positions, heads, numbers of each).

    A bias and a mask of (samples, heads, positions, positions) may be one for all heads.
    """
    bound = inspect.signature(call.layer.call).bind(*call.arguments[0], **call.arguments[1])
    given = bound.arguments
    parts = [given.pop(name) for name in ("query", "key", "value")]
    if not all(_is_tensor(x) and x.axis == 2 for x in parts):
        raise NotFollowed("called with something else than tensors of the graph, or channels")
    for name in ("bias", "mask"):
        one = given.get(name)
        if one is not None and tuple(one.shape)[-3:-2] not in ((), (1,)):
            raise NotFollowed(f"its {name} has heads of its own")
    for one in filter(_is_tensor, given.values()):
        call.flow.pin(one.ids, f"{call.layer.name!r} takes them for all heads")
    found = _product(call, parts, ["bqhd", "bkhd", "bkhe"], "bqhe")
    # A query of zeros still takes the mean of the values.
    return found.to(call.shape, value=np.where(parts[2].value == 0, 0.0, np.nan))


def _product(call, operands, letters, result):
    """Channels along the same letter of all operands, which the result has."""
    along = {own[x.axis] for x, own in zip(operands, letters, strict=True) if _is_tensor(x)}
    wide = [
        (x, own)
        for x, own in zip(operands, letters, strict=True)
        if any(one in own and x.shape[own.index(one)] != 1 for one in along)
    ]
    if len(along) != 1 or not all(_is_tensor(x) for x, _ in wide):
        raise NotFollowed("it joins tensors with channels along different axes, or an array")
    (letter,) = along
    xs = [x for x in operands if _is_tensor(x)]
    if any(own.count(letter) != 1 for own in letters if letter in own):
        raise NotFollowed("it takes a diagonal")
    if len({len(x.ids) for x in xs}) != 1:
        raise NotFollowed("it joins tensors with different numbers of channels")
    for x in xs[1:]:
        call.flow.tie(xs[0].ids, x.ids)
    zero = np.any([x.value == 0 for x in xs], axis=0)
    value = np.where(zero, 0.0, np.nan)
    if letter in result:
        return Channels(call.shape, result.index(letter), xs[0].ids, value)
    out = call.flow.fixed(call.shape, f"{call.layer.name!r} sums over the channels that it takes")
    read = np.ones((len(value), 1), bool)
    call.flow.use(call.layer, xs[0].to(xs[0].shape, value=value), out.ids[:1], read)
    return out


def _is_tensor(one):
    return isinstance(one, Channels)
