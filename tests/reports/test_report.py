"""The report of one pruning: its front sheet, its tables by layer, its files."""

from types import SimpleNamespace

import numpy as np
import openpyxl
import pandas as pd
import pytest

from activation_pruning import reports
from activation_pruning.reports import overview

pytestmark = pytest.mark.lowest

LAYERS = {"a": 100, "b": 50}


def events():
    shares = {1: {"a": 0.4, "b": 0.2}, 2: {"a": 0.9, "b": 0.6}}
    rows = [
        {"event": event, "epoch": 2 * event, "layer": layer, "site": f"{layer}/kernel"}
        | {"sparsity": share, "pruned": int(share * LAYERS[layer]), "weights": LAYERS[layer]}
        for event, by_layer in shares.items()
        for layer, share in by_layer.items()
    ]
    return pd.DataFrame(rows)


def norms():
    """Both layers have full rank 10 before, a falls to 4 and b to 9; an epoch ends it."""
    rows = []
    for moment, event, ranks in (
        ("epoch", 0, (10, 10)), ("before", 1, (10, 10)), ("after", 1, (6, 10)),
        ("before", 2, (6, 10)), ("after", 2, (4, 9)), ("epoch", 2, (4, 9)),
    ):  # fmt: skip
        for layer, rank in zip(LAYERS, ranks, strict=True):
            rows.append(
                {"moment": moment, "event": event, "site": f"{layer}/kernel", "blocks": 1}
                | {"rows": 20, "columns": 10, "rank": rank, "effective_rank": rank * 0.5}
                | {"nuclear": 2.0 * rank}
            )
    return pd.DataFrame(rows)


def spectra():
    parts = [
        pd.DataFrame({"index": [1, 2], "value": [2.0, 1.0 / (1 + row["event"])]}).assign(
            **{name: row[name] for name in ("moment", "event", "site")}
        )
        for row in norms().to_dict("records")
    ]
    return pd.concat(parts, ignore_index=True)


def history():
    return {
        "accuracy": [0.5, 0.7, 0.8, 0.85, 0.86],
        "val_accuracy": [0.4, 0.6, 0.7, 0.75, 0.65],
        "sparsity": [0.0, 0.3, 0.3, 0.8, 0.8],
    }


def sensitivity():
    rows = [
        {"layer": layer, "site": f"{layer}/kernel", "criterion": criterion, "metric": "accuracy"}
        | {"sparsity": sparsity, "value": 0.9 + change, "change": change}
        for criterion in ("magnitude", "random")
        for layer, last in (("a", -0.1), ("b", -0.3))
        for sparsity, change in ((0.5, 0.0), (0.9, last))
    ]
    return pd.DataFrame(rows)


def low_rank():
    models = ("dense", "pruned", "low_rank")
    accuracy = pd.DataFrame(
        {"model": [*models, *models], "stage": ["raw"] * 3 + ["fine_tuned"] * 3}
    ).assign(loss=1.0, accuracy=[0.9, 0.88, 0.7, 0.91, 0.9, 0.89])
    ranks = pd.DataFrame({"site": ["a/kernel"], "rank_pruned": [4]})
    scree = pd.DataFrame(
        {"network": "dense", "site": "a/kernel", "component": [1, 2], "cumulative": [0.8, 1.0]}
    )
    return SimpleNamespace(accuracy=accuracy, ranks=ranks, scree=scree)


def answer(topic, **tables):
    layers = overview.by_layer(events(), tables.pop("norms", None), tables.pop("sensitivity", None))
    table = overview.answers(layers, events(), **tables).set_index("question")["answer"]
    return next(text for question, text in table.items() if topic in question)


def test_how_much_was_pruned():
    told = answer("How much")
    assert told == (
        "120 of 150 prunable weights: 80.0%, in 2 events (epochs 2, 4). Most in a/kernel (90.0%), "
        "least in b/kernel (60.0%)."
    )


