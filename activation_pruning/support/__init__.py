"""Support: what everything above uses.

checks.py: numbers in their range; names.py: "did you mean"; files.py: written whole or not at all;
settings.py: what repeats a run; optional.py: which extra to install; counts.py: how many weights
are pruned; cuts.py: the k-th lowest of many numbers; progress.py, types.py.
"""
