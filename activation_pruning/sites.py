"""The only walker over a model: finds its prunable sites and what counts as their activation."""

import dataclasses
import difflib
import fnmatch
import math

import keras
import numpy as np

from activation_pruning import internals


@dataclasses.dataclass(frozen=True)
class Activity:
    """What was counted for the units of one site (arrays of shape (units,), float64)."""

    frequency: np.ndarray
    mean: np.ndarray
    rms: np.ndarray
    samples: int


@dataclasses.dataclass(frozen=True)
class Site:
    """One prunable weight tensor as criteria see it: plain arrays, no framework.

    `units` holds the unit index of each weight and broadcasts to `kernel.shape`;
    `mask` is True where a weight is alive; N:M groups run along `input_axis`.
    """

    name: str
    layer: str
    kernel: np.ndarray
    mask: np.ndarray
    units: np.ndarray
    input_axis: int = 0
    activity: Activity | None = None
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Kernel:
    """Where a layer class keeps a prunable weight, and which of its axes number the units.

    attribute: dotted name of the variable, such as "kernel" or "cell.kernel".
    unit_axes: axes of the weight that index output units, in increasing order.
    input_axis: axis along which consecutive weights feed the same unit (for N:M groups).
    copies: how often the units repeat along the unit axes (4 for the gates of an LSTM).
    output_axes: axes of the layer's output that index the same units.
    observed: False where the units never show in the output (the first half of SeparableConv).
    """

    attribute: str
    unit_axes: tuple[int, ...] = (-1,)
    input_axis: int = -2
    copies: int = 1
    output_axes: tuple[int, ...] = (-1,)
    observed: bool = True


@dataclasses.dataclass(frozen=True)
class Source:
    """The output in which a site's units are seen: `layer`'s, `units` of `width` from `start`.

    `output` picks one of several outputs; `axes` are the unit axes of that output.
    """

    layer: keras.Layer
    units: int
    width: int
    start: int = 0
    axes: tuple[int, ...] = (-1,)
    output: int = 0
    label: str = "own output"


@dataclasses.dataclass(frozen=True, eq=False)
class LiveSite:
    """A site in a live model: the variable behind it and where its activity is seen."""

    name: str
    path: str
    layer: keras.Layer
    variable: keras.Variable
    units: np.ndarray
    input_axis: int
    source: Source
    observed: bool = True
    mask_variable: keras.Variable | None = None

    @property
    def n_units(self):
        return int(self.units.max()) + 1

    def kernel(self):
        """The current weights as a NumPy array (bfloat16 is widened to float32)."""
        values = keras.ops.convert_to_numpy(self.variable)
        return values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)

    def snapshot(self, mask=None, activity=None, seed=0):
        """The `Site` that criteria see now; without `mask`, exact zeros count as pruned."""
        kernel = self.kernel()
        mask = kernel != 0 if mask is None else mask
        return Site(
            self.name, self.path, kernel, mask, self.units, self.input_axis, activity, seed
        )


@dataclasses.dataclass(frozen=True)
class Found:
    """The walk's result: the sites in model order, and [(layer, reason)] for what was left out."""

    sites: list[LiveSite]
    skipped: list[tuple[str, str]]


_L = keras.layers
_REGISTRY = {}
_PASSED_THROUGH = (
    _L.BatchNormalization, _L.LayerNormalization, _L.Dropout, _L.SpatialDropout1D,
    _L.SpatialDropout2D, _L.SpatialDropout3D, _L.GaussianDropout, _L.GaussianNoise,
    _L.AlphaDropout, _L.ActivityRegularization, _L.Identity, _L.Flatten, _L.Reshape,
)  # fmt: skip
_ACTIVATIONS = (_L.Activation, _L.ReLU, _L.LeakyReLU, _L.PReLU, _L.ELU, _L.Softmax)


