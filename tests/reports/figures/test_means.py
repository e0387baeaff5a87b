"""Pictures of means over runs, of kernels and of low-rank networks."""

import numpy as np
import pandas as pd
import pytest

from activation_pruning.reports import figures

pytestmark = pytest.mark.lowest


def runs():
    rng = np.random.default_rng(0)
    rows = [
        {"arm": arm, "seed": seed, "x": x, "share": rng.uniform(0.4, 0.6), "panel": panel}
        for arm in ("one", "two")
        for panel in ("p", "q", "r")
        for seed in range(3)
        for x in (1, 2, 3)
    ]
    return pd.DataFrame(rows)


def drawn(ax):
    return {line.get_label(): line.get_xydata() for line in ax.get_lines()}


def test_curves_go_through_the_means():
    table = runs()
    figure = figures.mean_curves(table, "x", "share", panel="panel")
    assert [ax.get_title() for ax in figure.axes if ax.get_visible()] == ["p", "q", "r"]
    means = table[table["panel"] == "q"].groupby(["arm", "x"])["share"].mean()
    np.testing.assert_allclose(drawn(figure.axes[1])["two"][:, 1], means["two"])


def test_a_logarithmic_axis_is_labelled_at_the_values():
    table = runs().assign(x=lambda rows: 10.0 ** rows["x"] / 15)
    ax = figures.mean_curves(table, "x", "share", log=True).axes[0]
    assert ax.get_xscale() == "log"
    ax.figure.canvas.draw()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.67", "6.7", "67"]


def test_no_two_of_many_lines_look_alike():
    table = pd.DataFrame([{"arm": f"{i:02}", "x": x, "y": i} for i in range(20) for x in (1, 2)])
    lines = figures.mean_curves(table, "x", "y").axes[0].get_lines()
    looks = {(line.get_color(), line.get_marker(), str(line.get_linestyle())) for line in lines}
    assert len({look[:2] for look in looks}) == 20


def test_a_band_of_shares_ends_at_0_and_1():
    table = pd.DataFrame({"arm": "a", "x": [1, 1, 2, 2], "rank_share": [0.0, 1.0, 0.5, 0.5]})
    (band,) = figures.mean_curves(table, "x", "rank_share").axes[0].collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (0.0, 1.0)
    free = table.rename(columns={"rank_share": "loss"})
    (band,) = figures.mean_curves(free, "x", "loss").axes[0].collections
    assert band.get_paths()[0].vertices[:, 1].max() > 1


def test_dots_stand_at_the_means_in_the_row_of_their_arm():
    table = pd.DataFrame(
        {"arm": ["a", "a", "b", "b"], "way": ["x", "x", "x", "y"], "rank": [1.0, 3.0, 5.0, 6.0]}
    )
    ax = figures.mean_dots(table, "rank", "way").axes[0]
    x = next(bars for bars in ax.containers if bars.get_label() == "x")
    points = x.lines[0].get_xydata()
    assert points[:, 0].tolist() == [2.0, 5.0]
    assert np.round(points[:, 1]).tolist() == [0, 1]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b"]


def test_low_rank_panels_by_stage_and_match():
    table = pd.DataFrame(
        {
            "arm": "a", "model": ["dense", "pruned"] * 4,
            "stage": ["raw", "raw", "fine_tuned", "fine_tuned"] * 2,
            "match": ["rank"] * 4 + ["weights"] * 4, "accuracy": 0.5,
        }
    )  # fmt: skip
    titles = [ax.get_title() for ax in figures.low_rank_accuracy(table).axes]
    assert titles == [
        "raw, equal rank", "fine tuned, equal rank", "raw, equal weights",
        "fine tuned, equal weights",
    ]  # fmt: skip


def test_kernels_side_by_side_on_one_scale_per_layer():
    kernels = {
        "dense": {"a": np.full((4, 3), -2.0), "b": np.full((3, 2), 0.5)},
        "pruned": {"a": np.zeros((4, 3)), "b": np.full((3, 2), 0.25)},
    }
    figure = figures.kernel_heatmap(kernels)
    shown = [ax.images[0] for ax in figure.axes if ax.images]
    assert [image.get_array().max() for image in shown] == [2.0, 0.0, 0.5, 0.25]
    assert [image.norm.vmax for image in shown] == [2.0, 2.0, 0.5, 0.5]
    assert [ax.get_title() for ax in figure.axes[:4]] == ["dense", "pruned", "", ""]


def test_networks_with_different_layers_keep_their_titles_and_labels():
    kernels = {"one": {"a": np.ones((8, 3))}, "two": {"b": np.ones((6, 3)), "a": np.ones((6, 3))}}
    axes = figures.kernel_heatmap(kernels).axes
    assert [ax.get_title() for ax in axes[:4]] == ["one", "two", "", ""]
    assert [axes[0].get_ylabel(), axes[2].get_ylabel()] == ["a\n", "b\n6 × 3"]
    assert [bool(ax.images) for ax in axes[:4]] == [True, True, False, True]


def test_scree_has_a_line_for_each_network():
    table = pd.DataFrame(
        {"network": ["dense"] * 2 + ["pruned"] * 2, "site": "a", "component": [1, 2] * 2}
    ).assign(cumulative=[0.5, 1.0, 0.9, 1.0])
    assert set(drawn(figures.scree(table).axes[0])) == {"dense", "pruned"}


@pytest.mark.parametrize(
    ("draw", "reason"),
    [
        (lambda: figures.mean_curves(runs(), "x", "shar"), "did you mean 'share'"),
        (lambda: figures.mean_dots(runs().head(0), "share", "arm"), "no rows"),
        (lambda: figures.kernel_heatmap({}), "kernels is empty"),
        (lambda: figures.kernel_heatmap({"dense": {"a": np.ones(3)}}), r"'a' has shape \(3,\)"),
        (lambda: figures.scree(runs()), "column 'network' is unknown"),
        (lambda: figures.low_rank_accuracy(runs()), "column 'model' is unknown"),
    ],
)
def test_bad_tables(draw, reason):
    with pytest.raises(ValueError, match=reason):
        draw()


def test_panels_with_lines_of_their_own_have_their_own_legends():
    runs = pd.DataFrame(
        {
            "arm": ["a", "b", "c"],
            "x": [1, 1, 1],
            "y": [0.1, 0.2, 0.3],
            "panel": ["left", "right", "right"],
        }
    )
    figure = figures.mean_curves(runs, "x", "y", panel="panel")
    told = [[t.get_text() for t in ax.get_legend().get_texts()] for ax in figure.axes]
    assert told == [["a"], ["b", "c"]]
    assert figure.legends == []
