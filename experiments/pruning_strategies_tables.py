"""From trials of pruning strategies to tables, and to answers in words."""

import numpy as np
import pandas as pd
import pruning_strategies_regularised as regularised
from pruning_strategies_trial import CRITERIA, kind

from activation_pruning.reports import statistics
from lab import words
from lab.differences import METRIC, NAMED, means_over_settings

TRIAL = ["criterion", "strategy", "retraining", "seed"]
LEVELS = (0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
HIGH = 0.95  # from here on compression is called high
PRUNED = "pruned"  # among the regularisers: class-blind, 2 epochs after each step
BESIDE = ["class_uniform", "class_distributed"]  # other magnitude variants than class-blind
SAME_EPOCHS = ("iterative_50", "iterative_75", "fixed_10000")  # no more epochs than they have


def curves(records: list[dict]) -> pd.DataFrame:
    """One row per trial and step: settings, kind of the strategy, what was measured."""
    parts = [
        pd.DataFrame(record["result"]["curve"]).assign(**_trial(record))
        for record in records
        if "curve" in record["result"]
    ]
    if not parts:
        return pd.DataFrame(columns=[*TRIAL, "kind"])
    names = {"metric_pruned": "before_retraining"}
    table = pd.concat(parts, ignore_index=True).rename(columns=names)
    front = [*TRIAL, "kind"]
    return table[front + [name for name in table.columns if name not in front]]


def at_levels(points: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy of each trial at sparsities that all can be compared at.

    Between two steps it is taken on the straight line over the logarithm of the weights alive;
    nothing is taken from beyond the last step. The last level is that of the smallest networks.
    """
    rows = []
    for trial, own in points.groupby(TRIAL, sort=False):
        own = own.sort_values("step")
        known = -np.log(1 - own["sparsity"].to_numpy())
        last = own["sparsity"].iloc[-1]
        single = kind(trial[1]) == "single"
        for level in dict.fromkeys([*LEVELS, _end(points)]):
            if level > last + 1e-6 or (single and abs(level - last) > 1e-3):
                continue  # a single step has one point; there is no line to it
            accuracy = np.interp(-np.log(1 - min(level, last)), known, own[METRIC])
            found = dict(zip(TRIAL, trial, strict=True)) | {"kind": kind(trial[1])}
            rows.append(found | {"level": level, METRIC: float(accuracy)})
    return pd.DataFrame(rows, columns=[*TRIAL, "kind", "level", METRIC])


def _end(points):
    """The sparsity that strategies go down to."""
    return round(float(points.groupby(TRIAL)["sparsity"].max().max()), 4)


def best(records: list[dict]) -> pd.DataFrame:
    """One row per trial and network of interest: smallest within a point, most accurate at half."""
    rows = [
        _trial(record) | {"which": which} | record["result"][which]
        for record in records
        for which in ("smallest", "most_accurate")
        if record["result"].get(which)
    ]
    return pd.DataFrame(rows)


def others(records: list[dict]) -> pd.DataFrame:
    """One row per way against overfitting and seed: test accuracy, gap between training and test.

    Of each way the strength (of pruning: the strategy) with the best mean validation accuracy; of
    each training the epoch (of pruning: the step) with the best validation accuracy.
    `final_accuracy_gap` is that of the last epoch or step.
    """
    rows = []
    for record in records:
        settings, result = record["settings"], record["result"]
        if settings["criterion"] in regularised.ARMS:
            history = pd.DataFrame(result["history"])
            found = {"way": settings["criterion"], "strength": f"{settings['strength']:g}"}
        elif _same_epochs(settings):
            history = pd.DataFrame(result["curve"][1:])
            found = {"way": PRUNED, "strength": settings["strategy"]}
        else:
            continue
        chosen, last = history.loc[history["validation_accuracy"].idxmax()], history.iloc[-1]
        found |= {"seed": settings["seed"], METRIC: chosen[METRIC]}
        found |= {"validation_accuracy": chosen["validation_accuracy"]}
        found |= {"accuracy_gap": chosen["train_accuracy"] - chosen[METRIC]}
        found |= {"final_accuracy_gap": last["train_accuracy"] - last[METRIC]}
        found |= {"epochs": result["epochs"], "highest_test_accuracy": history[METRIC].max()}
        rows.append(found)
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    means = table.groupby(["way", "strength"], sort=False)["validation_accuracy"].mean()
    # Of equals the one listed first, the weakest.
    chosen = means.groupby("way", sort=False).idxmax()
    return table.set_index(["way", "strength"]).loc[list(chosen)].reset_index()


def _same_epochs(settings):
    asked = settings["criterion"], settings["retraining"]
    return asked == ("class_blind", "2_epochs") and settings["strategy"] in SAME_EPOCHS


# -- the six findings --------------------------------------------------------------------------


def compared(levels: pd.DataFrame, interest: pd.DataFrame, ways: pd.DataFrame) -> pd.DataFrame:
    """All paired differences that the findings are judged by, with the question they belong to.

    Where there are several levels or strategies, the mean over those that both have is what judges
    (level and strategy empty); each of them stands beside it.

    Trials are averaged first over what is not compared (criteria, strategies, retraining), so that
    a pair is a seed. Random pruning is left out but where it is named.
    """
    tables = [
        _pairs(table, by, first, second, more, metric).assign(finding=finding)
        for finding, table, by, firsts, seconds, more, metric in _questions(levels, interest, ways)
        for first in firsts
        for second in seconds
    ]
    tables = [table for table in tables if len(table)]
    columns = ["finding", "measure", "first", "second", "level", "strategy"]
    columns += statistics.columns(NAMED)
    if not tables:
        return pd.DataFrame(columns=columns)
    whole = pd.concat(tables, ignore_index=True).reindex(columns=columns[:-2])
    whole = statistics.one_kind(whole, NAMED)
    # Each finding is a question of its own: corrected for the comparisons that answer it, and
    # apart from these for the single levels and strategies.
    parts = whole.groupby(["finding", _overall(whole)], sort=False)
    judged = [statistics.holm(rows, NAMED) for _, rows in parts]
    return pd.concat(judged, ignore_index=True)[columns]


def _questions(levels, interest, ways):
    chosen = levels[levels["criterion"] != "random"]
    kinds = _means(chosen, "kind", ["level"])
    high = kinds[kinds["level"] >= HIGH]
    criteria = _means(levels, "criterion", ["level"])
    steps = _means(levels, "criterion", ["strategy"])
    accurate = interest[interest["which"] == "most_accurate"] if len(interest) else interest
    pruning = [name for name in CRITERIA if name != "random"]
    return [  # finding, table, column, firsts, seconds, settings, metric
        (1, high, "kind", ["iterative"], ["fixed"], ["level"], METRIC),
        (2, _most(accurate), "kind", ["fixed"], ["iterative", "single"], [], METRIC),
        (3, kinds, "kind", ["single"], ["iterative", "fixed"], ["level"], METRIC),
        (4, criteria, "criterion", ["class_blind"], BESIDE, ["level"], METRIC),
        (5, steps, "criterion", ["obd"], ["class_blind"], ["strategy"], METRIC),
        (6, ways, "way", [PRUNED], regularised.ARMS, [], METRIC),
        (6, ways, "way", [PRUNED], regularised.ARMS, [], "accuracy_gap"),
        (7, criteria, "criterion", pruning, ["random"], ["level"], METRIC),
    ]


def _means(table, by, more):
    return table.groupby([by, *more, "seed"], sort=False)[METRIC].mean().reset_index()


def _most(accurate):
    """Of each kind and criterion the network that validates best, averaged over the criteria."""
    if accurate.empty:
        return pd.DataFrame(columns=["kind", "seed", METRIC])
    accurate = accurate[accurate["criterion"] != "random"]
    key = ["kind", "criterion", "seed"]
    rows = accurate.loc[accurate.groupby(key)["validation_accuracy"].idxmax()]
    return _means(rows, "kind", [])


def _pairs(table, by, first, second, more, metric):
    if table.empty:
        return table
    one, other = (table[table[by] == name] for name in (first, second))
    found = statistics.differences(one, other, ["seed", *more], more, metric, NAMED)
    if more and len(found):
        *means, _ = means_over_settings(one, other, more)
        found = pd.concat([statistics.differences(*means, ["seed"], [], metric, NAMED), found])
    return found.assign(measure=metric, first=first, second=second)


def _overall(rows):
    """Which rows are means over levels and strategies."""
    return rows["level"].isna() & rows["strategy"].isna()


FINDINGS = {
    1: ("iterative pruning is best at high compression", "higher"),
    2: ("a fixed number at a time gives the most accurate networks", "higher"),
    3: ("a single step is worst", "lower"),
    4: ("class-blind clearly beats the other magnitude variants", "higher"),
    5: ("OBD is about equal to class-blind, and falls behind with many steps", None),
    6: ("pruning beats other regularisers against overfitting", "higher"),
}


NEEDED = {
    1: f"iterative and fixed strategies that go to {HIGH:.0%} sparsity",
    2: "iterative, fixed and single strategies that leave half of the weights or fewer",
    3: "single strategies, and others that pass their sparsities",
    4: "class_blind, class_uniform and class_distributed",
    5: "obd and class_blind",
    6: f"class_blind with 2_epochs by one of {', '.join(SAME_EPOCHS)}, and the other ways",
}


def answers(differences: pd.DataFrame) -> list[str]:
    """Each published finding with what the numbers say of it, whoever is right."""
    return [
        f"{number}. Published: {text}. Here: {_answer(differences, number, expected)}"
        for number, (text, expected) in FINDINGS.items()
    ]


def _answer(differences, number, expected):
    rows = differences[differences["finding"] == number]
    if rows.empty:
        return f"not tried: it takes {NEEDED[number]}."
    pair = ["measure", "first", "second"]
    told = "; ".join(
        f"{measure.replace('_', ' ')} of {first} less {second}: {_spread(own)}"
        for (measure, first, second), own in rows.groupby(pair, sort=False)
    )
    if expected is None:
        return f"{told[0].upper()}{told[1:]}."
    judging = rows[_overall(rows) & (rows["measure"] == METRIC)]
    return f"{verdict(judging['verdict'], expected)}. {told[0].upper()}{told[1:]}."


def verdict(verdicts: pd.Series, expected: str) -> str:
    """confirmed, refuted, in part, not told apart, or too few seeds: by all comparisons."""
    against = statistics.LOWER if expected == statistics.HIGHER else statistics.HIGHER
    yes, no = (verdicts == expected).sum(), (verdicts == against).sum()
    if yes == len(verdicts):
        return "confirmed"
    if no == len(verdicts):
        return "refuted: it is the other way round"
    if not yes and not no:
        return statistics.FEW if (verdicts == statistics.FEW).all() else statistics.ALIKE
    return f"in part ({yes} of {len(verdicts)} comparisons agree, {no} say the opposite)"


def _spread(rows):
    """The mean difference in points with its verdict; then that at each level or strategy."""
    whole, parts = rows[_overall(rows)].iloc[0], []
    for row in rows[~_overall(rows)].to_dict("records"):
        level = row["level"]
        place = f"with {row['strategy']}" if pd.isna(level) else f"at {100 * level:.4g} %"
        told = "" if row["verdict"] == statistics.ALIKE else f" ({row['verdict']})"
        parts.append(f"{100 * row[NAMED]:+.2f} {place}{told}")
    told = f"{100 * whole[NAMED]:+.2f} points, {words.interval(whole, NAMED, 100)}, "
    return f"{told}{whole['verdict']}" + (f" [{', '.join(parts)}]" if parts else "")


def _trial(record):
    settings = record["settings"]
    return {name: settings[name] for name in TRIAL} | {"kind": kind(settings["strategy"])}