def register(layer_class, *kernels):
    """Make the weights of your own layer class prunable.

    Args:
        layer_class: a subclass of `keras.Layer`; its subclasses are covered as well.
        *kernels: one `Kernel` for each prunable weight, or a single function
            `layer -> list of Kernel` where the axes depend on the instance.

    Raises:
        TypeError: when `layer_class` is not a layer class or no kernel is given.

    Example:

    >>> import keras
    >>> from activation_pruning import sites
    >>> class Scale(keras.Layer):
    ...     def build(self, shape):
    ...         self.table = self.add_weight(shape=(shape[-1], 3), name="table")
    ...     def call(self, x):
    ...         return keras.ops.matmul(x, self.table)
    >>> sites.register(Scale, sites.Kernel("table"))
    >>> model = keras.Sequential([keras.Input((2,)), Scale(name="scale")])
    >>> [site.name for site in sites.find(model, exclude=()).sites]
    ['scale/table']
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.Layer)):
        raise TypeError(f"layer_class must be a subclass of keras.Layer, received {layer_class!r}")
    if not kernels:
        raise TypeError(f"register({layer_class.__name__}) needs at least one sites.Kernel")
    single = kernels[0]
    _REGISTRY[layer_class] = single if callable(single) else lambda layer: list(kernels)


def _conv(transposed=False):
    def kernels(layer):
        channels_first = layer.data_format == "channels_first"
        output_axes = (1,) if channels_first else (-1,)
        axes, inputs = ((-2,), -1) if transposed else ((-1,), -2)
        return [Kernel("kernel", axes, inputs, output_axes=output_axes)]

    return kernels


def _depthwise(layer):
    output_axes = (1,) if layer.data_format == "channels_first" else (-1,)
    return [Kernel("kernel", (-2, -1), 0, output_axes=output_axes)]


def _separable(layer):
    output_axes = (1,) if layer.data_format == "channels_first" else (-1,)
    return [
        Kernel("depthwise_kernel", (-2, -1), 0, output_axes=output_axes, observed=False),
        Kernel("pointwise_kernel", (-1,), -2, output_axes=output_axes),
    ]


def _einsum(layer):
    """Unit axes are the kernel's letters that reach the output; the others are contracted."""
    inputs, result = layer.equation.replace("...", "").split("->")
    letters = inputs.split(",")[1]
    units = [axis for axis, letter in enumerate(letters) if letter in result]
    contracted = [axis for axis, letter in enumerate(letters) if letter not in result]
    output_axes = tuple(result.index(letters[axis]) - len(result) for axis in units)
    return [Kernel("kernel", tuple(units), (contracted or [0])[-1], output_axes=output_axes)]


def _recurrent(copies):
    def kernels(layer):
        return [
            Kernel("cell.kernel", copies=copies, input_axis=0),
            Kernel("cell.recurrent_kernel", copies=copies, input_axis=0),
        ]

    return kernels


for _class in (_L.Conv1D, _L.Conv2D, _L.Conv3D):
    register(_class, _conv())
for _class in (_L.Conv1DTranspose, _L.Conv2DTranspose, _L.Conv3DTranspose):
    register(_class, _conv(transposed=True))
for _class in (_L.DepthwiseConv1D, _L.DepthwiseConv2D):
    register(_class, _depthwise)
for _class in (_L.SeparableConv1D, _L.SeparableConv2D):
    register(_class, _separable)
for _class, _copies in ((_L.LSTM, 4), (_L.GRU, 3), (_L.SimpleRNN, 1)):
    register(_class, _recurrent(_copies))
register(_L.Dense, Kernel("kernel", input_axis=0))
register(_L.Embedding, Kernel("embeddings", input_axis=0))
register(_L.EinsumDense, _einsum)


class _Walk:
    """One pass over a model; keeps what was found and what was left out."""

    def __init__(self):
        self.sites, self.skipped, self._seen, self._names = [], [], set(), set()

    def visit(self, layer, path, graph=frozenset(), source=None, mask_of=None):
        """Collect the sites of `layer` and of everything inside it."""
        if id(layer) in self._seen:
            return  # shared layers are found once
        self._seen.add(id(layer))
        describe = _lookup(layer)
        if describe is not None:
            self._add(layer, path, describe(layer), graph, source, mask_of)
            return
        children = internals.sublayers(layer)
        self._note_unknown(layer, path, children)
        if isinstance(layer, _L.RNN):
            return  # a cell of another kind: listed above, never called on its own
        mask_of = getattr(layer, "mask_of", mask_of)
        graph = _graph(layer) or graph
        for child in children:
            inner = path if hasattr(layer, "mask_of") else f"{path}/{child.name}".lstrip("/")
            self.visit(child, inner, graph, _wrapped_source(layer, child) or source, mask_of)

    def _add(self, layer, path, kernels, graph, source, mask_of):
        reason = _refusal(layer)
        if reason:
            self.skipped.append((path, reason))
            return
        for kernel in kernels:
            variable = _variable(layer, kernel.attribute)
            if variable is None:
                self.skipped.append((path, f"`{kernel.attribute}` is not a plain variable"))
            elif id(variable) not in self._seen:
                self._seen.add(id(variable))
                units = _unit_index(variable.shape, kernel)
                seen_in = source or _follow(layer, kernel, int(units.max()) + 1, graph)
                name = self._unique(f"{path}/{kernel.attribute.split('.')[-1]}")
                mask = mask_of(variable) if mask_of else None
                axis = kernel.input_axis
                live = (name, path, layer, variable, units, axis, seen_in, kernel.observed, mask)
                self.sites.append(LiveSite(*live))

    def _note_unknown(self, layer, path, children):
        inside = {id(variable) for child in children for variable in child.weights}
        own = [w for w in layer.trainable_weights if len(w.shape) > 1 and id(w) not in inside]
        if isinstance(layer, _L.RNN):
            own = [w for w in layer.trainable_weights if len(w.shape) > 1]
        if own and not hasattr(layer, "mask_of"):
            kind = type(layer).__name__
            self.skipped.append((path, f"no site registered for {kind}; see sites.register"))

    def _unique(self, name):
        fresh, number = name, 1
        while fresh in self._names:
            number += 1
            fresh = f"{name}_{number}"
        self._names.add(fresh)
        return fresh


