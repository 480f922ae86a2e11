"""Clip stages by the name of their module: what `clips:` in a configuration names."""
