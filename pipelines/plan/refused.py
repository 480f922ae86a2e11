"""The error by which planning rejects one recording or annotation."""

from __future__ import annotations


class RefusedError(Exception):
    """A recording or an annotation that is rejected while it is planned. reason : a code of clipmill.schemas.reasons."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(detail)
