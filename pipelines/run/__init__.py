"""Builds: their steps, the graph on Ray, and the decoding process."""
