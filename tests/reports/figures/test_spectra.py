"""Pictures of spectra, ranks and sensitivity."""

import numpy as np
import pandas as pd
import pytest

from activation_pruning.reports import figures

pytestmark = pytest.mark.lowest


def spectra(sites=("a", "b", "c"), events=3):
    rows = [
        {"moment": moment, "event": event, "site": site, "index": index}
        | {"value": (4 - index) / (event + (moment == "after"))}
        for site in sites
        for event in range(1, events + 1)
        for moment in ("before", "after")
        for index in (1, 2, 3)
    ]
    return pd.DataFrame(rows)


def norms():
    table = spectra().drop(columns="value").query("index == 1").drop(columns="index")
    table = table.assign(blocks=1, rows=4, columns=3)
    return table.assign(rank=np.where(table["moment"] == "after", 3 - table["event"], 3))


def sensitivity():
    rows = [
        {"site": site, "criterion": criterion, "sparsity": sparsity, "metric": "accuracy"}
        | {"value": 0.9 - sparsity / 2, "change": -sparsity / 2}
        for criterion in ("magnitude", "random")
        for site in ("a", "b")
        for sparsity in (0.9, 0.5)
    ]
    return pd.DataFrame(rows)


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def test_singular_values_of_the_unpruned_network_and_after_each_event():
    figure = figures.singular_values(spectra())
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title() for ax in shown] == ["a", "b", "c"]
    found = lines(shown[0])
    assert len(shown[0].get_lines()) == 4
    assert found["unpruned"].get_ydata().tolist() == [3, 2, 1]
    assert found["event 3"].get_ydata().tolist() == [0.75, 0.5, 0.25]
    assert shown[0].get_yscale() == "log"


def test_relative_values_are_shares_of_the_unpruned_ones():
    ax = figures.singular_values(spectra(), relative=True).axes[0]
    assert lines(ax)["unpruned"].get_ydata().tolist() == [1, 1, 1]
    np.testing.assert_allclose(lines(ax)["event 1"].get_ydata(), 0.5)


def test_zeros_end_a_line():
    table = spectra(("a",), 1)
    table.loc[(table["moment"] == "after") & (table["index"] == 3), "value"] = 0.0
    for relative in (False, True):
        values = lines(figures.singular_values(table, relative).axes[0])["event 1"].get_ydata()
        assert np.isnan(values).tolist() == [False, False, True]


def test_ranks_are_shares_of_the_full_rank():
    ax = figures.rank_by_event(norms()).axes[0]
    assert lines(ax)["a"].get_xdata().tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(lines(ax)["a"].get_ydata(), [1, 2 / 3, 1 / 3, 0])


def test_sensitivity_is_drawn_by_sparsity():
    figure = figures.sensitivity_curves(sensitivity())
    assert [ax.get_title() for ax in figure.axes] == ["magnitude", "random"]
    found = lines(figure.axes[0])
    assert found["b"].get_xdata().tolist() == [0.5, 0.9]
    assert found["as it is"].get_ydata()[0] == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("draw", "table"),
    [
        (figures.singular_values, spectra()),
        (figures.rank_by_event, norms()),
        (figures.sensitivity_curves, sensitivity()),
    ],
)
def test_bad_tables(draw, table):
    with pytest.raises(ValueError, match=draw.__name__):
        draw(table.iloc[:0])
    with pytest.raises(ValueError, match="site"):
        draw(table.drop(columns="site"))


@pytest.mark.parametrize(
    ("draw", "table"), [(figures.singular_values, spectra()), (figures.rank_by_event, norms())]
)
def test_without_an_event_there_is_nothing_to_show(draw, table):
    with pytest.raises(ValueError, match="no pruning event"):
        draw(table.assign(moment="epoch"))


def test_two_metrics_do_not_share_an_axis():
    both = pd.concat([sensitivity(), sensitivity().assign(metric="loss")])
    with pytest.raises(ValueError, match="draw one at a time"):
        figures.sensitivity_curves(both)
