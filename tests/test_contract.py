"""What everything registered must do; a newcomer is tested on arrival."""

import dataclasses
import inspect

import keras
import models
import numpy as np
import pytest

import activation_pruning as ap
from activation_pruning import masks, sites
from activation_pruning.allocations import ALLOCATIONS
from activation_pruning.criteria import CRITERIA
from activation_pruning.evidence import gathering
from activation_pruning.evidence.statistic import STATISTICS
from activation_pruning.pruning import Event, Settings, report
from activation_pruning.schedules import SCHEDULES, Progress

GRANULARITIES = ["weight", "unit", (2, 2), "2:4"]
MODELS = {
    "functional": (models.functional, (6,)),
    "batch_norm": (models.normalised, (6,)),
    "nested": (models.nested, (6,)),
    "subclassed": (models.subclassed, (6,)),
    "convolutional": (models.convolutional, (8, 8, 2)),
    "one_dimensional": (models.one_dimensional, (8, 3)),
    "recurrent": (models.recurrent, (4, 3)),
    "attention": (models.attention, (4, 6)),
    "embedding": (models.embedded, (4,)),
    "shared": (models.shared, (6,)),
}


def site(name, shape, units, alive=1.0, scale=1.0, ties=False, seed=7):
    """A site of seeded weights; `alive` is the share of its mask that is True."""
    generator = np.random.default_rng(seed)
    kernel = (scale * generator.normal(size=shape)).astype("float32")
    if ties:
        kernel = np.sign(kernel)
    mask = generator.random(shape) < alive
    count = int(units.max()) + 1
    frequency = generator.integers(0, 101, count) / 100
    activity = sites.Activity(
        frequency=frequency, mean=generator.normal(size=count), rms=np.ones(count), samples=100
    )
    kernel = np.where(mask, kernel, 0)
    statistics = models.statistics(shape, count)
    return sites.Site(name, name, kernel, mask, units, 0, activity, statistics=statistics)


def _sites():
    return [
        site("dense", (8, 6), np.arange(6)[None]),
        site("pruned", (8, 6), np.arange(6)[None], alive=0.5, scale=3),
        site("lstm", (4, 20), np.tile(np.arange(5), 4)[None]),
        site("conv", (4, 3, 2, 4), np.arange(4)[None, None, None], ties=True),
        site("one_unit", (8, 1), np.zeros((1, 1), int), scale=5),
    ]


SITES = {one.name: one for one in _sites()}
SITES["zeros"] = dataclasses.replace(SITES["dense"], name="zeros", kernel=np.zeros((8, 6)))
NEEDS = set(STATISTICS)
ACTIVITY = {one.name for one in STATISTICS.values() if one.of == "activity"}


# -- criteria --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SITES)
@pytest.mark.parametrize("name", CRITERIA)
def test_criteria_score_every_weight(name, kind):
    one, criterion = SITES[kind], CRITERIA[name]
    before = one.kernel.copy()
    scores = criterion(one)
    assert scores.shape == one.kernel.shape
    assert scores.dtype.kind == "f"
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(criterion(one), scores)  # the same seed, the same scores
    np.testing.assert_array_equal(one.kernel, before)
    assert not np.shares_memory(scores, one.kernel)


@pytest.mark.parametrize("name", CRITERIA)
def test_criteria_declare_what_they_need(name):
    criterion = CRITERIA[name]
    assert criterion.__name__ == name
    assert criterion.needs <= NEEDS
    without = dataclasses.replace(SITES["dense"], activity=None, statistics={})
    if criterion.needs:
        with pytest.raises(ValueError, match=r"dense: .*needs"):
            criterion(without)
    whole = SITES["dense"]
    just = dataclasses.replace(
        whole,
        activity=dataclasses.replace(whole.activity, **dict.fromkeys(ACTIVITY - criterion.needs)),
        statistics={
            name: whole.statistics[name] for name in criterion.needs & set(whole.statistics)
        },
    )
    np.testing.assert_array_equal(criterion(just), criterion(whole))


