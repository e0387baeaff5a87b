"""Support: checks of arguments, names, progress, files. It knows nothing of pruning."""
