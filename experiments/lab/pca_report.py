NAME = "pruned_vs_pca"


def publish(records, out, options):
    pass
