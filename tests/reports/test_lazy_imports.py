"""Parts of `reports` are loaded when they are used: what happens in a fresh interpreter."""

import json
import subprocess
import sys

import pytest

from activation_pruning import reports

pytestmark = pytest.mark.lowest

# None in sys.modules makes an import fail. Keras tries some of these by itself, and does without:
# what is loaded would not tell who wanted it.
CODE = """
import json, sys
drawing, others = ("matplotlib", "seaborn"), ("openpyxl", "scipy.stats", "dask", "yaml")
sys.modules |= dict.fromkeys((*drawing, *others))

def missing(name):
    try:
        getattr(ap.reports, name)
    except ImportError as error:
        return error.name

import activation_pruning as ap
said = {"imported": ap.__name__, "without": [missing("workbook"), missing("figures")]}

import pandas as pd
sys.modules.pop("scipy.stats")
runs = pd.DataFrame({"arm": list("abab"), "seed": [0, 0, 1, 1], "x": [1.0, 2.0, 1.0, 2.0]})
said["ranks"] = ap.reports.statistics.ranks(runs, "x")["mean_rank"].tolist()

sys.modules.pop("openpyxl")
chart = ap.reports.workbook.Chart("A", "seed", "x", "arm")
said["workbook"] = str(ap.reports.workbook.write(sys.argv[1], {"A": runs}, [chart]))

for name in drawing:
    sys.modules.pop(name)
said["parts"] = [name for name in ap.reports.__all__ if getattr(ap.reports, name)]
print("said: " + json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "a.xlsx"
    command = [sys.executable, "-W", "ignore", "-c", CODE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition("said: ")[2])


def test_the_package_is_imported_without_what_draws_and_writes(said):
    assert said["imported"] == "activation_pruning"
    assert all(name.split(".")[0] in ("openpyxl", "matplotlib") for name in said["without"])


def test_statistics_need_neither_pictures_nor_workbooks(said):
    assert said["ranks"] == [1, 2]


def test_a_workbook_is_written_without_matplotlib(said):
    assert said["workbook"].endswith("a.xlsx")


def test_parts_are_attributes_without_an_import_of_their_own(said):
    assert said["parts"] == reports.__all__
    assert set(reports.__all__) <= set(dir(reports))
    with pytest.raises(AttributeError, match=r"'activation_pruning\.reports' .* 'absent'"):
        _ = reports.absent
