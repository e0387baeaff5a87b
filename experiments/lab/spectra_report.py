NAME = "spectra_under_pruning"


def publish(records, out, options):
    pass
