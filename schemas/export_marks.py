"""The files that exports put into a dataset's root, and the marks by which `clipmill gc` knows them for clipmill's own."""

from __future__ import annotations

FOLDER_MARK = "clipmill-export.json"
"""A file in the folder of an export that has one of its own."""
CROISSANT_FILE = "croissant.json"
CROISSANT_MARK = "written by clipmill export"
CARD_FILE = "README.md"
"""Of a dataset for Hugging Face."""
CARD_MARK = "<!-- written by clipmill export; written over by the next one -->"
