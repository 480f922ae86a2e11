"""Seal the JSON records of a dataset with the sha256 of their own bytes, so that a changed character is found when a record is read."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from clipmill.schemas.errors import BadRecordError

SEAL = "sha256"
"""The last key of a sealed record: the sha256 of the record's bytes without the line of this key."""
_END = b"\n}\n"
_LINE = re.compile(rb',\n "sha256": "([0-9a-f]{64})"\n\}\n\Z')


def sealed(record: dict[str, Any]) -> bytes:
    """Return a record as JSON that ends in its own digest. record : at least one key, none of which is `SEAL`"""
    body = (json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
    line = f',\n "{SEAL}": "{hashlib.sha256(body).hexdigest()}"'.encode()
    return body.removesuffix(_END) + line + _END


def unsealed(content: bytes, must_be_sealed: bool = False) -> dict[str, Any]:
    """Return the record in JSON, without its digest.

    must_be_sealed : whether a record that says to be older than digests is refused

    Raises
    ------
    BadRecordError : a byte differs from what was written, or the digest is missing
    ValueError, RecursionError : it is not JSON
    """
    line = _LINE.search(content, max(0, len(content) - 128))
    if line is not None:
        body = content[: line.start()] + _END
        if hashlib.sha256(body).hexdigest() != line[1].decode():
            raise BadRecordError("its content is not what was written: it does not have the sha256 that it names")
        content = body
    record = json.loads(content)
    if not isinstance(record, dict):
        raise BadRecordError("it should hold an object with keys and values")
    if line is None and (SEAL in record or must_be_sealed or record.get("format_version", 1) != 1):
        raise BadRecordError("its last line should be its sha256")
    return record
