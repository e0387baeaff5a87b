"""What criteria need to know of a model, gathered.

- statistic.py: how a statistic declares what it takes; gathering.py: gathers those that are needed.
- gradients.py, curvature.py: first and second derivatives of the loss. autodiff.py: derivatives on
  every backend; sample_gradients.py: of every sample; logits.py: what the loss does to the logits.
- inputs.py: norms and second moments of a layer's inputs. significance.py: how excited nodes are.
- consumers.py: the layers that take a unit's output.
- batches.py: inputs and labels, whatever form they come in; reading.py: how far they are read;
  fitting.py: whether they are such as a model takes.
- probes.py: what flows through a model.
- spectrum.py: singular values of a kernel, and its norms.
"""

from activation_pruning.evidence import consumers, curvature, gradients, inputs, significance

__all__ = ["consumers", "curvature", "gradients", "inputs", "significance"]  # they register theirs
