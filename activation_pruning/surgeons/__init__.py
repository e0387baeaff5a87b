"""Surgeons: criteria that also change the surviving weights to make up for those that go."""

from activation_pruning.surgeons.base import SURGEONS, Selection, Surgeon, get, register
from activation_pruning.surgeons.full import OptimalBrainSurgeon
from activation_pruning.surgeons.layerwise import LayerwiseOBS
from activation_pruning.surgeons.sparsegpt import SparseGPT
from activation_pruning.surgeons.units import UnitOBS

__all__ = [
    "SURGEONS",
    "LayerwiseOBS",
    "OptimalBrainSurgeon",
    "Selection",
    "SparseGPT",
    "Surgeon",
    "UnitOBS",
    "get",
    "register",
]
