import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy import stats

from activation_pruning.reports import figures, formats
from activation_pruning.reports.figures import heatmaps, style

pytestmark = pytest.mark.lowest


def results(events=(5,)):
    rng = np.random.default_rng(0)
    rows = [
        {"arm": arm, "sparsity": s, "events": e, "seed": seed, "test_accuracy": rng.uniform(0.8, 1)}
        for arm in ("activation", "magnitude")
        for s in (0.8, 0.85, 0.9)
        for e in events
        for seed in range(3)
    ]
    return pd.DataFrame(rows)


def history():
    parts = [
        pd.DataFrame(
            {
                "arm": arm, "seed": seed, "epoch": range(10),
                "train_accuracy": np.linspace(0.5, 0.9, 10),
                "validation_accuracy": np.linspace(0.5, 0.8, 10),
                "sparsity": [0.0] * 4 + [0.5] * 4 + [0.8] * 2,
            }
        )
        for arm in ("activation", "magnitude")
        for seed in (0, 1)
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def events():
    rows = [
        {
            "arm": arm, "seed": seed, "event": i, "epoch": epoch, "layer": layer,
            "site": f"{layer}/kernel", "total_sparsity": total, "sparsity": total + shift,
        }
        for arm in ("activation", "magnitude")
        for seed in (0, 1)
        for i, epoch, total in ((1, 4, 0.5), (2, 8, 0.8))
        for layer, shift in (("dense_1", 0.1), ("dense_2", -0.1))
    ]  # fmt: skip
    return pd.DataFrame(rows)


def activity():
    frequency = [0.0, 0.0, 0.5, 1.0, 0.25, 0.75]
    return pd.DataFrame({"layer": ["a"] * 4 + ["b"] * 2, "unit": range(6), "frequency": frequency})


def everything():
    return {
        "accuracy": figures.accuracy_against_sparsity(
            results((5, 10)), reference=[0.9, 0.92, 0.93]
        ),
        "training": figures.training_curves(history(), events()),
        "activity": figures.activation_frequency(activity()),
        "masks": figures.mask_heatmap({"dense": np.eye(4, dtype=bool)}),
        "layers": figures.sparsity_by_layer(events()),
    }


@pytest.mark.parametrize(
    ("runs", "level", "quantile"),  # from a table of Student's t
    [(2, 0.95, 12.706205), (5, 0.999, 8.610302), (11, 0.5, 0.699812), (31, 0.95, 2.042272)],
)
def test_interval_widths_against_a_printed_table(runs, level, quantile):
    table = pd.DataFrame({"arm": "a", "loss": np.arange(float(runs))})
    row = figures.intervals(table, ["arm"], "loss", level).iloc[0]
    half = quantile * np.std(table["loss"], ddof=1) / np.sqrt(runs)
    assert row["loss_high"] - row["loss"] == pytest.approx(half, rel=1e-6)
    assert row["loss"] - row["loss_low"] == pytest.approx(half, rel=1e-6)


def test_interval_of_three_seeds():
    values = [0.7, 0.8, 0.95]
    table = pd.DataFrame({"arm": "a", "accuracy": values})
    row = figures.intervals(table, ["arm"], "accuracy").iloc[0]
    half = 4.302652729911275 * np.std(values, ddof=1) / np.sqrt(3)
    assert row["accuracy"] == pytest.approx(np.mean(values))
    assert row["accuracy_low"] == pytest.approx(np.mean(values) - half)
    assert row["accuracy_high"] == pytest.approx(np.mean(values) + half)
    assert row["runs"] == 3


def test_interval_of_one_run_and_with_missing_values():
    table = pd.DataFrame({"arm": ["a", "b", "b", "b"], "loss": [1.0, 2.0, 4.0, np.nan]})
    summary = figures.intervals(table, ["arm"], "loss")
    assert summary["runs"].tolist() == [1, 2]
    assert summary["loss"].tolist() == [1.0, 3.0]
    assert np.isnan(summary["loss_low"][0])
    assert summary["loss_low"][1] == pytest.approx(3 - 12.706204736174698)


def test_intervals_of_two_runs_are_drawn_as_far_as_accuracies_go():
    runs = pd.DataFrame({"arm": "a", "sparsity": 0.8, "test_accuracy": [0.9, 0.94]})
    ax = figures.accuracy_against_sparsity(runs, reference=[0.02, 0.05]).axes[0]
    (segment,) = ax.containers[0][2][0].get_segments()
    low = 0.92 - stats.t.ppf(0.975, 1) * np.std([0.9, 0.94], ddof=1) / 2**0.5
    assert segment[:, 1] == pytest.approx([low, 1.0])
    (band,) = ax.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx(
        (0.0, 0.2256), abs=1e-4
    )
    assert ax.get_ylim()[1] < 1.1


def test_accuracy_points_and_error_bars():
    table = results()
    figure = figures.accuracy_against_sparsity(table)
    (ax,) = figure.axes
    assert len(ax.containers) == 2
    for arm, bars in zip(("activation", "magnitude"), ax.containers, strict=True):
        line, _, (segments,) = bars
        groups = table[table["arm"] == arm].groupby("sparsity")["test_accuracy"]
        half = 4.302652729911275 * groups.std() / np.sqrt(3)
        heights = np.asarray(line.get_ydata(), float)  # an object array in older Matplotlib
        assert heights == pytest.approx(groups.mean().to_numpy())
        ends = np.array([segment[:, 1] for segment in segments.get_segments()])
        assert ends[:, 0] == pytest.approx((groups.mean() - half).to_numpy())
        # No accuracy is above 100 %, whatever a t-interval of few runs says.
        assert ends[:, 1] == pytest.approx((groups.mean() + half).clip(upper=1).to_numpy())
        assert line.get_xdata() == pytest.approx([0.8, 0.85, 0.9], abs=0.011)
    first, second = (bars[0] for bars in ax.containers)
    assert np.all(first.get_xdata() < second.get_xdata())  # the bars stand side by side
    assert (ax.get_xlabel(), ax.get_ylabel()) == (
        "sparsity (% of the weights pruned)",
        "test accuracy (%)",
    )
    assert [text.get_text() for text in ax.get_xticklabels()] == ["80%", "85%", "90%"]


def test_accuracy_says_how_the_interval_was_made():
    figure = figures.accuracy_against_sparsity(results())
    assert "95 % t-interval over 3 runs" in figure.axes[0].texts[0].get_text()
    single = figures.accuracy_against_sparsity(results().query("seed == 0"))
    assert single.axes[0].texts[0].get_text() == "one run each"
    assert style.spread(np.array([2, 3])) == "mean and 95 % t-interval over 2 to 3 runs"


def test_a_share_has_a_decimal_where_it_needs_one():
    assert (style.share(0.8), style.share(0.995)) == ("80%", "99.5%")


def test_accuracy_panels_and_reference():
    dense = [0.9, 0.92, 0.93]
    figure = figures.accuracy_against_sparsity(results((5, 10)), reference=dense)
    assert [ax.get_title() for ax in figure.axes] == ["5 pruning events", "10 pruning events"]
    for ax in figure.axes:
        reference = [line for line in ax.lines if line.get_label().startswith("dense")]
        assert reference[0].get_ydata() == pytest.approx([np.mean(dense)] * 2)
        (band,) = ax.patches
        half = 4.302652729911275 * np.std(dense, ddof=1) / np.sqrt(3)
        assert band.get_height() == pytest.approx(2 * half)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["dense, mean and interval", "activation", "magnitude"]


def test_arms_differ_by_more_than_hue():
    looks = style.looks([f"arm {i}" for i in range(14)])
    for keys in (("color", "marker"), ("color", "marker", "linestyle")):
        first = [tuple(look[key] for key in keys) for look in looks.values()][:7]
        assert len(set(first)) == 7
    full = {(look["marker"], look["linestyle"]) for look in looks.values()}
    assert len(full) == 14


def test_palette_gets_lighter_step_by_step():
    grey = [np.dot(to_rgb(colour), [0.2126, 0.7152, 0.0722]) for colour in formats.PALETTE]
    assert np.all(np.diff(grey) > 0.03)


def test_training_curves():
    figure = figures.training_curves(history(), events())
    tops = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in tops] == ["activation", "magnitude"]
    curves = [line for line in tops[0].lines if len(line.get_xdata()) == 10]
    assert len(curves) == 4  # two metrics of two seeds
    marks = [line.get_xdata()[0] for line in tops[0].lines if line.get_linestyle() == ":"]
    assert sorted(marks) == [4, 8]
    bottom = next(ax for ax in figure.axes if ax.get_ylabel() == "sparsity (%)")
    assert sorted(text.get_text() for text in bottom.texts) == ["50%", "80%"]
    assert bottom.get_xlabel() == "epoch"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["train accuracy", "validation accuracy"]


