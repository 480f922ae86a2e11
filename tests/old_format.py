"""Make records as an older clipmill wrote them, and records that are changed and sealed again."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from clipmill.schemas.seal import SEAL, sealed


def plain_of(path: Path) -> dict[str, Any]:
    """Return what a record says, without its digest."""
    record = json.loads(path.read_bytes())
    record.pop(SEAL, None)
    return record


def rewrite(path: Path, **changes: Any) -> None:
    """Change fields of a record and seal it again, as somebody would who knows how."""
    path.write_bytes(sealed({**plain_of(path), **changes}))


def unseal(path: Path, **changes: Any) -> dict[str, Any]:
    """Write a record as one of format version 1, and return it."""
    plain = {**plain_of(path), "format_version": 1, **changes}
    path.write_text(json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return plain


def as_version_1(root: Path) -> None:
    """Turn a small dataset into what an older clipmill would have left of it, but for the width of its clips' ids."""
    unseal(root / "dataset.json")
    for path in root.glob("commits/*.json"):
        plain = plain_of(path)
        for output in plain["outputs"]:
            output.pop("range_ends", None)
            output.pop("range_sha256", None)
        unseal(path, outputs=plain["outputs"])
    for path in root.glob("snapshots/*.json"):
        plain = plain_of(path)
        for name in ("parts", "clip_id_bits"):
            plain.pop(name, None)
        plain["files"].pop("left_out", None)
        (path.with_suffix("") / "left_out.parquet").unlink(missing_ok=True)
        path.write_bytes(sealed(plain))
        unseal(path)
    shutil.rmtree(root / "index", ignore_errors=True)
    for name in ("retries", "forgotten"):
        path = root / f"{name}.json"
        if path.exists():
            plain = plain_of(path)
            plain.pop("format_version")
            path.write_text(json.dumps(plain.get("retries", plain), indent=1) + "\n")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