def test_cost_is_read_at_the_last_epoch_of_the_unpruned_network():
    table = pd.DataFrame(history()).assign(epoch=range(1, 6))
    # An event at the end of epoch 2 shows in that epoch's sparsity, not in its metrics.
    assert answer("cost", history=table) == (
        "val_accuracy while training: 60.00% before the first event (epoch 2), 65.00% in the last "
        "epoch (+5.00 points)."
    )
    assert "accuracy: 90.00% dense, 88.00% pruned (-2.00 points)" in answer(
        "cost", accuracy=low_rank().accuracy
    )
    assert "1 dense, 1 pruned (+0)" in answer("cost", accuracy=low_rank().accuracy, metric="loss")
    with pytest.raises(ValueError, match="metric='f1' is in no table given; there are"):
        answer("cost", accuracy=low_rank().accuracy, metric="f1")


def test_cost_of_a_fit_without_an_epoch_before_the_first_event_is_not_known():
    table = pd.DataFrame(history()).assign(epoch=range(11, 16))  # resumed after epoch 10
    assert answer("cost", history=table).startswith("Not measured")
    one_shot = events().drop(columns=["event", "epoch"])
    layers = overview.by_layer(one_shot)
    told = overview.answers(layers, one_shot, history=table).set_index("question")["answer"]
    assert told["What did it cost?"].startswith("Not measured")


def test_change_of_ranks():
    assert answer("ranks", norms=norms()) == (
        "From 20 to 13 of 20 over all layers; most in a/kernel: 10 to 4 of 10. Effective ranks are "
        "65% of what they were, singular values in sum 65% (mean of layers)."
    )


def test_fragile_is_the_layer_that_loses_most():
    assert answer("fragile", sensitivity=sensitivity()) == (
        "b/kernel: pruned alone, accuracy changes by -30.00 points at 90% sparsity. "
        "The most robust is a/kernel: -10.00 points at 90% sparsity."
    )
    losses = sensitivity().assign(metric="loss", change=-sensitivity()["change"])
    assert answer("fragile", sensitivity=losses).startswith("b/kernel: pruned alone, loss changes")


@pytest.mark.parametrize(
    ("metric", "changes", "told"),
    [
        (
            "mape",
            (0.5, 11.0),
            "b/kernel: pruned alone, mape changes by +11 at 90% sparsity. The mo",
        ),
        ("xent", (-0.1, 0.3), "b/kernel: pruned alone, xent changes by +0.3"),
        ("my_metric", (0.1, -0.4), "b/kernel: pruned alone, my_metric changes most, by -0.4"),
        ("accuracy", (0.0, 0.0), "All alike: pruned alone, each changes accuracy by +0.00 points"),
        ("accuracy", (0.1, 0.05), "None: whichever is pruned alone, accuracy gets no worse (+5.00"),
    ],
)
def test_fragile_follows_the_direction_of_the_metric(metric, changes, told):
    table = sensitivity().assign(metric=metric)
    table["change"] = table["layer"].map(dict(zip("ab", changes, strict=True)))
    assert answer("fragile", sensitivity=table).startswith(told)


def test_pca_answer_judges_each_match():
    both = low_rank().accuracy.assign(match=["", "", "rank"] * 2)
    more = both[both["model"] == "low_rank"].assign(match="weights", accuracy=[0.95, 0.85])
    told = answer("PCA", accuracy=pd.concat([both, more]).assign(samples=1000))
    # By Fisher's exact test 0.46 is the p of 900 against 890 of 1,000, 0.0007 that of 850.
    assert told == (
        "By accuracy: better, raw: 88.00% against 70.00% (low-rank of equal rank); "
        "worse, raw: 88.00% against 95.00% (low-rank of equal weights); "
        "not told apart, fine-tuned: 90.00% against 89.00% (low-rank of equal rank); "
        "better, fine-tuned: 90.00% against 85.00% (low-rank of equal weights). One run, 1,000 "
        "test samples: Fisher's exact test, Holm's correction."
    )
    assert answer("PCA", accuracy=both, metric="val_accuracy").startswith("By accuracy")
    f1 = pd.DataFrame({"epoch": [1], "f1": [1.0]})
    assert "no f1" in answer("PCA", accuracy=both, metric="f1", history=f1)


def test_what_is_missing_says_how_to_get_it():
    assert "Not measured: give norms=" in answer("ranks")
    assert "Not measured: give sensitivity=" in answer("fragile")
    assert "Not measured: give low_rank=" in answer("PCA")
    assert "Not counted: give activity=" in answer("dead")
    assert "Not measured: give history=" in answer("cost")