def test_training_curves_of_a_dense_run():
    figure = figures.training_curves(history().query("arm == 'activation'"), events().head(0))
    assert not [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]


def test_activation_frequency_sorts_and_counts_dead_units():
    figure = figures.activation_frequency(activity())
    assert [ax.get_title() for ax in figure.axes] == ["a", "b"]
    assert figure.axes[0].lines[0].get_ydata().tolist() == [1.0, 0.5, 0.0, 0.0]
    assert figure.axes[0].texts[0].get_text() == "2 of 4 units dead"
    assert figure.axes[1].texts[0].get_text() == "0 of 2 units dead"


def test_activation_frequency_with_arms():
    both = pd.concat([activity().assign(arm="x"), activity().assign(arm="y", frequency=0.5)])
    figure = figures.activation_frequency(both)
    assert figure.axes[0].texts[0].get_text() == "x: 2 of 4 dead\ny: 0 of 4 dead"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["x", "y"]


def test_mask_heatmap_of_small_masks():
    mask = np.array([[True, False, False], [True, True, False]])
    figure = figures.mask_heatmap({"dense": mask})
    assert figure.axes[0].get_title() == "dense, 2 × 3\n50.0% alive"
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), mask)
    assert figure.axes[-1].get_ylabel() == "share of weights alive (%)"


