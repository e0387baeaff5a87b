"""Models of all kinds with weights of all kinds, and ways of killing their units."""

import keras
import numpy as np
from keras import layers

from activation_pruning import sites


def randomised(model, seed=0):
    """The model with random weights: positive variances, biases and offsets other than zero."""
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        shape, name = tuple(variable.shape), variable.path.split("/")[-1]
        if "float" not in str(variable.dtype):
            continue
        if "variance" in name or name == "gamma":
            values = generator.uniform(0.5, 1.5, shape)
        elif len(shape) > 1:
            values = generator.normal(0, 1.4 / np.sqrt(np.prod(shape[:-1])), shape)
        else:
            values = generator.normal(0, 0.3, shape)
        variable.assign(values)
    return model


def killed(model, share=0.4, seed=0, outgoing=0.2):
    """The model with random units whose incoming weights are zeros, and inputs nobody reads."""
    generator = np.random.default_rng(seed)
    for site in sites.find(model).sites:
        kernel, dead = site.kernel().copy(), generator.random(site.n_units) < share
        dead[generator.integers(site.n_units)] = False
        kernel[np.broadcast_to(dead[site.units], kernel.shape)] = 0
        if generator.random() < outgoing and kernel.ndim > 1 and site.units.shape[-1] > 1:
            kernel[..., generator.random(kernel.shape[-2]) < share, :] = 0
        site.variable.assign(kernel)
    return model


def image_graph(seed):
    """A random convolutional graph with branches that meet."""
    generator = np.random.default_rng(seed)
    inputs = keras.Input((9, 9, 3))
    x = inputs
    for _ in range(generator.integers(2, 7)):
        x = _STEPS[generator.integers(len(_STEPS))](x, generator)
    x = [layers.GlobalAveragePooling2D(), layers.GlobalMaxPooling2D(), layers.Flatten()][
        generator.integers(3)
    ](x)
    x = layers.Dense(int(generator.integers(2, 9)), _activation(generator))(x)
    return keras.Model(inputs, layers.Dense(3)(x))


def _activation(generator):
    return str(generator.choice(["relu", "tanh", "sigmoid", "linear", "gelu"]))


def _filters(generator):
    return int(generator.integers(2, 8))


def _conv(x, generator, filters=None):
    bordered = min(x.shape[1:3]) < 3 or generator.random() < 0.5
    return layers.Conv2D(
        filters or _filters(generator),
        int(generator.choice([1, 3])),
        padding="same" if bordered else "valid",
        use_bias=bool(generator.random() < 0.7),
        activation=_activation(generator),
    )(x)


def _depthwise(x, generator):
    times = int(generator.integers(1, 3))
    return layers.DepthwiseConv2D(
        2, padding="same", depth_multiplier=times, activation=_activation(generator)
    )(x)


def _normalised(x, generator):
    x = layers.BatchNormalization(center=bool(generator.random() < 0.8))(x)
    return layers.Activation(_activation(generator))(x)


def _meeting(x, generator):
    filters, kind = _filters(generator), generator.integers(5)
    convolution = {"padding": "same", "activation": _activation(generator)}
    a = layers.Conv2D(filters, 3, **convolution)(x)
    b = layers.Conv2D(filters if kind < 4 else _filters(generator), 1, **convolution)(x)
    merge = [layers.Add, layers.Multiply, layers.Maximum, layers.Average, layers.Concatenate][kind]
    return merge()([a, b])


def _residual(x, generator):
    return layers.Add()([x, layers.Conv2D(x.shape[-1], 3, padding="same")(x)])


def _dense_block(x, generator):
    return layers.Concatenate()([x, layers.Conv2D(_filters(generator), 3, padding="same")(x)])


def _excited(x, generator):
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(_conv(gate, generator))
    return layers.Multiply()([x, gate])


def _separable(x, generator):
    return layers.SeparableConv2D(_filters(generator), 2, padding="same", depth_multiplier=2)(x)


def _shared(x, generator):
    layer = layers.Conv2D(x.shape[-1], 3, padding="same", activation=_activation(generator))
    return layer(layer(x))


def _resized(x, generator):
    kind = generator.integers(4)
    if min(x.shape[1:3]) < 4:
        return layers.UpSampling2D(2)(x)
    if kind == 0:
        return layers.MaxPooling2D(2)(x)
    if kind == 1:
        return layers.AveragePooling2D(2, padding="same")(x)
    return layers.ZeroPadding2D(1)(x) if kind == 2 else layers.Cropping2D(1)(x)


def _prelu(x, generator):
    return layers.PReLU(shared_axes=[1, 2])(layers.Dropout(0.1)(x))


