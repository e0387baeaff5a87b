"""Mean and confidence interval over runs."""

import numpy as np
from scipy import stats

from .files import need


def intervals(results, by, metric, level=0.95):
    """Mean and confidence interval of a metric over the runs of each group.

    mean ± t · s / √n, with t the two-sided quantile of Student's t with n - 1 degrees of freedom
    and s the sample standard deviation. One run has a mean and no interval (NaN).

    Args:
        results: tidy, one row per run.
        by: columns that make a group.
        metric: column of numbers; missing ones do not count as runs.
        level: confidence, in (0, 1).

    Returns:
        DataFrame: the `by` columns, the mean under the metric's own name, `<metric>_low`,
        `<metric>_high`, runs; groups in order of appearance.

    Raises:
        ValueError: a column is missing or empty.

    Example:
        >>> import pandas as pd
        >>> runs = pd.DataFrame({"arm": ["a", "a", "a"], "accuracy": [0.7, 0.8, 0.9]})
        >>> intervals(runs, ["arm"], "accuracy").round(4).values.tolist()
        [['a', 0.8, 0.5516, 1.0484, 3]]
    """
    need(results, "intervals", *by, metric)
    grouped = results.groupby(list(by), sort=False, observed=True)[metric]
    table = grouped.agg(["mean", "std", "count"]).reset_index()
    runs = table["count"]
    half = stats.t.ppf((1 + level) / 2, runs - 1) * table["std"] / np.sqrt(runs)
    names = {metric: table["mean"], f"{metric}_low": table["mean"] - half}
    names |= {f"{metric}_high": table["mean"] + half, "runs": runs}
    return table[list(by)].assign(**names)
