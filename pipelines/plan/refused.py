"""The error that rejects one recording or annotation while planning."""

from __future__ import annotations


class RefusedError(Exception):
    """A recording or an annotation is rejected while planning. reason : a code of `clipmill.schemas.reasons`"""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(detail)
