"""Annotations: files of rows about recordings, read and joined to the recordings."""
