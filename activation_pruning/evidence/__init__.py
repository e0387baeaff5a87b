"""What criteria need to know of a model, gathered: inputs, gradients, curvature, significance."""