def _lookup(layer):
    return next((_REGISTRY[kind] for kind in type(layer).__mro__ if kind in _REGISTRY), None)


def _refusal(layer):
    """Why the weights of `layer` cannot be pruned as they are, or None."""
    if getattr(layer, "lora_enabled", False):
        return "LoRA is enabled: the kernel is a sum; merge it (save and reload) before pruning"
    mode = getattr(layer, "quantization_mode", None)
    if mode:
        return f"quantised to {mode}: prune the float model first, then quantise"
    if not layer.built:
        return "not built: call the model on data once"
    return None


def _variable(layer, attribute):
    value = layer
    for part in attribute.split("."):
        value = getattr(value, part, None)
    return value if isinstance(value, keras.Variable) else None


def _unit_index(shape, kernel):
    axes = [axis % len(shape) for axis in kernel.unit_axes]
    index = np.arange(math.prod(shape[axis] for axis in axes))
    if kernel.copies > 1:
        index %= len(index) // kernel.copies  # gate blocks lie side by side
    return index.reshape([size if axis in axes else 1 for axis, size in enumerate(shape)])


def _graph(layer):
    """Ids of the operations of a Functional or Sequential model; empty for anything else."""
    if isinstance(layer, keras.Sequential):
        return frozenset(map(id, layer.layers))
    operations = getattr(layer, "operations", None) if isinstance(layer, keras.Model) else None
    return frozenset(map(id, operations or ()))


def is_graph(model):
    """Whether `model` is a Sequential or Functional model, whose layers form a known graph."""
    return bool(_graph(model))


def _wrapped_source(wrapper, child):
    """Wrappers that call past `child.__call__`: its units are seen in the wrapper's own output."""
    if isinstance(wrapper, _L.TimeDistributed) and _lookup(child) is not None:
        kernel = _lookup(child)(child)[-1]
        units = int(_unit_index(_variable(child, kernel.attribute).shape, kernel).max()) + 1
        return Source(wrapper, units, units, axes=kernel.output_axes, label=wrapper.name)
    if isinstance(wrapper, _L.Bidirectional) and hasattr(child, "units"):
        backward = child is wrapper.backward_layer
        separate = wrapper.merge_mode is None
        joined = wrapper.merge_mode == "concat"
        return Source(
            wrapper,
            child.units,
            child.units * (2 if joined else 1),
            start=child.units * (joined and backward),
            output=int(separate and backward),
            label=wrapper.name,
        )
    return None


def _follow(layer, kernel, units, graph):
    """The output that says "active": the layer's own, or that of the next activation layer."""
    linear = getattr(layer, "activation", None) in (None, keras.activations.linear)
    own = Source(layer, units, units, axes=kernel.output_axes)
    if isinstance(layer, _L.RNN) or not linear:
        return dataclasses.replace(own, label="own activation")
    current = layer
    while internals.calls_in_graph(current, graph) == 1:
        following = internals.consumers(current, graph)
        if len(following) != 1:
            break
        current = following[0]
        reshaped = isinstance(current, (_L.Flatten, _L.Reshape))
        if reshaped and kernel.output_axes != (-1,):
            break  # only with units last does flattening keep every unit's positions together
        if isinstance(current, _ACTIVATIONS) and internals.calls_in_graph(current, graph) == 1:
            return dataclasses.replace(own, layer=current, label=current.name)
        if not isinstance(current, _PASSED_THROUGH):
            break
    return own


