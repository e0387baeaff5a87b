"""Sparse training on live sites: where weights can change places, and the masks that come of it."""

import numpy as np

from activation_pruning import masks, regrowth
from activation_pruning.pruning import report


def check_sites(live_sites, needs, regrow=None):
    """Raise where there are no gradients, of weights that need them.

    Args:
        live_sites: from `sites.find`.
        needs: what will be tracked, names in `tracking.TRACKED`.
        regrow: a rule of `regrowth`, or None.

    Raises:
        ValueError: names the layers and says what to do.
    """
    frozen = [site.path for site in live_sites if not site.variable.trainable]
    if frozen and (needs or regrow is not None):
        raise ValueError(
            f"{frozen} are frozen (trainable=False): there are no gradients, and a weight grown "
            "there would stay zero. Leave these layers out by exclude=."
        )
    wrapped = [site.path for site in live_sites if site.mask_variable is not None]
    if wrapped and "last_gradient" in needs:
        raise ValueError(
            f"the gradients of pruned weights are hidden by PrunedLayer in {wrapped}. Use the "
            "plain model, ap.strip(model), or regrow='set'."
        )


def exchanged(rule, live_sites, alive, seed, statistics, fraction, time, missing):
    """New masks after an exchange in every site.

    Args:
        rule: of `regrowth`.
        live_sites: the sites.
        alive: {site name: bool array}, True where a weight is alive now.
        seed: for rules that are random.
        statistics: {site name: {name: array}}, what the rule needs.
        fraction: of the alive weights of a site.
        time: of the exchange, in the unit of the schedule.
        missing: {site name: how many weights more to grow}.

    Returns:
        {site name: bool array}.
    """
    chosen = {}
    for site in live_sites:
        seen = site.snapshot(alive[site.name], None, seed, statistics.get(site.name))
        scores = rule.scores(seen, time)
        chosen[site.name] = regrowth.exchange(seen, fraction, scores, missing[site.name])
    return chosen


def missing(live_sites, alive, target, allocation):
    """How many weights each site lacks of its share of `target`: {site name: count}.

    For masks that were read from weights just loaded: a weight that was grown and never moved is
    a zero there and looks pruned.
    """
    whole = [site.snapshot(np.ones_like(alive[site.name])) for site in live_sites]
    scores = {seen.name: np.abs(seen.kernel) for seen in whole}
    wanted = masks.select(whole, scores, target, "weight", allocation)
    return regrowth.shortfall(alive, wanted)


def restored(live_sites, alive):
    """The masks of weights restored from another epoch, when they are as sparse; else None.

    Args:
        live_sites: the sites.
        alive: {site name: bool array}, the masks in force.

    Returns:
        {site name: bool array}; None when no weight lives outside of `alive`, or when a site has
        more of them than it may.
    """
    found = report.alive_masks(live_sites)
    if all((found[name] <= mask).all() for name, mask in alive.items()):
        return None
    fitting = all(found[name].sum() <= mask.sum() for name, mask in alive.items())
    return found if fitting else None
