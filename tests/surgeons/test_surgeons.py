"""What holds for all surgeons, and surgeons through `prune` on real models."""

import keras
import models
import numpy as np
import pytest
from surgery import selection, site_of, small_network

import activation_pruning as ap
from activation_pruning.surgeons import (
    LayerwiseOBS,
    SparseGPT,
    obs,
)

pytestmark = [pytest.mark.backend, pytest.mark.lowest]


@pytest.mark.parametrize("surgeon", [LayerwiseOBS, SparseGPT])
def test_a_singular_hessian_raises_or_is_damped_and_says_so(surgeon):
    x = np.random.default_rng(0).normal(size=(60, 6))
    x[:, 3] = x[:, 2]
    one = site_of(np.ones((6, 2)), x.T @ x / 60, name="layer/kernel")
    with pytest.raises(ValueError, match=r"layer/kernel: the Hessian is singular.*damping=0\.01"):
        surgeon(damping=0).operate([one], selection(0.5))
    chosen, _ = surgeon(damping=0.01).operate([one], selection(0.5))
    assert int((~chosen["a" if "a" in chosen else "layer/kernel"]).sum()) == 6
    assert surgeon().note == "Hessians damped by 0.01 x their mean diagonal."
    assert surgeon(damping=0).note == ""


@pytest.mark.parametrize("surgeon", [LayerwiseOBS, SparseGPT])
def test_too_few_rows_and_zero_inputs_are_named(surgeon):
    one = site_of(np.ones((6, 2)), np.eye(6), name="layer/kernel", rows=5)
    with pytest.raises(ValueError, match=r"layer/kernel: 5 rows .* data with at least 6"):
        surgeon().operate([one], selection(0.5))
    surgeon(damping=0.1).operate([one], selection(0.5))  # chosen knowingly
    dead = site_of(np.ones((6, 2)), np.zeros((6, 6)), name="layer/kernel")
    with pytest.raises(ValueError, match="layer/kernel: the Hessian is zero"):
        surgeon().operate([dead], selection(0.5))


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"damping=-0\.1"):
        LayerwiseOBS(damping=-0.1)
    with pytest.raises(ValueError, match="recalculate_every=0"):
        LayerwiseOBS(recalculate_every=0)
    with pytest.raises(ValueError, match="block_size=0"):
        SparseGPT(block_size=0)
    with pytest.raises(ValueError, match="rounding has"):
        obs.removal_errors(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([1.0, 2.0]))


SURGERY = {"lobs": "weight", "sparsegpt": "weight", "obs": "weight", "unit_obs": "unit"}


@pytest.mark.parametrize("name", ap.surgeons.SURGEONS)
def test_every_surgeon_beats_pruning_without_compensation(name):
    """Compared by what each makes small: the error of a layer, or of what follows."""
    model, _, x, y = small_network(activation="tanh")
    start, grain = model.get_weights(), SURGERY[name]

    def outputs():
        if name in ("unit_obs", "obs"):
            return model.predict(x, verbose=0)
        kernel, bias = model.get_layer("a").get_weights()
        return x @ kernel + bias

    before = outputs()
    plain = "unit_norm" if grain == "unit" else "magnitude"
    ap.prune(model, 0.4, plain, "uniform", grain, include="b" if grain == "unit" else "a")
    error = np.square(outputs() - before).mean()
    model.set_weights(start)
    where = {"include": "b" if grain == "unit" else "a"}
    report = ap.prune(model, 0.4, name, "uniform", grain, data=(x, y), verbose=0, **where)
    assert np.square(outputs() - before).mean() < error
    assert report.sparsity == pytest.approx(0.4, abs=0.1)


@pytest.mark.parametrize("name", ap.surgeons.SURGEONS)
def test_granularities_that_do_not_go_with_a_surgeon_are_named(name):
    model, _, x, y = small_network()
    wrong = {"unit_obs": "weight", "lobs": "unit", "sparsegpt": (2, 2)}.get(name)
    if wrong is None:
        return
    with pytest.raises(ValueError, match=r"granularity=.* does not go with criterion"):
        ap.prune(model, 0.5, name, granularity=wrong, data=(x, y))


@pytest.mark.parametrize("name", ap.surgeons.SURGEONS)
def test_surgeons_need_data(name):
    model, _, _, _ = small_network()
    with pytest.raises(ValueError, match=r"needs .*: pass data="):
        ap.prune(model, 0.5, name, granularity=SURGERY[name])


@pytest.mark.parametrize("name", ap.surgeons.SURGEONS)
def test_compensated_weights_survive_fine_tuning(name):
    model, live, x, y = small_network()
    ap.prune(model, 0.5, name, granularity=SURGERY[name], data=(x, y), verbose=0)
    masks_before = {site.name: site.kernel() != 0 for site in live}
    model.fit(x, y, epochs=2, verbose=0, callbacks=[ap.KeepPruned()])
    for site in live:
        np.testing.assert_array_equal(site.kernel() != 0, masks_before[site.name])


def test_a_callback_prunes_with_a_surgeon_while_training():
    model, _, x, y = small_network()
    pruner = ap.PruningCallback(ap.schedules.Linear(0.6, begin=1, end=3), criterion="lobs", data=x)
    history = model.fit(x, y, epochs=4, verbose=0, callbacks=[pruner])
    assert history.history["sparsity"][-1] == pytest.approx(0.6, abs=0.01)
    with pytest.raises(ValueError, match=r"needs input_hessian: pass data="):
        ap.PruningCallback(ap.schedules.OneShot(0.5), criterion="lobs")