def find(model, include=None, exclude=None):
    """Find the prunable sites of a built Keras 3 model.

    Args:
        model: a built `keras.Model` (Sequential, Functional, nested or subclassed) or layer.
        include: names, patterns (`"conv*"`) or layers to take; None takes all.
        exclude: names, patterns or layers to leave out; None leaves out the output layers
            (unless `include` is given), `()` leaves out nothing.

    Returns:
        `Found`, with the sites in model order and the skipped layers with their reasons.

    Raises:
        TypeError: for something that is not a Keras 3 model.
        ValueError: for an unbuilt model, an unknown name, or when no site is left.

    Example:

    >>> import keras
    >>> from activation_pruning import sites
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="hidden"),
    ...                           keras.layers.Dense(2, name="output")])
    >>> [site.name for site in sites.find(model).sites]
    ['hidden/kernel']
    """
    check_model(model)
    walk = _Walk()
    walk.visit(model, "" if isinstance(model, keras.Model) else model.name)
    chosen = walk.sites
    if include is not None:
        chosen = [site for site in chosen if site in _matching("include", include, walk.sites)]
    if exclude is None and include is None:
        left_out = _outputs(model, walk.sites)
        walk.skipped.extend((site.path, "output layer (excluded by default)") for site in left_out)
    else:
        left_out = _matching("exclude", exclude or (), walk.sites)
        walk.skipped.extend((site.path, "excluded") for site in left_out)
    chosen = [site for site in chosen if site not in left_out]
    if not chosen:
        raise ValueError(_nothing_left(walk))
    return Found(chosen, list(dict.fromkeys(walk.skipped)))


def check_model(model):
    """Raise unless `model` is a built Keras 3 model (or layer)."""
    if not isinstance(model, keras.Layer):
        kind = f"{type(model).__module__}.{type(model).__name__}"
        if "tf_keras" in kind or "keras.src.engine" in kind:
            raise TypeError(
                f"model is a legacy tf_keras model ({kind}); this package prunes Keras 3 models. "
                "Rebuild the same architecture with `keras` and copy the weights: "
                "new_model.set_weights(old_model.get_weights())."
            )
        raise TypeError(f"model must be a keras.Model, received {kind}")
    if not model.built:
        raise ValueError(
            f"model {model.name!r} is not built, so it has no weights yet. Give it an Input "
            "layer, call model.build(input_shape), or call it on a batch of data."
        )


def _nothing_left(walk):
    listed = "; ".join(f"{path}: {reason}" for path, reason in walk.skipped) or "no layers"
    return (
        f"model has no prunable layers left ({listed}). Use include=... or exclude=() to prune "
        "the output layer too, or sites.register for your own layer classes."
    )


def _matching(argument, wanted, sites):
    """The sites that any of `wanted` names; each entry must name at least one."""
    wanted = [wanted] if isinstance(wanted, (str, keras.Layer)) else list(wanted)
    matched = []
    for item in wanted:
        hits = [site for site in sites if _names(item, site)]
        if not hits:
            names = sorted({site.path for site in sites})
            text = item if isinstance(item, str) else item.name
            close = difflib.get_close_matches(text, names, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"{argument}={text!r} matches no prunable layer.{hint} Prunable layers: {names}"
            )
        matched.extend(hits)
    return matched


def _names(item, site):
    if isinstance(item, keras.Layer):
        return any(w is site.variable for w in item.weights)
    parts = site.path.split("/")
    prefixes = {"/".join(parts[: end + 1]) for end in range(len(parts))}
    return any(fnmatch.fnmatch(name, item) for name in prefixes | {site.layer.name, site.name})


def _outputs(model, sites):
    """The sites of the layers that produce the model's outputs.

    Walks back from the outputs of a graph. A subclassed model has no graph to follow: its last
    site in tracking order is taken.
    """
    if not _graph(model):
        return [site for site in sites if sites and site.layer is sites[-1].layer]
    found, frontier, seen = [], list(internals.output_operations(model)), set()
    while frontier:
        operation = frontier.pop()
        if id(operation) in seen:
            continue
        seen.add(id(operation))
        inside = []
        if isinstance(operation, keras.Layer):
            weights = {id(variable) for variable in operation.weights}
            inside = [site for site in sites if id(site.variable) in weights]
        if not inside:
            frontier.extend(internals.producers(operation, _graph(model)))
        elif isinstance(operation, keras.Model):
            found.extend(_outputs(operation, inside))
        else:
            found.extend(site for site in inside if site.layer is inside[-1].layer)
    return found
