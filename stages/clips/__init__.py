"""Clip stages. Their module names are the names in the list `clips` of a configuration."""