def test_sequential_uses_what_the_inputs_have_become():
    model, _, x, _ = small_network()
    start = model.get_weights()
    ap.prune(model, 0.6, "lobs", "uniform", data=x, sequential=True, verbose=0)
    sequential = model.get_layer("b").get_weights()[0]
    model.set_weights(start)
    ap.prune(model, 0.6, "lobs", "uniform", data=x, verbose=0)
    at_once = model.get_layer("b").get_weights()[0]
    a = model.get_layer("a").get_weights()[0]
    assert (sequential != at_once).any()
    assert (sequential == 0).sum() == (at_once == 0).sum()
    # By hand: the first layer as pruned, then the second with the inputs that it now gets.
    model.set_weights(start)
    model.get_layer("a").kernel.assign(a)
    ap.prune(model, 0.6, "lobs", include="b", data=x, verbose=0)
    np.testing.assert_allclose(model.get_layer("b").get_weights()[0], sequential, atol=1e-6)


def test_several_sparsities_with_training_in_between():
    model, _, x, y = small_network()
    seen = []

    def between(one):
        seen.append(ap.prune(one, 0.0).sparsity)
        one.fit(x, y, verbose=0, callbacks=[ap.KeepPruned()])

    report = ap.prune(model, [0.2, 0.4, 0.6], "lobs", data=x, between=between, verbose=0)
    assert seen == pytest.approx([0.2, 0.4], abs=0.01)
    assert report.sparsity == pytest.approx(0.6, abs=0.01)
    for bad in ([0.5, 0.2], [], ["0.5"], [[0.1, 0.2]]):
        with pytest.raises(ValueError, match="rising fractions"):
            ap.prune(model, bad)


def test_gated_layers_are_to_be_stripped_first():
    model, _, x, _ = small_network()
    gated = ap.wrap(model, wrapper=ap.L0Layer)
    with pytest.raises(ValueError, match=r"have gates.*ap\.strip"):
        ap.prune(gated, 0.5, "lobs", data=x)
    ap.prune(ap.strip(gated), 0.5, "lobs", data=x, verbose=0)


def test_wrapped_layers_keep_compensated_weights_under_their_masks():
    model, _, x, _ = small_network()
    wrapped = ap.wrap(model)
    ap.prune(wrapped, 0.5, "lobs", data=x, verbose=0)
    ap.prune(model, 0.5, "lobs", data=x, verbose=0)
    for left, right in zip(ap.strip(wrapped).get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)


def test_sequential_keeps_to_the_allocation():
    def shares(sites, items, sparsity):
        return {s.name: round(s.mask.size * (0.2 if "a/" in s.name else 0.7)) for s in sites}

    pruned = []
    for sequential in (False, True):
        model, _, x, _ = small_network()
        report = ap.prune(model, 0.4, "wanda", shares, data=x, sequential=sequential, verbose=0)
        pruned.append(report.table()["pruned"].tolist())
    assert pruned[0] == pruned[1]


def test_data_of_a_callback_is_looked_at_before_training():
    model, _, x, y = small_network()
    schedule = ap.schedules.OneShot(0.5, at=2)
    with pytest.raises(ValueError, match="data is a generator"):
        ap.PruningCallback(schedule, "lobs", data=(part for part in [x]))
    with pytest.raises(ValueError, match="where the model takes"):
        model.fit(x, y, verbose=0, callbacks=[ap.PruningCallback(schedule, "lobs", data=x[:, :3])])
    with pytest.raises(ValueError, match="no labels"):
        model.fit(x, y, verbose=0, callbacks=[ap.PruningCallback(schedule, "taylor", data=x)])


def test_surgeons_show_progress_within_fit(capsys):
    model, _, x, y = small_network()
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1), "lobs", data=x)
    model.fit(x, y, epochs=1, verbose=1, callbacks=[pruner])
    assert "/part" in capsys.readouterr().out


def test_data_that_cannot_serve_is_named():
    model, _, x, _ = small_network()
    with pytest.raises(ValueError, match="data is a generator, which can be read only once"):
        ap.prune(model, [0.3, 0.6], "lobs", data=(part for part in [x]), verbose=0)
    assert ap.prune(model, 0.0).sparsity == 0
    with pytest.raises(ValueError, match="NaN or infinite"):
        ap.prune(model, 0.5, "activation", data=np.full((4, 8), np.nan))
    with pytest.raises(TypeError, match=r"LayerwiseOBS is a class; give an object"):
        ap.prune(model, 0.5, ap.surgeons.LayerwiseOBS, data=x)
    with pytest.raises(ValueError, match="granularity='unit' does not go with criterion 'wanda'"):
        ap.prune(model, 0.5, "wanda", granularity="unit", data=x)
    with pytest.raises(ValueError, match=r"lstm.*All such layers: \['both_ways.*'gru', 'lstm'"):
        ap.prune(models.recurrent(), 0.5, "lobs", data=np.ones((9, 4, 3)))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.data")
def test_endless_data_is_named():
    import tensorflow as tf

    model, _, x, _ = small_network()
    endless = tf.data.Dataset.from_tensor_slices(x).batch(50).repeat()
    with pytest.raises(ValueError, match=r"data repeats without end; leave out \.repeat"):
        ap.prune(model, 0.5, "wanda", data=endless)
