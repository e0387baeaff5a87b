"""Runs of two methods, paired by seed."""

import numpy as np
import pandas as pd

from activation_pruning.reports import statistics


def paired(change, base=None):
    """Two tables, one run per seed, whose metrics differ by `change`."""
    change = np.asarray(change, float)
    base = np.linspace(0.5, 0.6, len(change)) if base is None else base
    seeds = {"seed": range(len(change)), "setting": "s"}
    return pd.DataFrame(seeds | {"x": base + change}), pd.DataFrame(seeds | {"x": base})


def judged(change, **kwargs):
    first, second = paired(change, **kwargs)
    return statistics.holm(statistics.differences(first, second, ["seed"], [], "x")).iloc[0]
