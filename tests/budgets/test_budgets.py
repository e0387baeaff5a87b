"""Targets in multiply-adds, parameters and bytes, against what the compacted model really costs."""

import keras
import numpy as np
import pytest

import activation_pruning as ap

layers = keras.layers


def mlp():
    return keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(16, "relu", name="a"),
            layers.Dense(10, "relu", name="b"),
            layers.Dense(3, name="out"),
        ]
    )


def residual():
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    for _ in range(2):
        y = layers.Conv2D(12, 3, padding="same", use_bias=False)(x)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.DepthwiseConv2D(3, padding="same")(y)
        y = layers.Conv2D(8, 1, padding="same")(y)
        x = layers.Add()([x, y])
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


def branches():
    inputs = keras.Input((8, 8, 3))
    some = layers.Conv2D(6, 3, activation="relu", padding="same")(inputs)
    others = layers.Conv2D(10, 3, activation="relu", padding="same")(inputs)
    x = layers.Concatenate()([some, others])
    x = layers.Add()([x, layers.Conv2D(16, 1)(inputs)])
    return keras.Model(inputs, layers.Dense(4)(layers.Flatten()(x)))


def recurrent():
    return keras.Sequential(
        [
            keras.Input((5, 4)),
            layers.LSTM(12, return_sequences=True),
            layers.Bidirectional(layers.GRU(6)),
            layers.Dense(3),
        ]
    )


def attending():
    x = inputs = keras.Input((6, 16))
    x = x + layers.MultiHeadAttention(4, 4)(x, x)
    x = layers.LayerNormalization()(x)
    x = x + layers.Dense(16)(layers.Dense(32, "relu")(x))
    return keras.Model(inputs, layers.Dense(3)(x))


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.a, self.b = layers.Dense(20, "relu"), layers.Dense(4)

    def call(self, x):
        return self.b(self.a(x) * 2.0)


def subclassed():
    model = Own()
    model(np.ones((1, 7)))
    return model


MODELS = [mlp, residual, branches, recurrent, attending, subclassed]


def cost(model, budget):
    """What a model costs, counted without the budget's own code."""
    small = ap.compact(model)
    if isinstance(budget, ap.budgets.MultiplyAdds):
        return ap.analysis.cost(small).total["multiply_adds"]
    return sum(np.prod(weight.shape) for weight in small.weights)


@pytest.mark.parametrize("share", [0.8, 0.5])
@pytest.mark.parametrize("kind", [ap.budgets.MultiplyAdds, ap.budgets.Parameters])
@pytest.mark.parametrize("make", MODELS)
def test_it_is_met_and_one_unit_more_would_exceed_it(make, kind, share, monkeypatch):
    keras.utils.set_random_seed(0)
    model, tried = make(), {}
    seen = kind.fewest

    def fewest(self, costs, asked, measure):
        count = seen(self, costs, asked, measure)
        tried[count] = measure(count)
        if count:
            tried[count - 1] = measure(count - 1)
        return count

    monkeypatch.setattr(kind, "fewest", fewest)
    budget = kind(share)
    report = ap.prune(model, budget, granularity="unit")
    spending = report.spending
    assert spending.asked == pytest.approx(share * spending.dense)
    assert cost(model, budget) == spending.measured <= spending.asked
    assert len(tried) == 2
    assert max(tried.values()) > spending.asked
    assert spending.predicted == pytest.approx(spending.measured, rel=0.05)


@pytest.mark.parametrize("make", [mlp, residual, branches])
def test_the_prediction_is_exact_where_only_kernels_are_multiplied(make):
    model = make()
    spending = ap.prune(model, ap.budgets.Parameters(0.6), granularity="unit").spending
    assert spending.predicted == pytest.approx(spending.measured)


def test_the_order_is_that_of_a_search_by_hand():
    keras.utils.set_random_seed(1)
    model = mlp()
    kernels = {name: np.abs(model.get_layer(name).get_weights()[0]) for name in "ab"}
    means = {name: kernel.mean(axis=0) for name, kernel in kernels.items()}
    shares = {name: own / own.sum() for name, own in means.items()}
    alive = {name: set(range(len(shares[name]))) for name in "ab"}

    def size():
        a, b = len(alive["a"]), len(alive["b"])
        return 13 * a + a * b + b + 3 * b + 3

    while size() > 150:
        before, ratios = size(), {}
        for name in "ab":
            unit = min(alive[name], key=lambda u: shares[name][u])
            alive[name].remove(unit)
            ratios[shares[name][unit] / (before - size())] = name, unit
            alive[name].add(unit)
        name, unit = ratios[min(ratios)]
        alive[name].remove(unit)
    ap.prune(model, ap.budgets.Parameters(150), granularity="unit")
    for name in "ab":
        found = np.flatnonzero(model.get_layer(name).get_weights()[0].any(axis=0))
        assert set(found.tolist()) == alive[name]