def _nested(x, generator):
    inner = keras.Sequential(
        [keras.Input(x.shape[1:]), layers.Conv2D(_filters(generator), 1, activation="relu")]
    )
    return inner(x)


def _grouped(x, generator):
    groups = int(generator.integers(2, 5))
    x = _conv(x, generator, groups * int(generator.integers(1, 4)))
    filters = groups * int(generator.integers(1, 4))
    return layers.Conv2D(filters, 2, padding="same", groups=groups, activation="relu")(x)


def _by_length(x, generator):
    kind = [layers.RMSNormalization, layers.UnitNormalization][generator.integers(2)]
    return kind()(_conv(x, generator))


def _normalised_in_groups(x, generator):
    groups, each = (int(number) for number in generator.integers(1, 4, 2))
    return layers.GroupNormalization(groups)(_conv(x, generator, groups * each))


_STEPS = (
    _conv, _depthwise, _normalised, _meeting, _residual, _dense_block, _excited, _separable,
    _shared, _resized, _prelu, _nested, _grouped, _by_length, _normalised_in_groups,
)  # fmt: skip


def sequence_graph(seed):
    """A random graph over sequences: recurrent, attending, wrapped and shared layers, operations.

    Inputs: tokens of shape (6,), a mask of shape (6, 6) for attention.
    """
    generator = np.random.default_rng(seed)
    tokens, mask = keras.Input((6,), dtype="int32"), keras.Input((6, 6), dtype="bool")
    x = layers.Embedding(9, _filters(generator), mask_zero=bool(generator.random() < 0.5))(tokens)
    for _ in range(generator.integers(2, 7)):
        x = _OVER_TIME[generator.integers(len(_OVER_TIME))](x, generator, mask)
    ends = _at_two_shapes, lambda x, _: layers.Flatten()(x), _pooled
    x = ends[generator.integers(len(ends))](x, generator)
    x = layers.Dense(int(generator.integers(2, 9)), _activation(generator))(x)
    return keras.Model([tokens, mask], layers.Dense(3)(x))


def _dense(x, generator, mask):
    use_bias = bool(generator.random() < 0.7)
    return layers.Dense(_filters(generator), _activation(generator), use_bias=use_bias)(x)


def _einsum(x, generator, mask):
    equation = str(generator.choice(["...x,xy->...y", "abx,xy->aby", "abx,yx->aby"]))
    units = _filters(generator)
    return layers.EinsumDense(
        equation,
        units if equation[0] == "." else (6, units),
        bias_axes=[None, "y"][generator.integers(2)],
        activation=_activation(generator),
    )(x)


def _distributed(x, generator, mask):
    inner = [
        lambda: layers.Dense(_filters(generator), _activation(generator)),
        lambda: layers.Dense(_filters(generator), use_bias=False),
        layers.BatchNormalization,
        layers.ReLU,
    ][generator.integers(4)]()
    return layers.TimeDistributed(inner)(x)


def _distributed_and_not(x, generator, mask):
    shared = layers.Dense(_filters(generator), _activation(generator))
    found = [shared(x), layers.TimeDistributed(shared)(x)]
    return layers.Add()(found) if generator.random() < 0.5 else layers.Concatenate()(found)


def _recurrent(x, generator, mask):
    kind = [layers.LSTM, layers.GRU, layers.SimpleRNN][generator.integers(3)]
    layer = kind(_filters(generator), return_sequences=True)
    both = layers.Bidirectional(layer) if generator.random() < 0.5 else layer
    return both(x)


def _attending(x, generator, mask):
    y = _dense(x, generator, mask)
    narrow = generator.random() < 0.3 and keras.backend.backend() != "jax"  # JAX wants both alike
    own = {"value_dim": 2} if narrow else {}
    own |= {"output_shape": (3, 2)} if generator.random() < 0.2 else {}
    layer = layers.MultiHeadAttention(2, 3, use_bias=bool(generator.random() < 0.7), **own)
    given = {"attention_mask": mask} if generator.random() < 0.6 else {}
    given |= {"key": y} if generator.random() < 0.3 else {}
    z = layer(x, x if generator.random() < 0.5 else y, **given)
    return z if len(z.shape) == 3 else layers.Reshape((6, 6))(z)


def _over_steps(x, generator, mask):
    filters = _filters(generator)
    return layers.Conv1D(filters, 3, padding="same", activation=_activation(generator))(x)


