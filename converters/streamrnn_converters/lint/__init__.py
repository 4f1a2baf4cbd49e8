"""Lint: what in a model file will not do in a stream what its author meant, and what can be repaired."""