def test_blocks_are_exact_shares():
    mask = np.random.default_rng(1).random((128, 192)) < 0.3
    expected = mask.reshape(64, 2, 64, 3).mean(axis=(1, 3))
    assert heatmaps._blocks("the mask", "dense", mask) == pytest.approx(expected)


def test_uneven_blocks_cover_everything_once():
    mask = np.zeros((100, 65), dtype=bool)
    mask[-1, -1] = True
    shares = heatmaps._blocks("the mask", "dense", mask)
    assert shares.shape == (64, 64)
    assert np.count_nonzero(shares) == 1
    assert 0 < shares[-1, -1] <= 1
    assert np.all(heatmaps._blocks("the mask", "dense", np.ones((100, 65), dtype=bool)) == 1)


@pytest.mark.parametrize("count", [2, 7])
def test_mask_heatmap_of_arms_and_many_layers(count):
    layers = {f"dense_{i}": np.eye(3, dtype=bool) for i in range(count)}
    other = {"dense_0": np.ones((3, 3), dtype=bool)}
    figure = figures.mask_heatmap({"activation": layers, "magnitude": other})
    titles = [ax.get_title() for ax in figure.axes if ax.get_visible() and ax.images]
    assert len(titles) == count + 1
    assert "magnitude\ndense_0, 3 × 3\n100.0% alive" in titles


@pytest.mark.parametrize("masks", [{}, {"a": {}}])
def test_no_masks(masks):
    with pytest.raises(ValueError, match="mask_heatmap: masks is empty"):
        figures.mask_heatmap(masks)


def test_mask_of_a_convolution():
    with pytest.raises(
        ValueError, match=r"'conv' has shape \(3, 3, 1, 8\).*reshape\(-1, filters\)"
    ):
        figures.mask_heatmap({"conv": np.ones((3, 3, 1, 8), dtype=bool)})


def test_sparsity_by_layer_averages_seeds():
    table = events()
    table.loc[(table["seed"] == 1) & (table["layer"] == "dense_1"), "sparsity"] += 0.05
    figure = figures.sparsity_by_layer(table)
    ax = figure.axes[0]
    assert ax.get_title() == "activation"
    assert [text.get_text() for text in ax.get_yticklabels()] == [
        "dense_1/kernel",
        "dense_2/kernel",
    ]
    dots = [line.get_xdata() for line in ax.lines if line.get_marker() == "o"]
    assert np.allclose(dots, [[0.625, 0.4], [0.925, 0.7]])
    assert {"92.5%", "70.0%"} <= {text.get_text() for text in ax.texts}
    total = next(line for line in ax.lines if line.get_linestyle() == "--")
    assert total.get_xdata() == pytest.approx([0.8, 0.8])


@pytest.mark.parametrize(
    ("draw", "table", "column"),
    [
        (figures.accuracy_against_sparsity, results, "test_accuracy"),
        (figures.accuracy_against_sparsity, results, "arm"),
        (lambda table: figures.training_curves(table, events()), history, "epoch"),
        (lambda table: figures.training_curves(history(), table), events, "total_sparsity"),
        (figures.activation_frequency, activity, "frequency"),
        (figures.sparsity_by_layer, events, "layer"),
    ],
)
def test_missing_column(draw, table, column):
    with pytest.raises(ValueError, match=f"column '{column}' is unknown; there are"):
        draw(table().drop(columns=column))


def test_missing_column_names_the_function_and_the_closest():
    table = results().rename(columns={"test_accuracy": "test_acuracy"})
    with pytest.raises(ValueError) as caught:
        figures.accuracy_against_sparsity(table)
    assert "accuracy_against_sparsity" in str(caught.value)
    assert "did you mean 'test_acuracy'" in str(caught.value)


