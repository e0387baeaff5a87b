"""The files of pruning_strategies: tables, answers to six published findings, pictures."""

from pathlib import Path

import pruning_strategies_tables as tables
from pruning_strategies_tables import HIGH, METRIC

from activation_pruning.reports import figures, statistics, workbook
from lab import arms_report, publication, words
from lab.publication import Picture

NAME = "pruning_strategies"
ABOUT = (
    "Mean test accuracy over the seeds at sparsities that all strategies pass (between two steps "
    "on the straight line over the logarithm of the weights alive); _ci95 is the half-width of the "
    "95 % t-interval."
)
PANELS = {"2_epochs": "2 epochs after each step"}
PANELS |= {"variable": "after each step until accuracy is flat"}
PICTURES = (NAME, "criteria", "criteria_closeup", "ranks_strategy", "ranks_criterion")
PICTURES += ("regularisers", "regularisers_gap")
LEFT_OUT = {"strategy": ("criterion", "random"), "criterion": ("kind", "single")}  # of the means
CURVES = {"Strategies": "strategy", "Criteria": "criterion"}  # sheets
CLOSE = 0.1  # the close-up shows criteria that are never further below the best


@publication.publishing
def publish(records: list[dict], out: Path, options: dict) -> publication.Publication:
    """What there is to show."""
    points, interest = tables.curves(records), tables.best(records)
    levels, ways = tables.at_levels(points), tables.others(records)
    differences = tables.compared(levels, interest, ways)
    ranks = _ranks(levels)
    keys = ["criterion", "strategy", "retraining"]
    numbers = ["sparsity", "weights_alive", METRIC, "epochs_total", "time_total_s"]
    sheets = {
        "Levels": statistics.summary(levels, [*keys, "level"], [METRIC]),
        "Differences": differences,
        "Networks of interest": statistics.summary(interest, ["which", *keys], numbers),
        "Regularisers": _regularisers(ways),
        **{
            sheet: statistics.summary(_means(levels, by), [by, "retraining", "level"], [METRIC])
            for sheet, by in CURVES.items()
        },
        **{f"Ranks of {name}": table for name, table in ranks.items()},
        "Steps": points,
        "Warnings": publication.warnings_table(records),
    }
    findings = [*tables.answers(differences), *_interest(interest)]
    findings += [f"{name}: {arms_report.ranked(table, by)}" for name, by, table in _named(ranks)]
    return publication.Publication(
        name=NAME,
        title="Pruning strategies",
        findings=findings + words.family(differences),
        about=ABOUT,
        tables=sheets,
        charts=[
            workbook.Chart(sheet, "level", METRIC, by, panel="retraining")
            for sheet, by in CURVES.items()
        ],
        pictures=_pictures(levels, ways, ranks),
        on_page=("Differences", "Networks of interest", "Regularisers"),
    )


def _means(levels, by):
    """Accuracy at each level by seed, of strategies over criteria or the other way round."""
    column, without = LEFT_OUT[by]
    rows = levels[levels[column] != without].groupby(
        [by, "retraining", "level", "seed"], sort=False
    )
    return rows[METRIC].mean().reset_index()


def _regularisers(ways):
    numbers = [METRIC, "accuracy_gap", "final_accuracy_gap", "highest_test_accuracy", "epochs"]
    return statistics.summary(ways, ["way", "strength"], numbers) if len(ways) else ways


def _ranks(levels):
    """Mean ranks of strategies and of criteria, over seeds, levels and the other one."""
    found = {}
    for by, other in (("strategy", "criterion"), ("criterion", "strategy")):
        rows = levels[(levels["kind"] != "single") & (levels["level"] >= HIGH)]
        means = rows.groupby([by, other, "level", "seed"], sort=False)[METRIC].mean().reset_index()
        blocks = [other, "level", "seed"]
        whole = means.groupby(blocks)[by].transform("nunique") == means[by].nunique()
        if means[by].nunique() > 1 and whole.any():
            found[by] = statistics.ranks(means[whole], METRIC, by, blocks)
    return found


