"""What the newest published code does beside its criterion: counts, dead units, redistribution."""

import importlib
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import activation_pruning as ap

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

arms = importlib.import_module("lab.arms")
comparison = importlib.import_module("activation_vs_magnitude")
newest = importlib.import_module("activation_vs_magnitude_newest")
tfmot = importlib.import_module("activation_vs_magnitude_tfmot")

RUN = {
    "arm": "activation", "seed": 0, "sparsity": 0.6, "events": 2, "start": 0.3, "stop": 0.6,
    "dataset": "digits", "hidden": [30, 20], "learning_rate": 0.1, "batch_size": 32, "epochs": 12,
    "patience": 5, "target_accuracy": 0.999, "steps_per_execution": 1, "protocol": "paper",
    "pictures": True,
}  # fmt: skip


def network(*kernels):
    """A network of Dense layers with these kernels."""
    layers = [keras.layers.Dense(np.shape(k)[1], name=f"d{i}") for i, k in enumerate(kernels)]
    model = keras.Sequential([keras.Input((len(kernels[0]),)), *layers])
    for layer, kernel in zip(layers, kernels, strict=True):
        layer.set_weights([np.asarray(kernel, "float32"), np.zeros(np.shape(kernel)[1])])
    return model


def test_the_mean_of_what_went_is_given_to_what_is_left_by_frequency():
    before = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 0.0], [7.0, 8.0, 9.0], [1.0, 1.0, 1.0]])
    after = np.array([[0.0, 0.0, 3.0], [0.0, 5.0, 0.0], [7.0, 8.0, 9.0], [0.0, 0.0, 0.0]])
    found = newest.redistributed(before, np.array([0.75, 0.25, 0.5]), after)
    # (0.75 * 1 + 0.25 * 2) / 1 = 1.25 to the only one left; 4 to the only one left; nothing went;
    # nothing left.
    wanted = [[0, 0, 4.25], [0, 9, 0], [7, 8, 9], [0, 0, 0]]
    np.testing.assert_allclose(found, wanted)
    assert (newest.redistributed(before, np.zeros(3), after) == after).all()  # never fired


def test_weights_out_of_units_that_died_whole_go():
    before = {"d0": np.ones((2, 4)), "d1": np.ones((4, 3)), "d2": np.ones((3, 2))}
    before["d0"][0, 3] = 0  # unit 3 had lost a weight earlier
    model = network(
        [[1, 0, 1, 0], [1, 0, 1, 0]],  # units 1 and 3 have none left
        [[1, 0, 1], [1, 2, 3], [1, 0, 1], [1, 0, 1]],
        [[1, 1], [2, 2], [1, 1]],
        np.ones((2, 2)),  # the output layer
    )
    assert newest.cut_off(model, before) == pytest.approx(3 / (8 + 12 + 6))
    kernels = [layer.get_weights()[0] for layer in model.layers]
    assert kernels[0].tolist() == [[1, 0, 1, 0], [1, 0, 1, 0]]
    assert kernels[1].tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 1], [1, 0, 1]]
    # Unit 1 of d1 has nothing left only now.
    assert kernels[2].tolist() == [[1, 1], [2, 2], [1, 1]]
    assert newest.cut_off(model, dict(zip(before, kernels, strict=False))) == 0


def test_events_come_on_top_of_what_went_beside_them():
    def at(sparsity, beside):
        schedule = newest.OnTop(0.3, 0.6, 2, 0.9, beside=lambda: beside)
        now = ap.schedules.Progress(
            epoch=3, step=9, logs={"accuracy": 0.7}, sparsity=sparsity, epochs=9, weights=1000
        )
        return schedule(now)

    assert at(0.0, 0.0) == 0.5
    assert at(0.55, 0.05) == pytest.approx(0.95)  # the second event, though 0.55 is above 0.5
    assert at(0.95, 0.05) is None
    assert at(0.8, 0.3) == newest.MOST


def test_counts_are_those_of_few_images_at_each_epochs_end():
    x = np.array([[1.0], [-1.0]], "float32")
    images = newest.FewImages(x, 8, seed=0)
    images.set_model(network([[1.0, 2.0, -1.0]], np.ones((3, 1))))
    images.on_epoch_end(0)
    images.on_epoch_end(1)
    drawn = np.random.default_rng(0)
    positive = sum(int((drawn.choice(x, 8) > 0).sum()) for _ in range(2))
    assert images.samples == 16
    assert images.fired["d0"].tolist() == [positive, positive, 16 - positive]
    site = ap.sites.Site(
        "d0/kernel", "d0", np.ones((1, 3)), np.ones((1, 3), bool), np.array([[0, 1, 2]])
    )
    found = images.counting(ap.criteria.activation_magnitude)(site)
    np.testing.assert_allclose(found, np.array([[positive, positive, 16 - positive]]) / 16)


@pytest.mark.parametrize("more", [{"count_images": 32}, {"outgoing": True}, {"redistribute": True}])
def test_a_run_with_it_is_pruned_as_asked(more):
    result, _ = comparison.work(RUN | more)
    assert result["events_fired"] == 2
    if more != {"outgoing": True}:
        assert result["sparsity"] == pytest.approx(0.6, abs=1e-3)
    else:  # with 30 and 20 units, of which rarely active ones go whole
        assert 0.6 < result["sparsity"] < 0.9
        asked = [row["target_sparsity"] for row in result["events"]]
        assert result["sparsity"] >= asked[-1] - 1e-3
    assert bool(result["activity"]) is (more != {"count_images": 32})


def test_with_none_of_them_nothing_changes():
    """The callbacks alone, with no option that does anything, prune as the arm does."""
    plain, _ = comparison.work(RUN)
    same = arms.train(RUN, pruning=newest.pruning).result
    for name in ("history", "events", "test_loss", "warnings"):
        assert same[name] == plain[name]


def test_tfmot_as_published_prunes_to_its_last_step():
    plan = tfmot.whole_plan(samples=54_000, batch_size=32, epochs=2)
    assert plan == {"begin_step": 0, "end_step": 3376, "frequency": 100}
    assert tfmot.whole_plan(samples=10, batch_size=32, epochs=1)["frequency"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("steps_per_execution", [1, 8])
def test_tfmot_on_a_trained_network(steps_per_execution):
    pytest.importorskip("tensorflow_model_optimization")
    run = RUN | {"arm": "tfmot_trained", "events": 0, "pruning_epochs": 2, "sparsity": 0.8}
    run |= {"steps_per_execution": steps_per_execution}
    found, _ = comparison.work(run)
    assert found["sparsity"] == pytest.approx(0.8, abs=1e-4)
    assert [row["epoch"] for row in found["history"]] == list(range(1, found["epochs"] + 1))
    measured = [row["sparsity"] for row in found["history"]]
    assert measured[:-2] == [0] * (found["epochs"] - 2)  # trained before it is pruned
    assert 0 < measured[-2] < measured[-1]
    assert found["history"][-3]["train_accuracy"] > 0.8
