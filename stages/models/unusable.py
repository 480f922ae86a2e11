"""Define the errors about models."""

from __future__ import annotations


class UnusableModelError(Exception):
    """The file is no model that can be run here. The text says why, and what to do."""


class ModelRaisedError(Exception):
    """The model raised an error for a batch."""


class ModelDiedError(Exception):
    """The model's process crashed, took too long or too much memory, and was ended."""