def _by_operations(x, generator, mask):
    y = layers.Dense(x.shape[-1])(x)
    ops = keras.ops
    # keras.ops.average with weights fails on PyTorch unless it goes along the last axis.
    weighted = keras.backend.backend() != "torch"
    return [
        lambda: ops.relu(x) * y,
        lambda: ops.maximum(x, y) - ops.tanh(x),
        lambda: ops.concatenate([x, y], axis=-1),
        lambda: ops.average(x, axis=1, weights=y if weighted else None)[:, None, :] + x,
        lambda: x + ops.average(ops.stack([x, y]), axis=0),
        lambda: ops.average(x, axis=2, weights=y)[:, :, None] * x,
    ][generator.integers(6)]()


def _in_a_row(x, generator, mask):
    """One nested model at two lengths."""
    inner = keras.Sequential(
        [keras.Input((None, x.shape[-1])), layers.Dense(_filters(generator), "relu")]
    )
    y = layers.UpSampling1D(2)(inner(layers.MaxPooling1D(2)(x)))
    return layers.Add()([inner(x), y])


def _turned(x, generator, mask):
    x = layers.Permute((2, 1))(x)
    if generator.random() < 0.5:
        x = layers.Dense(6, _activation(generator))(x)
    return layers.Permute((2, 1))(x)


def _at_two_shapes(x, generator):
    shared = layers.Reshape((-1,))
    x = layers.Dropout(0.1)(x)
    return layers.Concatenate()([shared(x), shared(layers.MaxPooling1D(2)(x))])


def _pooled(x, generator):
    shared = layers.Reshape((3, -1)) if generator.random() < 0.5 else layers.ReLU()
    y = layers.Dense(x.shape[-1])(x)
    return layers.Flatten()(layers.Subtract()([shared(x), shared(y)]))


def _attending_in_groups(x, generator, mask):
    x = layers.Dense(_filters(generator))(x)
    query_heads, heads = [(4, 2), (3, 1), (2, 2)][generator.integers(3)]
    use_bias = bool(generator.random() < 0.7)
    layer = layers.GroupQueryAttention(3, query_heads, heads, use_bias=use_bias)
    given = {"attention_mask": mask} if generator.random() < 0.5 else {}
    return layer(x, x, **given)


def _gated(x, generator, mask):
    """One layer makes a gate and what it opens."""
    ops, both = keras.ops, layers.Dense(2 * _filters(generator))(x)
    return [
        lambda: ops.silu(ops.split(both, 2, axis=-1)[0]) * ops.split(both, 2, axis=-1)[1],
        lambda: ops.glu(both),
        lambda: ops.sum(ops.stack(ops.split(both, 2, axis=-1), axis=1), axis=1),
        lambda: ops.where(ops.max(x, -1, keepdims=True) > 0, both, ops.zeros_like(both)),
        lambda: ops.broadcast_to(both[:, :1], (4, 6, both.shape[-1])) + both,
    ][generator.integers(5)]()


def _by_heads(x, generator, mask):
    """Attention from operations, over a reshape with one open size."""
    heads, ops = int(generator.integers(2, 4)), keras.ops
    parts = [layers.Dense(2 * heads)(x) for _ in range(3)]
    query, key, value = (layers.Reshape((-1, heads, 2))(part) for part in parts)
    scores = ops.softmax(ops.einsum("aecd,abcd->acbe", key, query))
    return layers.Reshape((-1, 2 * heads))(ops.einsum("acbe,aecd->abcd", scores, value))


class Affine(layers.Layer):
    """A user's own, with an entry for each channel."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")
        self.shift = self.add_weight(shape=(1, shape[-1]), name="shift")

    def call(self, x):
        return x * self.scale + self.shift


@keras.saving.register_keras_serializable()
class Mixed(layers.Layer):
    """A user's own, of two tensors."""

    def call(self, one, other):
        return one * keras.ops.sigmoid(other) - 0.5 * other


@keras.saving.register_keras_serializable()
class Norm(layers.Layer):
    """An RMS norm whose configuration says nothing."""

    def __init__(self, epsilon=1e-3, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x):
        squares = keras.ops.mean(keras.ops.square(x), axis=-1, keepdims=True)
        return x * keras.ops.rsqrt(squares + self.epsilon) * (1 + self.scale)

    def get_config(self):
        return layers.Layer.get_config(self)


def _owned(x, generator, mask):
    x = _dense(x, generator, mask)
    y = layers.Dense(x.shape[-1])(x)
    return [
        lambda: Affine()(x), lambda: Mixed()(x, y), lambda: Norm()(x), lambda: Mixed()(x, x),
    ][generator.integers(4)]()  # fmt: skip


_OVER_TIME = (
    _dense, _einsum, _distributed, _distributed_and_not, _recurrent, _attending, _over_steps,
    _by_operations, _in_a_row, _turned, _attending_in_groups, _gated, _by_heads, _owned,
)  # fmt: skip
