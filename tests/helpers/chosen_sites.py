"""What the tests of sites share: names of what is found, and a model without a graph."""

import keras
import numpy as np
from keras import layers

from activation_pruning import sites


def sequential(*parts, shape=(6,)):
    return keras.Sequential([keras.Input(shape), *parts])


def names(model, **chosen):
    return [site.name for site in sites.find(model, **chosen).sites]


def skipped(model, **chosen):
    return dict(sites.find(model, **chosen).skipped)


class Mlp(keras.Model):
    """A subclassed model: no graph, layers in a list."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.blocks = [layers.Dense(5, activation="relu", name=f"block_{i}") for i in range(2)]
        self.head = layers.Dense(2, name="head")

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def built(model, *shape):
    model(np.zeros(shape, "float32"))
    return model