# -- allocations and masks -------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.0, 0.4, 0.8])
@pytest.mark.parametrize("name", ALLOCATIONS)
def test_allocations_share_out_the_target(name, sparsity):
    group = [dataclasses.replace(one, mask=np.ones_like(one.mask)) for one in _sites()]
    grain = masks.granularity("weight")
    items = {one.name: grain.items(one, np.abs(one.kernel)) for one in group}
    counts = ALLOCATIONS[name](group, items, sparsity)
    assert list(counts) == [one.name for one in group]
    for one in group:
        assert counts[one.name] == int(counts[one.name])
        assert 0 <= counts[one.name] <= one.kernel.size
    budget = np.floor(sparsity * sum(one.kernel.size for one in group) + 0.5)
    assert abs(sum(counts.values()) - budget) <= len(group) / 2  # rounding, site by site


@pytest.mark.filterwarnings("ignore:target sparsity")
@pytest.mark.parametrize("grain", GRANULARITIES, ids=str)
@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_masks_are_monotone_within_budget_and_never_empty(criterion, allocation, grain):
    group = _sites()
    if grain == "2:4":  # along an input axis that 4 divides
        assert all(one.kernel.shape[one.input_axis] % 4 == 0 for one in group)
    total = sum(one.mask.size for one in group)
    for sparsity in (0.3, 0.5):
        scores = {one.name: CRITERIA[criterion](one) for one in group}
        before = sum(int((~one.mask).sum()) for one in group)
        found = masks.select(group, scores, sparsity, grain, allocation)
        after = sum(int((~mask).sum()) for mask in found.values())
        budget = int(np.floor(sparsity * total + 0.5))
        assert before <= after <= max(budget + len(group), before)
        if grain == "weight" and allocation in ("global", "distributed"):
            assert after == max(budget, before)
        for one in group:
            assert not (found[one.name] & ~one.mask).any()
            assert found[one.name].any()
        group = [
            dataclasses.replace(one, mask=found[one.name], kernel=one.kernel * found[one.name])
            for one in group
        ]


# -- schedules -------------------------------------------------------------------------------

ARGUMENTS = {
    "final_sparsity": 0.8,
    "at": 2,
    "begin": 1,
    "end": 7,
    "start": 0.5,
    "stop": 0.9,
    "events": 3,
    "amount": 0.5,
    "sparse": 2,
    "dense": 1,
}


def schedule(name, **more):
    """The schedule `name`, its times and levels from ARGUMENTS (add those of a newcomer)."""
    accepted = inspect.signature(SCHEDULES[name]).parameters
    return SCHEDULES[name](**{key: ARGUMENTS[key] for key in ARGUMENTS if key in accepted}, **more)


def run(one, epochs=10, steps=4):
    """The answers of a schedule that is asked as `PruningCallback` asks it."""
    sparsity, answers, events, since = 0.0, [], 0, []
    for step in range(epochs * steps + 1):
        if one.by == "epoch" and step % steps:
            continue
        epoch = step // steps
        logs = {"accuracy": min(0.1 * epoch, 1.0), "loss": 1.0} if step else {}
        since += [logs] if step and step % steps == 0 else []
        known = {"weights": 1000, "events": events, "since": tuple(since)}
        answer = one(Progress(epoch, step, logs, sparsity, epochs, steps, **known))
        answers.append(answer)
        if answer is not None:
            sparsity, events, since = max(sparsity, answer), events + 1, []
    return answers


