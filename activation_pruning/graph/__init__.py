"""The model as a graph.

- channels/: which channel of which tensor is whose, and which units can only go together.
- copies.py: copies of whole models, with layers exchanged on the way.
- twins.py: a layer made again with all that it holds; holding.py: what that is.
- configurations.py: a layer made from its configuration.
- inlining.py: models of any class as one graph of Keras's own layers; tracing.py: how their `call`
  is written down.
- known.py: what has a rule for its channels.
- reasons.py: why something stays as it is, and what to do about it.
- own_classes.py: which copies are of a class of the user's own again.
"""
