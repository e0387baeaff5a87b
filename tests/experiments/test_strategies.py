"""The experiments on strategies: tables of numbers known by hand; each in small, end to end."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import activation_pruning as ap

FOLDER = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(FOLDER))  # as when a script of that folder runs

tables = importlib.import_module("pruning_strategies_tables")
arms_report = importlib.import_module("lab.arms_report")
command_line = importlib.import_module("lab.command_line")
datasets = importlib.import_module("lab.datasets")
pruning_strategies = importlib.import_module("pruning_strategies")
lottery_ticket = importlib.import_module("lottery_ticket")
schedules_compared = importlib.import_module("schedules_compared")
layerwise_pruning = importlib.import_module("layerwise_pruning")


# -- tables of pruning_strategies ----------------------------------------------------------------


def trial(criterion, strategy, seed, points, retraining="2_epochs"):
    """points: {sparsity: test accuracy}."""
    curve = [
        {"step": i, "sparsity": s, "test_accuracy": a, "validation_accuracy": a, "metric_pruned": 0}
        | {"train_accuracy": 1.0, "weights_alive": 1}
        for i, (s, a) in enumerate(points.items())
    ]
    kept = [row for row in curve if row["sparsity"] >= 0.5]
    most = max(kept, key=lambda row: row["validation_accuracy"], default=None)
    settings = {"criterion": criterion, "strategy": strategy, "retraining": retraining}
    result = {"curve": curve, "smallest": None, "most_accurate": most, "epochs": 2}
    return {"settings": settings | {"seed": seed}, "result": result}


def test_accuracies_between_steps_lie_on_the_line_over_the_logarithm_of_what_is_alive():
    # alive: 1, 0.2, 0.05; 0.1 lies in the middle of 0.2 and 0.05 by their logarithms
    points = tables.curves([trial("obd", "iterative_50", 0, {0.0: 0.9, 0.8: 0.8, 0.95: 0.6})])
    found = tables.at_levels(points).set_index("level")["test_accuracy"]
    assert found.index.tolist() == [0.8, 0.85, 0.9, 0.95]
    assert found[0.8] == pytest.approx(0.8)
    assert found[0.9] == pytest.approx(0.7)
    assert found[0.95] == pytest.approx(0.6)


def test_a_single_step_stands_for_its_own_sparsity_only():
    points = tables.curves([trial("obd", "single_90", 0, {0.0: 0.95, 0.9: 0.8})])
    assert tables.at_levels(points)[["level", "test_accuracy"]].values.tolist() == [[0.9, 0.8]]


def differences(iterative, fixed, single):
    """What is compared when three seeds of each kind end at these accuracies."""
    noise = np.array([0.0, 0.002, 0.005])
    records = []
    for seed in range(3):
        for criterion in ("class_blind", "obd"):
            for strategy, accuracy in (
                ("iterative_50", iterative), ("fixed_1000", fixed), ("single_80", single)
            ):  # fmt: skip
                # The seeds differ by more than the kinds, but pairs do not.
                value = accuracy + 0.1 * seed + noise[seed] * (strategy == "fixed_1000")
                ends = {0.0: 0.9, 0.8: value}
                if strategy != "single_80":
                    ends[0.99] = value
                records.append(trial(criterion, strategy, seed, ends))
    points = tables.curves(records)
    return tables.compared(tables.at_levels(points), tables.best(records), pd.DataFrame())


def test_findings_are_judged_by_pairs_of_seeds():
    found = differences(iterative=0.5, fixed=0.4, single=0.3)
    first = found[found["finding"] == 1]
    assert first["level"].fillna(0).tolist() == [0, 0.95, 0.98, 0.99]  # 0: the mean over the others
    assert first["pairs"].unique().tolist() == [3]
    assert first["accuracy_difference"].to_numpy() == pytest.approx(0.1 - 0.007 / 3)
    # One question, three levels: corrected apart.
    assert (first["p_holm"] / first["p"]).to_numpy() == pytest.approx([1, 3, 3, 3])
    told = tables.answers(found)
    assert told[0].startswith("1. Published: iterative pruning is best at high compression. Here: ")
    assert "Here: confirmed." in told[0]
    assert "Here: in part" in told[1]  # fixed is above single, below iterative
    assert "Here: not tried: it takes class_blind" in told[3]
    told = tables.answers(differences(iterative=0.3, fixed=0.4, single=0.5))
    assert "refuted: it is the other way round" in told[0]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["higher", "higher"], "confirmed"),
        (["lower", "lower"], "refuted: it is the other way round"),
        (["not told apart", "too few seeds to tell"], "not told apart"),
        (["too few seeds to tell"] * 2, "too few seeds to tell"),
        (["higher", "lower", "not told apart"], "in part (1 of 3 comparisons agree, 1 say the"),
        (["higher", "not told apart"], "in part (1 of 2 comparisons agree, 0 say the"),
    ],
)
def test_a_verdict_over_several_comparisons(verdicts, expected):
    assert tables.verdict(pd.Series(verdicts), "higher").startswith(expected)


def test_a_way_is_represented_by_the_strength_that_validates_best():
    def other(arm, strength, seed, accuracies):
        history = [
            {"validation_accuracy": v, "test_accuracy": t, "train_accuracy": 1.0}
            for v, t in accuracies
        ]
        settings = {"criterion": arm, "strategy": "none", "retraining": "none", "seed": seed}
        return {
            "settings": settings | {"strength": strength},
            "result": {"history": history, "epochs": len(history)},
        }

    records = [
        other("l2", 0.1, 0, [(0.5, 0.9), (0.6, 0.4)]),  # validates worse, tests better
        other("l2", 0.2, 0, [(0.7, 0.5), (0.65, 0.8)]),
        other("l2", 0.3, 0, [(0.7, 0.1), (0.65, 0.1)]),  # equal: the one listed first
        trial("class_blind", "iterative_50", 0, {0.0: 0.9, 0.5: 0.8}),
        trial("class_blind", "iterative_25", 0, {0.0: 0.9, 0.5: 0.8}),  # other epochs: left out
    ]
    found = tables.others(records).set_index("way")
    assert found.index.tolist() == ["l2", "pruned"]
    row = found.loc["l2"]
    assert (row["strength"], row["test_accuracy"], row["accuracy_gap"]) == ("0.2", 0.5, 0.5)
    assert (row["final_accuracy_gap"], row["highest_test_accuracy"]) == (pytest.approx(0.2), 0.8)


# -- arms at settings ------------------------------------------------------------------------


def test_ranks_are_of_whole_blocks_and_told_with_what_they_are_worth():
    runs = pd.DataFrame({"arm": list("ababa"), "seed": [0, 0, 1, 1, 2], "target_sparsity": 0.5})
    runs["test_accuracy"] = [0.9, 0.8, 0.9, 0.8, 0.7]
    found = arms_report.tables(runs, ["target_sparsity"], "b", [])
    assert found["Ranks"]["blocks"].tolist() == [2, 2]  # seed 2 has no b
    assert found["Ranks"]["mean_rank"].tolist() == [1.0, 2.0]
    assert "too few to tell any two apart: a 1.00, b 2.00" in arms_report.ranked(found["Ranks"])
    assert found["Differences"]["pairs"].tolist() == [2]


def test_groups_that_are_not_told_apart_are_named():
    ranks = pd.DataFrame(
        {"arm": list("abc"), "mean_rank": [1.0, 2.0, 3.0], "blocks": 9, "enough": True}
    )
    told = arms_report.ranked(ranks.assign(groups=["a", "ab", "b"]))
    assert told.endswith("Not told apart: a, b; b, c.")
    assert arms_report.ranked(ranks.assign(groups=list("abc"))).endswith("Any two are told apart.")


# -- end to end, in small --------------------------------------------------------------------


def run(experiment, tmp_path, monkeypatch, *arguments):
    """The records of an experiment whose trials run here, one after the other, and its folder."""
    monkeypatch.setenv("ACTIVATION_PRUNING_NETWORKS", str(tmp_path / "networks"))
    parsers = []
    monkeypatch.setattr(
        experiment.study, "run", lambda parser, given, *rest, **more: parsers.append(parser)
    )
    experiment.main([])
    options = parsers[0].parse_args(["--out", str(tmp_path), *arguments])
    fingerprint = datasets.fingerprint(datasets.load("digits"))
    settings = experiment.grid(options, fingerprint)
    found = [{"name": "", "settings": s, "result": experiment.work(s)[0]} for s in settings]
    assert all(isinstance(experiment.describe(record["result"]), str) for record in found)
    return found, vars(options)


SMALL = ("--hidden", "12", "--images", "200")


@pytest.mark.slow
def test_pruning_strategies(tmp_path, monkeypatch):
    more = ("--strategies", "single_80", "fixed_1000", "--arms", "class_blind", "lobs")
    more += ("--retraining", "2_epochs", "--epochs", "2", "--calibration", "100", "--seeds", "1")
    with_damping = ap.surgeons.LayerwiseOBS(damping=0.1)  # a hundred images are few
    strategies = importlib.import_module("pruning_strategies_trial")
    monkeypatch.setitem(strategies.CRITERIA, "lobs", strategies.Criterion(with_damping, looks=True))
    few = {"plain": (0.0,), "dropout": (0.5,), "early_stopping": (0.0,)}
    monkeypatch.setattr(importlib.import_module("pruning_strategies_regularised"), "ARMS", few)
    monkeypatch.setattr(importlib.import_module("pruning_strategies_regularised"), "MORE_EPOCHS", 2)
    records, options = run(pruning_strategies, tmp_path, monkeypatch, *SMALL, *more)
    pruned = [r["result"] for r in records if "curve" in r["result"]]
    assert len(records) == 3 + 4
    weights = 64 * 12 + 12 * 10
    assert [row["weights_alive"] for row in pruned[0]["curve"]] == [weights, weights - 710]
    assert {row["test_accuracy"] for row in pruned[0]["curve"]} <= {i / 360 for i in range(361)}
    assert [row["weights_alive"] for row in pruned[2]["curve"]] == [weights, 500]  # one is tried
    plain = next(r["result"] for r in records if r["settings"]["criterion"] == "plain")
    assert len(plain["history"]) == 4
    importlib.import_module("pruning_strategies_report").publish(records, tmp_path, options)
    assert (tmp_path / "pruning_strategies.xlsx").exists()
    assert (tmp_path / "pruning_strategies.html").exists()


@pytest.mark.slow
def test_lottery_ticket(tmp_path, monkeypatch):
    more = ("--rounds", "2", "--every", "1", "--epochs", "2", "--seeds", "1")
    records, options = run(lottery_ticket, tmp_path, monkeypatch, *SMALL, *more)
    for record in records:
        points = record["result"]["points"]
        assert [p["sparsity"] for p in points] == pytest.approx([0, 0.2, 0.36], abs=1e-3)
    by_arm = {r["settings"]["arm"]: r["result"]["points"] for r in records}
    # The same chain up to where the arms part.
    assert by_arm["rewind_0"][0]["test_accuracy"] == by_arm["random_masks"][0]["test_accuracy"]
    assert by_arm["rewind_0"][1] != by_arm["random_masks"][1]
    lottery_ticket.publish(records, tmp_path, options)
    assert (tmp_path / "lottery_ticket.png").exists()


@pytest.mark.parametrize(
    ("experiment", "options", "message"),
    [
        (lottery_ticket, "--rewind 2 --epochs 2", "--rewind 2 is not before the end, --epochs 2"),
        (lottery_ticket, "--rounds 2 --every 4", "--every 4 is above --rounds 2: nothing would"),
        (schedules_compared, "--epochs 23", "--epochs 23: 6 events, .* give 24 or more"),
        (schedules_compared, "--start 0.9 --stop 0.8", r"--start 0\.9 is above --stop 0\.8"),
        (layerwise_pruning, "--epochs 3", "--frequency 2: no event fits into the first half"),
    ],
)
def test_what_cannot_come_out_right_is_refused_before_training(
    tmp_path, monkeypatch, experiment, options, message
):
    with pytest.raises(ValueError, match=message):
        run(experiment, tmp_path, monkeypatch, *options.split())


def test_schedules_end_at_half_of_the_epochs():
    settings = {"sparsity": 0.8, "start": 0.8, "stop": 0.9}
    for epochs in (24, 40, 60):
        flat = schedules_compared.schedule(settings | {"arm": "when_flat", "epochs": epochs})
        assert 2 <= flat.retrain.at_most <= epochs // 2 / schedules_compared.PARTS


def test_nothing_to_compare_is_said(tmp_path, capsys):
    nothing = pd.DataFrame(columns=["arm", "seed", "target_sparsity", "test_accuracy"])
    more = {"name": "n", "title": "t", "baseline": "a", "told": ["by_accuracy: 2 trials ended at"]}
    arms_report.compared(nothing, **more).write(tmp_path, nothing)
    said = capsys.readouterr().out
    assert "by_accuracy: 2 trials ended at\nNothing to compare" in said
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_schedules_compared(tmp_path, monkeypatch):
    more = ("--sparsities", "0.8", "--epochs", "24", "--seeds", "1")
    more += (
        "--arms",
        "before_training",
        "polynomial",
        "when_flat",
        "by_accuracy",
        "--stop",
        "0.99",
    )
    records, options = run(schedules_compared, tmp_path, monkeypatch, *SMALL, *more)
    ends = {r["settings"]["arm"]: r["result"]["sparsity"] for r in records}
    reached = {arm for arm, sparsity in ends.items() if sparsity == pytest.approx(0.8, abs=1e-3)}
    assert reached == {"before_training", "polynomial", "when_flat"}
    schedules_compared.publish(records, tmp_path, options)
    book = pd.read_excel(tmp_path / "schedules_compared.xlsx", "Findings")
    assert "by_accuracy at 80%: 1 trial(s) ended at less" in book["finding"].iloc[0]


@pytest.mark.slow
def test_layerwise_pruning(tmp_path, monkeypatch):
    more = ("--hidden", "12", "10", "--deviations", "0.5", "--epochs", "8", "--seeds", "1")
    more += ("--arms", "activation-in_turn_kept", "random-in_turn_kept")
    records, options = run(layerwise_pruning, tmp_path, monkeypatch, *SMALL[2:], *more)
    one, other = (record["result"] for record in records)
    assert one["sparsity"] > 0
    # as many units of each layer, but other ones
    assert [row["pruned"] for row in one["layers"]] == [row["pruned"] for row in other["layers"]]
    assert one["test_accuracy"] != other["test_accuracy"]
    assert one["parameters"] == other["parameters"] < one["parameters_before"]
    layerwise_pruning.publish(records, tmp_path, options)
    assert (tmp_path / "layerwise_pruning.html").exists()