def test_scores_below_zero_are_shares_as_well():
    model = mlp()
    signed = lambda site: site.kernel - 1.0  # noqa: E731
    ap.prune(model, ap.budgets.Parameters(0.5), signed, granularity="unit")
    kernel = model.get_layer("a").get_weights()[0]
    assert 0 < kernel.any(axis=0).sum() < 16


def test_no_layer_nearly_vanishes():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )
    ap.prune(model, ap.budgets.MultiplyAdds(0.5), granularity="unit")
    small = ap.compact(model)
    assert small.layers[0].filters > 6
    assert small.layers[1].filters > 12


def test_nothing_but_what_is_pruned_changes():
    model = residual()
    before = model.get_weights()
    ap.prune(model, ap.budgets.MultiplyAdds(0.5), granularity="unit")
    for old, new in zip(before, model.get_weights(), strict=True):
        assert (new[new != 0] == old[new != 0]).all()


def test_a_model_cheap_enough_stays_as_it_is():
    model = mlp()
    before = model.get_weights()
    report = ap.prune(model, ap.budgets.Parameters(10**6), granularity="unit")
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    assert report.sparsity == 0
    assert "at most 1e+06 parameters" in str(report)


def test_what_is_left_out_keeps_its_units():
    model = residual()
    left_out = [layer.name for layer in model.layers if layer.name.startswith("conv")][:1]
    ap.prune(model, ap.budgets.MultiplyAdds(0.7), granularity="unit", exclude=left_out)
    small = ap.compact(model)
    assert small.get_layer(left_out[0]).filters == 8
    assert (
        ap.analysis.cost(small).total["multiply_adds"]
        <= 0.7 * (ap.analysis.cost(model).total["multiply_adds"])
    )


def test_layers_keep_multiples():
    model = keras.Sequential(
        [keras.Input((12,)), layers.Dense(32, "relu"), layers.Dense(24, "relu"), layers.Dense(3)]
    )
    report = ap.prune(model, ap.budgets.Parameters(0.5), granularity=ap.masks.Unit(round_to=8))
    small = ap.compact(model)
    assert [layer.units % 8 for layer in small.layers[:2]] == [0, 0]
    assert small.count_params() == report.spending.measured <= 0.5 * model.count_params()


def test_the_best_unit_of_each_layer_stays():
    model = branches()
    floor = ap.budgets.Parameters(1)
    with pytest.raises(
        ValueError, match=r"at most 1 parameters were asked for, but .* stay"
    ) as said:
        ap.prune(model, floor, granularity="unit")
    assert "ap.removable" in str(said.value)
    assert all(weight.any() for weight in model.get_weights() if weight.ndim > 1)


@pytest.mark.parametrize("format", [".keras", ".tflite"])
def test_a_file_is_no_larger_than_asked(format, tmp_path):
    if format == ".tflite" and keras.backend.backend() != "tensorflow":
        pytest.skip("LiteRT files need TensorFlow")
    model = keras.Sequential(
        [keras.Input((64,)), layers.Dense(256, "relu"), layers.Dense(128, "relu"), layers.Dense(10)]
    )
    model.compile("adam", "mse")
    report = ap.prune(model, ap.budgets.FileBytes(0.5, format), granularity="unit")
    small, path = ap.compact(model), tmp_path / f"model{format}"
    if format == ".keras":
        keras.Sequential([keras.Input((64,)), *small.layers]).save(path)
    else:
        ap.export(small, path)
    size, asked = path.stat().st_size, report.spending.asked
    assert asked - 2_000 < size <= asked


def test_within_fit_the_cost_falls_step_by_step():
    keras.utils.set_random_seed(0)
    model = residual()
    model.compile("sgd", "mse")
    budget = ap.budgets.MultiplyAdds(0.4)
    pruner = ap.PruningCallback(ap.schedules.Linear(budget, begin=1, end=3), granularity="unit")
    costs = []
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: costs.append(cost(model, budget))
    )
    x, y = np.ones((8, 8, 8, 3)), np.ones((8, 4))
    model.fit(x, y, epochs=4, verbose=0, callbacks=[pruner, note])
    dense = ap.analysis.cost(model).total["multiply_adds"]
    assert pruner.spending.measured == costs[3] <= pruner.spending.asked
    assert costs[0] == dense
    assert costs[1] <= 0.7 * dense
    assert costs[2] <= 0.4 * dense
    assert costs[1] > 0.6 * dense
    assert costs[2] > 0.3 * dense
    assert costs[3] == costs[2]


