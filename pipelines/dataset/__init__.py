"""Datasets as they lie on disk: records, snapshots, and what looks after them."""
