"""Datasets on disk: their records and snapshots, and the commands that inspect and maintain them."""
