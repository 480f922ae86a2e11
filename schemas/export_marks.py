"""Name the files that exports write into a dataset's root, and the marks by which `clipmill gc` recognizes them."""

from __future__ import annotations

FOLDER_MARK = "clipmill-export.json"
"""Name of a file that marks the folder of an export."""
CROISSANT_FILE = "croissant.json"
CROISSANT_MARK = "written by clipmill export"
CARD_FILE = "README.md"
"""The dataset card for Hugging Face."""
CARD_MARK = "<!-- written by clipmill export; written over by the next one -->"
