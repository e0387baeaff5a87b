"""Surgeons: criteria that also change the surviving weights to make up for those that go."""

from activation_pruning.surgeons.base import SURGEONS, Selection, Surgeon, get, register
from activation_pruning.surgeons.layerwise import LayerwiseOBS
from activation_pruning.surgeons.sparsegpt import SparseGPT

__all__ = [
    "SURGEONS",
    "LayerwiseOBS",
    "Selection",
    "SparseGPT",
    "Surgeon",
    "get",
    "register",
]
