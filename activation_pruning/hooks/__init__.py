"""What is attached to a live model while it trains, and taken off again.

attachment: `attachment(model)`, through which callbacks ask, and `detach(model)`, which ends it.
counting: what the units do. tracking: what the gradients say. masking: what keeps pruned weights
at zero, and what becomes of their momentum (`assign_mask`). silencing: what goes with a dead unit.
"""
