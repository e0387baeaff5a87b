NAME = "nuclear_norm_equivalence"


def publish(records, out, options):
    pass
