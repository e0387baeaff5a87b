"""The model as a graph.

- channels/: which channel of which tensor is whose, and which units can only go together.
- copies.py: copies of whole models, with layers exchanged on the way.
"""
