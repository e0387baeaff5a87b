"""A few of the random cases; tests/helpers/random_cases.py runs hundreds of thousands."""

import numpy as np
import random_cases
import selection_rules

from activation_pruning.sites import Site


def test_selection_and_amounts_follow_the_rules():
    assert random_cases.failures(cases=300, of_amounts=150, seed=1) == []


def test_the_judge_sees_one_weight_too_many_or_too_few():
    kernel = np.array([[1.0, 2.0], [3.0, 4.0]])
    site = Site("a", "a", kernel, kernel > 0, np.arange(2)[None])
    case = selection_rules.Case([site], {"a": kernel}, 0.5, "weight", "global")
    masks, _ = random_cases.selected(case)
    items = selection_rules.items_of(case)
    assert selection_rules.expected(case) == {("a", 0), ("a", 1)}
    assert random_cases.judge_selection(case) is None
    for wrong in ({("a", 0)}, {("a", 0), ("a", 1), ("a", 2)}):
        assert f"{len(wrong)} are pruned" in random_cases.judge_count(case, wrong, [])
    for wrong in ({("a", 1)}, {("a", 0), ("a", 2)}):
        assert "before a lower one" in random_cases.judge_masks(case, masks, wrong)
    assert "holds 3.0" in random_cases.judge_bucket(case, items, {("a", 0), ("a", 1)}, 2.9)
    assert "could hold" in random_cases.judge_bucket(case, items, {("a", 0)}, 3.5)