def test_dead_units_are_counted_by_layer():
    activity = pd.DataFrame({"layer": ["a", "a", "b"], "frequency": [0.0, 0.5, np.nan]})
    told = answer("dead", activity=activity)
    assert told == "1 of 2 units were never active while counted: a 1."


def test_one_row_per_layer():
    table = overview.by_layer(events(), norms(), sensitivity()).set_index("layer")
    assert table["pruned"].tolist() == [90, 30]
    assert table["sparsity"].tolist() == [0.9, 0.6]
    assert table["rank_before"].tolist() == [10, 10]
    assert table["rank_after"].tolist() == [4, 9]
    assert table["nuclear_ratio"].tolist() == [0.4, 0.9]
    assert table["alone_change"].tolist() == pytest.approx([-0.1, -0.3])


def test_everything_is_written(tmp_path):
    kernels = {name: {"a/kernel": np.eye(4)} for name in ("dense", "activation", "magnitude")}
    activity = pd.DataFrame({"layer": "a", "unit": [0, 1], "frequency": [0.0, 0.5]})
    paths = reports.write(
        tmp_path / "report",
        events(),
        SimpleNamespace(history=history()),
        activity,
        spectra(),
        norms(),
        sensitivity(),
        low_rank(),
        kernels,
        seed=3,
    )
    assert sorted(paths) == sorted((tmp_path / "report").iterdir())
    assert [path.name for path in paths] == [
        "pruning.xlsx", "sparsity.png", "singular_values.png", "singular_values_relative.png",
        "ranks.png", "sensitivity.png", "low_rank.png", "scree.png", "kernels.png",
        "activity.png", "pruning.html",
    ]  # fmt: skip
    book = openpyxl.load_workbook(paths[0])
    assert book.sheetnames == [
        "Overview", "Layers", "Events", "Training", "Spectra", "Norms", "Activity", "Sensitivity",
        "Low rank", "Ranks", "Scree", "Settings",
    ]  # fmt: skip
    charts = {sheet.title: len(sheet._charts) for sheet in book if sheet._charts}
    # accuracy, val_accuracy and sparsity; by layer; by criterion; by layer.
    assert charts == {"Training": 3, "Spectra": 2, "Sensitivity": 2, "Scree": 1}
    states = {row[1] for row in book["Spectra"].iter_rows(min_row=2, values_only=True)}
    assert states == {"unpruned", "event 1", "event 2"}
    scale = {str(a.sqref)[0]: a.rules[0].colorScale for a in book["Layers"].conditional_formatting}
    column = {cell.value: cell.column_letter for cell in book["Layers"][1]}
    # The lowest change of an accuracy is the worst, and orange.
    assert [c.rgb for c in scale[column["alone_change"]].color] == ["00F2A679", "00FFFFFF"]
    settings = dict(row[:2] for row in book["Settings"].iter_rows(values_only=True))
    assert settings["seed"] == 3
    page = paths[-1].read_text()
    assert page.count("<img") == 9
    assert "120 of 150 prunable weights" in page


def test_the_least_there_can_be_and_no_stale_pictures(tmp_path):
    reports.write(tmp_path, events(), norms=norms())
    assert (tmp_path / "ranks.png").exists()
    one_shot = events().query("event == 2").drop(columns=["event", "epoch"])
    paths = reports.write(tmp_path, one_shot)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pruning.html", "pruning.xlsx"]
    assert [path.name for path in paths] == ["pruning.xlsx", "pruning.html"]


def test_nothing_was_pruned(tmp_path):
    reports.write(tmp_path, events().head(0), history(), norms=norms().query("moment == 'epoch'"))
    sheets = pd.read_excel(tmp_path / "pruning.xlsx", sheet_name=None)
    assert sheets["Overview"]["answer"][0] == "Nothing: there was no pruning event."
    assert "Layers" not in sheets


