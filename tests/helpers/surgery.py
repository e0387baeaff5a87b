"""Small problems for surgeons, and the reference: invert the reduced Hessian at every step."""

import keras
import models
import numpy as np

import activation_pruning as ap
from activation_pruning import masks
from activation_pruning.evidence.inputs import InputHessian
from activation_pruning.sites import Site
from activation_pruning.sites.unfolding import Unfolding
from activation_pruning.surgeons import Selection
from activation_pruning.surgeons.problems import Problem


def hessian_of(inputs, seed=0, samples=50):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(samples, inputs)) @ generator.normal(size=(inputs, inputs))
    return x.T @ x / samples


def site_of(kernel, hessian, name="a", mask=None, rows=1000):
    """A Dense site of (inputs, units) weights with its Hessian."""
    shape = kernel.shape
    unfolding = Unfolding("inputs x units", shape, (0, 1), (1, *shape), False)
    found = InputHessian(unfolding, np.asarray(hessian)[None], rows)
    mask = np.ones(shape, bool) if mask is None else mask
    units = np.arange(shape[1])[None]
    return Site(name, name, kernel * mask, mask, units, 0, None, 0, {"input_hessian": found})


def selection(sparsity, granularity="weight", allocation="global"):
    chosen = ap.allocations.get(allocation)
    return Selection(sparsity, masks.granularity(granularity), chosen)


def brute_force(problems, budget):
    """[(problem, unit, weight)] in the order of removal, and the weights that are left.

    problems: [(hessian, weights of shape (units, inputs), alive)].
    """
    weights = [np.array(w, np.float64) for _, w, _ in problems]
    alive = [np.array(a) for _, _, a in problems]
    order = []
    for _ in range(budget):
        least = None
        for i, (hessian, _, _) in enumerate(problems):
            for unit in range(len(weights[i])):
                index = np.flatnonzero(alive[i][unit])
                if not len(index):
                    continue
                inverse = np.linalg.inv(hessian[np.ix_(index, index)])
                errors = weights[i][unit, index] ** 2 / (2 * np.diagonal(inverse))
                p = int(errors.argmin())
                if least is None or errors[p] < least[0]:
                    change = -weights[i][unit, index[p]] / inverse[p, p] * inverse[:, p]
                    least = errors[p], i, unit, index[p], index, change
        _, i, unit, p, index, change = least
        weights[i][unit, index] += change
        weights[i][unit, p] = 0
        alive[i][unit, p] = False
        order.append((i, unit, int(p)))
    return order, weights


def two_layers(seed=0):
    generator = np.random.default_rng(seed)
    return [
        (hessian_of(7, seed), generator.normal(size=(3, 7)), np.ones((3, 7), bool)),
        (hessian_of(5, seed + 1), generator.normal(size=(4, 5)), np.ones((4, 5), bool)),
    ]


def sites_of(problems):
    return [
        site_of(w.T, hessian, name, a.T)
        for (hessian, w, a), name in zip(problems, "ab", strict=False)
    ]


def as_problems(problems):
    return [Problem("a", *problem) for problem in problems]


def small_network(activation="relu", bias=True):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(5, activation, use_bias=bias, name="a"),
            keras.layers.Dense(6, activation, use_bias=bias, name="b"),
            keras.layers.Dense(3, "softmax", use_bias=bias, name="out"),
        ]
    )
    generator = np.random.default_rng(5)
    for layer in model.layers:
        if bias:
            layer.bias.assign(generator.normal(size=layer.bias.shape))
    x = (generator.normal(size=(300, 8)) @ generator.normal(size=(8, 8)) / 2).astype("float32")
    models.compiled(model)
    return model, ap.sites.find(model).sites, x, generator.integers(0, 3, 300)
