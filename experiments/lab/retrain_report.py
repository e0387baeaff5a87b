NAME = "retrain_pruned"


def publish(records, out, options):
    pass