def test_long_names_and_many_layers_are_cut_in_pictures_only(tmp_path):
    many, kernels = [], {}
    for i in range(20):
        site = f"a_very_long_name_of_a_block_{i}_of_a_network/conv/kernel"
        many.append(norms().query("site == 'a/kernel'").assign(site=site))
        kernels[site] = np.ones((3, 3))
    table = pd.concat(many)
    pruned = pd.DataFrame({"site": list(kernels), "layer": "l", "pruned": 1, "weights": range(20)})
    reports.write(
        tmp_path, pruned.assign(event=1, sparsity=0.5), norms=table, kernels={"a": kernels}
    )
    page = (tmp_path / "pruning.html").read_text()
    assert "8 of 20 layers, those with the most weights; the workbook has all." in page
    sheets = pd.read_excel(tmp_path / "pruning.xlsx", sheet_name=None)
    assert sheets["Norms"]["site"].nunique() == 20
    assert set(sheets["Layers"]["site"]) == set(kernels)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"events": events().drop(columns="pruned")}, r"\(events\): column 'pruned' is unknown"),
        ({"norms": norms().drop(columns="rank")}, r"\(norms\): column 'rank' is unknown"),
        ({"low_rank": low_rank().accuracy}, "low_rank is a DataFrame; give what analysis.compare"),
        ({"kernels": {"dense": np.eye(3)}}, "kernels must be a dict of network -> dict"),
        ({"history": [1, 2]}, "history is a list; give what fit returns"),
        ({"history": {"a": [1], "b": [1, 2]}}, "history cannot be read as one row per epoch"),
    ],
)
def test_bad_tables(tmp_path, arguments, reason):
    with pytest.raises(ValueError, match=reason):
        reports.write(tmp_path, **({"events": events()} | arguments))


def test_two_images_of_one_run_are_no_verdict():
    table = low_rank().accuracy.query("stage == 'raw'")
    table = table.assign(accuracy=np.array([365, 363, 361]) / 397)
    told = answer("PCA", accuracy=table.assign(samples=397))
    assert told.startswith(
        "By accuracy: not told apart, raw: 91.44% against 90.93% (low-rank). One"
    )
    for unknown in (table, table.assign(samples=np.nan), table.assign(samples=[1, 2, 3])):
        told = answer("PCA", accuracy=unknown)
        assert told == "By accuracy: raw: 91.44% against 90.93% (low-rank). One run: not tested."
    told = answer("PCA", accuracy=table.assign(samples=397), metric="loss")
    assert told == "By loss: raw: 1 against 1 (low-rank). One run: not tested."


def seen(shown, name, draw):
    def drawing(data, **options):
        shown[name] = data
        return draw(data, **options)

    return drawing


def test_networks_that_keras_has_numbered_on_are_shown_side_by_side(tmp_path, monkeypatch):
    """The layers of a second model are dense_3, ... where those of the first are dense, ..."""
    shown = {}
    kernels = {
        "dense": {"dense_3/kernel": np.eye(4), "dense_4/kernel": np.eye(3)},
        "pruned": {"dense/kernel": np.eye(4), "dense_1/kernel": np.eye(3)},
    }
    table = events().replace({"a/kernel": "dense/kernel", "b/kernel": "dense_1/kernel"})
    both = low_rank()
    place = {"site": ["dense_3/kernel", "dense_4/kernel"], "component": 1, "cumulative": 0.8}
    both.scree = pd.DataFrame(place | {"network": "dense"})
    for name in ("kernel_heatmap", "scree"):
        drawn = getattr(reports.figures, name)
        monkeypatch.setattr(reports.figures, name, seen(shown, name, drawn))
    reports.write(tmp_path, table, kernels=kernels, low_rank=both)
    assert [list(network) for network in shown["kernel_heatmap"].values()] == [
        ["dense/kernel", "dense_1/kernel"]
    ] * 2
    assert shown["scree"]["site"].tolist() == ["dense/kernel", "dense_1/kernel"]


def test_networks_with_other_layers_keep_their_names(tmp_path, monkeypatch):
    shown = {}
    drawn = reports.figures.kernel_heatmap
    monkeypatch.setattr(reports.figures, "kernel_heatmap", seen(shown, "kernels", drawn))
    kernels = {"pruned": {"a/kernel": np.eye(4), "b/kernel": np.eye(3)}, "other": {"c": np.eye(4)}}
    reports.write(tmp_path, events(), kernels=kernels)
    assert [list(network) for network in shown["kernels"].values()] == [
        ["a/kernel", "b/kernel"],
        ["c"],
    ]