@pytest.mark.parametrize(
    ("draw", "table"),
    [
        (figures.accuracy_against_sparsity, results),
        (lambda table: figures.training_curves(table, events()), history),
        (figures.activation_frequency, activity),
        (figures.sparsity_by_layer, events),
    ],
)
def test_empty_tables(draw, table):
    with pytest.raises(ValueError, match="no rows; there is nothing to draw"):
        draw(table().head(0))


def test_empty_column_and_wrong_type():
    with pytest.raises(ValueError, match="column 'frequency' has no values"):
        figures.activation_frequency(activity().assign(frequency=np.nan))
    with pytest.raises(ValueError, match="expected a DataFrame, got a list"):
        figures.activation_frequency([1, 2])


def test_figures_leave_no_trace_and_nothing_is_cut_off(tmp_path):
    before = dict(plt.rcParams)
    for name, figure in everything().items():
        assert isinstance(figure, Figure)
        assert figure.get_suptitle()
        assert figures.save(figure, tmp_path / f"{name}.png") == tmp_path / f"{name}.png"
        needed = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        assert needed.x0 >= -0.01
        assert needed.y0 >= -0.01
        assert needed.x1 <= width + 0.01
        assert needed.y1 <= height + 0.01
    assert plt.get_fignums() == []
    assert dict(plt.rcParams) == before


def test_legend_of_many_arms_fits():
    names = ("activation_magnitude", "mean_activation", "tfmot prune_low_magnitude", "inactivity")
    table = pd.concat([results().assign(arm=name) for name in names] + [results()])
    figure = figures.accuracy_against_sparsity(table, reference=[0.9, 0.91])
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert len(figure.legends[0].get_texts()) == 7
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.axes[0].get_tightbbox().y0


def test_type_prints_at_nine_points_or_more():
    for figure in everything().values():
        figure.draw_without_rendering()
        assert figure.get_size_inches()[0] <= 7.2
        texts = [text for text in figure.findobj(Text) if text.get_text().strip()]
        sizes = [text.get_fontsize() for text in texts]
        assert min(sizes) >= 9


@pytest.mark.parametrize(
    ("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")]
)
def test_save(tmp_path, suffix, start):
    figure = figures.activation_frequency(activity())
    path = figures.save(figure, tmp_path / "new" / f"picture.{suffix}")
    assert path.read_bytes().startswith(start)
    assert [entry.name for entry in path.parent.iterdir()] == [f"picture.{suffix}"]


def test_save_dots_per_inch(tmp_path):
    figure = figures.activation_frequency(activity())
    data = figures.save(figure, tmp_path / "picture.png", dpi=100).read_bytes()
    assert int.from_bytes(data[16:20], "big") == 720


def test_failed_save_leaves_the_old_picture(tmp_path, monkeypatch):
    figure = figures.activation_frequency(activity())
    path = figures.save(figure, tmp_path / "picture.png")
    before = path.read_bytes()

    def fail(self, target, **options):
        target.write_bytes(b"half")
        raise RuntimeError("broken")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(RuntimeError, match="broken"):
        figures.save(figure, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["picture.png"]


def test_bad_paths(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    figure = figures.activation_frequency(activity())
    with pytest.raises(ValueError, match=r"suffix '\.bmp' is unknown; there are '\.png'"):
        figures.save(figure, tmp_path / "picture.bmp")
    with pytest.raises(OSError, match=r"cannot write '.*file/picture\.png'"):
        figures.save(figure, tmp_path / "file" / "picture.png")


def test_numbers_of_sparsity_touch_neither_dots_nor_the_line_of_all_layers():
    shares = [0.727, 0.6, 1.0, 0.05]
    names = [f"layer_{i}" for i in range(len(shares))]
    table = pd.DataFrame({"event": 1, "layer": names, "sparsity": shares, "total_sparsity": 0.8})
    figure = figures.sparsity_by_layer(table)
    figure.savefig(io.BytesIO(), format="png")  # lays it out
    ax = figure.axes[0]
    numbers = [text.get_window_extent() for text in ax.texts if text.get_text().endswith("%")]
    assert len(numbers) == len(shares)
    for line in ax.lines:
        x = ax.transData.transform(np.column_stack([line.get_xdata(), [0] * len(line.get_xdata())]))
        assert all(box.x0 > x[:, 0].max() + 3 for box in numbers)
    assert all(box.x1 <= figure.bbox.x1 for box in numbers)


def test_a_row_without_a_name_has_no_tick():
    runs = pd.DataFrame({"arm": "", "model": ["dense", "pruned"], "accuracy": [0.9, 0.8]})
    for name, drawn in ("", False), ("a", True):
        ax = figures.mean_dots(runs.assign(arm=name), "accuracy", "model").axes[0]
        ticks = ax.yaxis.get_major_ticks()
        assert len(ticks) == 1
        assert (ticks[0].tick1line.get_markersize() > 0) == drawn