@pytest.mark.parametrize("by", ["epoch", "step"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_answer_none_or_a_sparsity_which_rises_but_where_they_say_so(name, by):
    one = schedule(name)
    if "by" in {field.name for field in dataclasses.fields(one)}:
        one = schedule(name, by=by)
        assert one.by == by
    answers = run(one)
    given = [answer for answer in answers if answer is not None]
    assert given
    assert all(0 <= answer < 1 for answer in given)
    assert (given == sorted(given)) != one.releases
    assert given[-1] == pytest.approx(one.final_sparsity)
    assert run(one) == answers  # no state: a resumed run goes on where it was


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_say_when_a_fit_is_too_short(name):
    one = schedule(name)
    assert one.unreachable(epochs=10, steps_per_epoch=4) is None
    too_short = one.unreachable(epochs=0, steps_per_epoch=4)
    assert isinstance(too_short, str)
    assert type(one).__name__ in too_short


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_rebuilt_from_their_fields(name):
    one = schedule(name)
    assert type(one)(**{f.name: getattr(one, f.name) for f in dataclasses.fields(one)}) == one
    assert ap.schedules.get(one) is one
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.final_sparsity = 0.1
    with pytest.raises(ValueError, match=r"final_sparsity=1\.5"):
        dataclasses.replace(one, final_sparsity=1.5)


# -- every model kind ------------------------------------------------------------------------


def inputs_for(kind, shape):
    x, _ = models.data(shape)
    if kind == "embedding":
        return np.abs(x * 3).astype("int32") % 7
    return [x, x[::-1].copy()] if kind == "shared" else x


@pytest.fixture(scope="module")
def observed():
    """{kind: (model, its sites, their activity)}, counted once for all the combinations."""
    found = {}
    for kind, (make, shape) in MODELS.items():
        model = make()
        live = sites.find(model).sites
        found[kind] = model, live, gathering.observe(model, live, inputs_for(kind, shape))
    return found


@pytest.mark.filterwarnings("ignore:target sparsity")
@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("kind", MODELS)
def test_every_model_kind_with_every_criterion_and_allocation(
    observed, kind, criterion, allocation
):
    model, live, activity = observed[kind]
    event = Event(model, live, Settings(criterion, allocation))
    gathered = {
        one.name: gathering.Gathered(
            activity[one.name], models.statistics(tuple(one.variable.shape), one.n_units)
        )
        for one in live
    }
    chosen, _ = event.decide(0.6, gathered)
    weights = sum(mask.size for mask in event.masks.values())
    budget = np.floor(0.6 * weights + 0.5)
    pruned = sum(int((~mask).sum()) for mask in chosen.values())
    slack = 0 if allocation in ("global", "distributed") else len(live) / 2
    assert abs(pruned - budget) <= slack
    assert all(chosen[one.name].shape == tuple(one.variable.shape) for one in live)
    assert all(mask.any() for mask in chosen.values())


@pytest.mark.parametrize("kind", MODELS)
def test_every_model_kind_has_plausible_activity(observed, kind):
    _, live, activity = observed[kind]
    table = report.activity_table(live, activity)
    assert table["frequency"].between(0, 1).all()
    assert table["frequency"].nunique() > 1
    assert (table["rms"] >= table["mean"].abs() - 1e-6).all()
    calls = 2 if kind == "shared" else 1
    assert set(table["samples"]) == {22 * calls}


@pytest.mark.parametrize("kind", MODELS)
def test_every_model_kind_is_pruned_in_place_and_saved(kind, tmp_path):
    make, shape = MODELS[kind]
    model, x = make(), inputs_for(kind, shape)
    done = ap.prune(model, 0.5, "activation_magnitude", data=x)
    live = sites.find(model).sites
    weights = sum(one.kernel().size for one in live)
    zeros = sum(int((one.kernel() == 0).sum()) for one in live)
    assert zeros == np.floor(0.5 * weights + 0.5)
    assert done.sparsity == zeros / weights
    if kind == "subclassed":
        return  # its class would have to be registered; its weights are a plain file
    expected = np.asarray(model.predict(x, verbose=0))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), expected, rtol=1e-6, atol=1e-7)
