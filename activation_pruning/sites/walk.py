"""The only walker over a model's layers: finds its sites, and what has none."""

import keras

from activation_pruning import keras_private
from activation_pruning.sites import active_outputs, kernels, layer_classes, models, quantizers
from activation_pruning.sites.site import Found, LiveSite
from activation_pruning.support.names import unused

_L = keras.layers


def walked(model: keras.Layer) -> Found:
    """Every site of a built model or layer, and [(layer, reason)] of weights that are none."""
    walk = _Walk()
    walk.visit(model, "" if isinstance(model, keras.Model) else model.name)
    return Found(walk.sites, list(dict.fromkeys(walk.skipped)))


class _Walk:
    """One pass over a model; keeps what was found and what was left out."""

    def __init__(self):
        self.sites, self.skipped, self._seen, self._names = [], [], set(), set()

    def visit(self, layer, path, graph=frozenset(), outer=(), wrapper=None):
        """Collect the sites of `layer` and of everything inside it.

        `graph` is the innermost graph around it, `outer` the wrappers that stand for it there,
        `wrapper` the one that multiplies its kernels.
        """
        if id(layer) in self._seen:
            return  # shared layers are found once
        self._seen.add(id(layer))
        described = kernels.of(layer)
        if described is not None and not self._add(layer, path, described, graph, outer, wrapper):
            return
        multiplies = models.multiplies(layer)
        if not multiplies and described != []:
            self._note_others(layer, path, described is not None)
        children = keras_private.sublayers(layer)
        if isinstance(layer, _L.RNN):  # a cell is never called on its own
            children = [child for child in children if child is not layer.cell]
        wrapper = layer if multiplies else wrapper
        outer = (*outer, layer) if multiplies or isinstance(layer, layer_classes.WRAPPERS) else ()
        for child in children:
            inner = path if multiplies else f"{path}/{child.name}".lstrip("/")
            self.visit(child, inner, models.operations(layer) or graph, outer, wrapper)

    def _add(self, layer, path, described, graph, outer, wrapper):
        """Take the registered kernels of `layer`; False where it can't be pruned as it is."""
        reason = _refusal(layer)
        if reason:
            self.skipped.append((path, reason))
            return False
        for kernel in described:
            variable = kernel.variable(layer)
            if variable is None:
                self.skipped.append((path, f"`{kernel.attribute}` is not a plain variable"))
            elif id(variable) not in self._seen:
                self._seen.add(id(variable))
                if reason := quantizers.refusal(layer, kernel):
                    self.skipped.append((path, reason))
                    continue
                # Units that never show are seen in those that do.
                shown = kernel if kernel.observed else described[-1]
                self.sites.append(
                    LiveSite(
                        name=unused(f"{path}/{kernel.attribute.split('.')[-1]}", self._names, 2),
                        path=path,
                        layer=layer,
                        variable=variable,
                        units=kernel.unit_index(variable.shape),
                        input_axis=kernel.input_axis,
                        source=active_outputs.find(layer, shown, graph, outer),
                        observed=kernel.observed,
                        wrapper=wrapper,
                    )
                )
        return True

    def _note_others(self, layer, path, registered):
        """Note the matrices of the layer itself that are no sites."""
        parts = keras_private.sublayers(layer)
        if isinstance(layer, _L.RNN):  # nobody else notes those of the cell
            inside = keras_private.with_sublayers(layer)
            parts = [part for part in inside if kernels.of(part) == []]
        known = self._seen | {id(variable) for child in parts for variable in child.weights}
        others = [w for w in layer.trainable_weights if len(w.shape) > 1 and id(w) not in known]
        kind = type(layer).__name__
        if registered:
            self.skipped.extend(
                (path, f"`{w.name}` is not registered as a kernel of {kind}; see sites.register")
                for w in others
                if w.name != "bias"  # a GRU's has two axes
            )
        elif others:
            self.skipped.append((path, f"no site registered for {kind}; see sites.register"))


def _refusal(layer):
    """Why the weights of `layer` cannot be pruned as they are, or None."""
    if getattr(layer, "lora_enabled", False):
        return "LoRA is enabled: the kernel is a sum; merge it (save and reload) before pruning"
    mode = getattr(layer, "quantization_mode", None)
    if mode:
        return f"quantised to {mode}: prune the float model first, then quantise"
    if not layer.built:
        return "not built: call the model on data once"
    return None