def _named(ranks):
    for by, table in ranks.items():
        yield f"By {by}, at {HIGH:.0%} sparsity and more", by, table


def _interest(interest):
    """How small within a point, how accurate at half: the best of each kind, in words.

    Only what all seeds came to counts. The most accurate are chosen by validation accuracy.
    """
    if interest.empty:
        return []
    lines = []
    keys = ["criterion", "strategy", "retraining"]
    seeds = interest["seed"].nunique()
    for which, metric, by, place in (
        ("smallest", "weights_alive", "weights_alive", "idxmin"),
        ("most_accurate", METRIC, "validation_accuracy", "idxmax"),
    ):
        rows = interest[interest["which"] == which].groupby(["kind", *keys])
        means = rows[list({metric, by})].mean()[rows["seed"].nunique() == seeds].reset_index()
        if means.empty:
            continue
        places = means.groupby("kind")[by].agg(place)
        told = "; ".join(
            f"{row['kind']}: {_number(row[metric])} ({row['criterion']}, {row['strategy']}, "
            f"{row['retraining']})"
            for row in means.loc[places].to_dict("records")
        )
        said = {
            "smallest": "Fewest weights within one point of the dense validation accuracy",
            "most_accurate": "Test accuracy of what validates best with half of the weights",
        }[which]
        lines.append(f"{said}, mean over the seeds, the best of each kind: {told}.")
    return lines


def _number(value):
    return f"{value:.2%}" if value <= 1 else f"{value:,.0f} weights"


def _pictures(levels, ways, ranks):
    pictures = dict.fromkeys(PICTURES)
    criteria, title = _means(levels, "criterion"), "Criteria, mean over the strategies"
    far = _far(criteria)
    close = criteria[~criteria["criterion"].isin(far)] if far else criteria[:0]
    for name, by, means, drawn, told in (
        (NAME, "strategy", _means(levels, "strategy"),
         "Strategies, mean over the criteria", "Random pruning is left out."),
        ("criteria", "criterion", criteria, title, ""),
        ("criteria_closeup", "criterion", close, f"{title}, close",
         f"Left out, since far below: {', '.join(far)}."),
    ):  # fmt: skip
        if len(means):
            shown = means.assign(
                compression=1 / (1 - means["level"]),
                retraining=means["retraining"].map(PANELS).fillna(means["retraining"]),
            )
            figure = figures.mean_curves(
                shown, "compression", METRIC, by, "retraining", drawn,
                x_label="compression (weights / weights alive)", log=True,
            )  # fmt: skip
            pictures[name] = Picture(drawn, figure, told)
    for by, table in ranks.items():
        title = f"Mean ranks by {by}, at {HIGH:.0%} sparsity and more"
        figure = figures.ranking(table, by, title)
        pictures[f"ranks_{by}"] = Picture(title, figure, "1 is the best.")
    if len(ways):
        pictures |= _of_ways(ways)
    return pictures


def _far(criteria):
    """The criteria that fall far below the best at some level."""
    means = criteria.pivot_table(METRIC, "criterion", ["retraining", "level"], sort=False)
    return list(means.index[(means.max() - means > CLOSE).any(axis=1)])


def _of_ways(ways):
    """Test accuracy and gap of each way against overfitting, at two moments of the training."""
    pictures, gap = {}, "Training less test accuracy"
    accuracy = "Test accuracy: pruning and other ways against overfitting"
    for name, value, other, moment, title in (
        ("regularisers", METRIC, "highest_test_accuracy", "highest", accuracy),
        ("regularisers_gap", "accuracy_gap", "final_accuracy_gap", "last epoch", gap),
    ):
        moments = {value: "validates best", other: moment}
        long = ways[["way", "seed", *moments]].rename(columns=moments)
        long = long.melt(["way", "seed"], list(moments.values()), "epoch", value)
        figure = figures.mean_dots(long, value, "epoch", "way", title=title)
        pictures[name] = Picture(title, figure)
    return pictures