def test_within_fit_a_budget_out_of_reach_is_refused_at_the_first_event():
    model = mlp()
    model.compile("sgd", "mse")
    before = [weight.any(axis=0).sum() for weight in model.get_weights()[::2]]
    schedule = ap.schedules.Linear(ap.budgets.Parameters(5), begin=1, end=4)
    pruner = ap.PruningCallback(schedule, granularity="unit")
    assert pruner.spending is None
    with pytest.raises(ValueError, match="at most 5 parameters were asked for"):
        model.fit(np.ones((8, 12)), np.ones((8, 3)), epochs=4, verbose=0, callbacks=[pruner])
    assert [weight.any(axis=0).sum() for weight in model.get_weights()[::2]] == before
    assert pruner.spending is None


def test_a_search_may_go_by_cost():
    keras.utils.set_random_seed(0)
    model = mlp()
    model.compile("sgd", "mse")
    x, y = np.ones((8, 12)), np.ones((8, 3))
    found = ap.find_sparsity(
        model,
        lambda model, **more: model.fit(x, y, verbose=0, **more),
        lambda model: 0.5,
        budget=ap.budgets.Parameters,
        granularity="unit",
        high=0.6,
        retrain=1,
        verbose=0,
    )
    assert found.sparsity == 0.6
    dense = model.count_params()
    assert 0.3 * dense < ap.compact(model).count_params() <= 0.4 * dense


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: ap.prune(m, ap.budgets.Parameters(0.5)), "granularity='unit'"),
        (
            lambda m: ap.prune(
                m, ap.budgets.Parameters(0.5), allocation="uniform", granularity="unit"
            ),
            "allocation='uniform' has no say",
        ),
        (lambda m: ap.budgets.Parameters(0), "limit=0; it must be"),
        (lambda m: ap.budgets.Parameters(1.5), "limit=1.5; a cost of 1 or more"),
        (lambda m: ap.budgets.Parameters("half"), "limit='half'; it must be"),
        (lambda m: ap.budgets.FileBytes(0.5, ".h5"), "format='.h5'; it must be one of"),
        (
            lambda m: ap.prune(m, ap.budgets.Parameters(0.5), granularity="unit", sequential=True),
            "sequential=True",
        ),
        (
            lambda m: ap.schedules.Linear(ap.budgets.Parameters(0.5), 1, 3, initial_sparsity=0.1),
            "initial_sparsity=0.1 does not go with a budget",
        ),
    ],
)
def test_errors_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call(mlp())


@pytest.mark.parametrize(
    "make",
    [
        lambda budget: ap.schedules.Every(budget),
        lambda budget: ap.amounts.UpTo(budget, 0.5),
        lambda budget: ap.schedules.Exponential(budget, 1, 3),
    ],
)
def test_a_budget_is_no_amount_per_event(make):
    with pytest.raises(TypeError, match="budget"):
        make(ap.budgets.Parameters(0.5))


def test_wrappers_have_to_be_taken_off_first():
    model = ap.wrap(mlp())
    with pytest.raises(ValueError, match=r"PrunedLayer.*ap\.strip"):
        ap.prune(model, ap.budgets.Parameters(0.5), granularity="unit")


def test_once_more_to_the_same_budget_changes_nothing():
    model = residual()
    budget = ap.budgets.MultiplyAdds(0.5)
    ap.prune(model, budget, granularity="unit")
    before = model.get_weights()
    spending = ap.prune(model, budget, granularity="unit").spending
    assert spending.measured <= spending.asked
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


def test_models_without_a_graph_are_refused_with_the_reason():
    class Opaque(keras.Model):
        def __init__(self):
            super().__init__()
            self.a = layers.Dense(4)

        def call(self, x):
            return keras.ops.convert_to_tensor(np.tanh(keras.ops.convert_to_numpy(self.a(x))))

    model = Opaque()
    model.a.build((None, 3))
    model.built = True
    with pytest.raises(ValueError, match=r"ap\.inline"):
        ap.prune(model, ap.budgets.Parameters(0.5), granularity="unit", exclude=())


def test_units_that_save_nothing_any_more_go_last():
    """A cost that stops to fall below some width, as times measured down to that width do."""

    class Flat(ap.budgets.CostBudget):
        unit = "steps"

        def terms(self, model, coupling):
            slices = coupling.slices
            for variable, axes in slices:
                if variable.path.endswith("kernel") and 1 in axes:
                    yield ap.budgets.Term((axes[1],), lambda width: float(max(width, 4)))

        def measure(self, model):
            return float(sum(max(layer.units, 4) for layer in model.layers))

    layers = [keras.layers.Dense(8, "relu"), keras.layers.Dense(8, "relu"), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((6,)), *layers])
    ap.prune(model, Flat(13), granularity="unit")
    assert sum(max(layer.units, 4) for layer in ap.compact(model).layers) <= 13
