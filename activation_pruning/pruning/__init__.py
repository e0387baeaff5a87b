"""One pruning event: score, allocate, mask, compensate, assign, report."""
