"""The work: the build and its steps, the graph on Ray, the decoding process."""
