"""The model as a graph: which channel goes where, and copies of whole models."""
