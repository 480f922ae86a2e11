"""Read and write `dataset.json`, which says that a root is a dataset, its name, and what all of its builds must agree on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from clipmill.schemas.errors import BadRecordError, ClipmillError, describe_bad_record
from clipmill.schemas.keys import CLIP_ID_BITS, OLD_CLIP_ID_BITS
from clipmill.schemas.layout import DATASET_FILE, FORMAT_VERSION
from clipmill.schemas.seal import sealed, unsealed
from clipmill.stages.storage.root import Root


@dataclass(frozen=True)
class Identity:
    """What `dataset.json` says.

    name : of the dataset
    clip_id_bits : width of the hash in the ids of clips; 48 in datasets that an older clipmill began
    format_version : of the dataset's records
    """

    name: str
    clip_id_bits: int = OLD_CLIP_ID_BITS
    format_version: int = FORMAT_VERSION

    def to_json(self) -> bytes:
        """Return the record as the file `dataset.json`."""
        width = {} if self.clip_id_bits == OLD_CLIP_ID_BITS else {"clip_id_bits": self.clip_id_bits}
        return sealed({"format_version": self.format_version, "name": self.name, **width})


def claim_root(root: Root, name: str, clip_id_bits: int = CLIP_ID_BITS) -> Identity:
    """Make a root the dataset of this name, or check that it already is. Return what all builds there must agree on.

    clip_id_bits : of a new dataset

    Raises
    ------
    ClipmillError : the root holds another dataset, or one of another format version
    """
    identity = Identity(name, clip_id_bits)
    _check_not_lost(root)
    if root.create_bytes(DATASET_FILE, identity.to_json()):
        return identity
    return _checked(root, name)


def identity_for(root: Root, name: str, clip_id_bits: int = CLIP_ID_BITS) -> Identity:
    """Return what a build would find or write, as `claim_root` does, but write nothing. Raises ClipmillError likewise."""
    if root.exists(DATASET_FILE):
        return _checked(root, name)
    _check_not_lost(root)
    return Identity(name, clip_id_bits)


def upgrade_identity(root: Root) -> None:
    """Write `dataset.json` in the present format, after which older versions of clipmill refuse the dataset."""
    found = read_identity(root)
    if found.format_version < FORMAT_VERSION:
        root.write_bytes(DATASET_FILE, Identity(found.name, found.clip_id_bits).to_json())


def _check_not_lost(root: Root) -> None:
    """Raise ClipmillError if there are snapshots and no `dataset.json`: a new one could say other than the old one did."""
    from clipmill.pipelines.dataset.records_io import newest_readable, snapshot_numbers  # which needs this module

    # A listing comes first: a store says why it refuses one, but not why it refuses to say whether a file exists.
    if snapshot_numbers(root) and not root.exists(DATASET_FILE) and newest_readable(root) is not None:
        raise ClipmillError(_repair(root, "it is missing"), code="root.damaged")


def _checked(root: Root, name: str) -> Identity:
    found = read_identity(root)
    if found.name != name:
        raise ClipmillError(
            f"{root.url} holds the dataset {found.name!r}, not {name!r}; choose another output.root or name",
            code="root.other_dataset",
        )
    return found


def dataset_name(root: Root) -> str:
    """Return the name of the dataset under a root. Raises ClipmillError as `read_identity` does."""
    return read_identity(root).name


def read_identity(root: Root) -> Identity:
    """Read `dataset.json`.

    Raises
    ------
    ClipmillError : the root is not a dataset, or of a format version that this clipmill cannot read
    """
    try:
        content = root.read_bytes(DATASET_FILE)
    except (FileNotFoundError, ValueError):  # a name with a null byte
        raise ClipmillError(
            f"{root.url} is not a clipmill dataset: it has no {DATASET_FILE}; give the output.root of a build",
            code="root.not_a_dataset",
        ) from None
    try:
        record = unsealed(content)
        version, name = _whole(record, "format_version"), record["name"]
        bits = _whole(record, "clip_id_bits") if "clip_id_bits" in record else OLD_CLIP_ID_BITS
        if not isinstance(name, str) or bits not in (OLD_CLIP_ID_BITS, CLIP_ID_BITS):
            raise BadRecordError("name or clip_id_bits has a value that it cannot have")
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        newer = _newer(content)
        if newer is None:
            raise ClipmillError(_repair(root, describe_bad_record(error)), code="root.damaged") from None
        version = newer
    if version > FORMAT_VERSION:
        raise ClipmillError(
            f"{root.url}: it has format version {version}, but this clipmill reads up to {FORMAT_VERSION}; use a newer clipmill",
            code="root.newer_format",
        )
    return Identity(name, bits, version)


def _whole(record: dict[str, Any], key: str) -> int:
    value = record[key]
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadRecordError(f"{key} should be a whole number")
    return value


def _newer(content: bytes) -> int | None:
    """Return the format version of a record that a newer clipmill may have sealed in another way, None if it is not newer."""
    try:
        version = int(json.loads(content)["format_version"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return version if version > FORMAT_VERSION else None


def _repair(root: Root, why: str) -> str:
    """Return what is wrong, and the content that the file should have, by the newest snapshot that can be read."""
    from clipmill.pipelines.dataset.records_io import newest_readable  # which needs this module

    snapshot = newest_readable(root)
    remedy = "restore the original file"
    if snapshot is not None:
        bits = snapshot.clip_id_bits
        record = {
            "format_version": 1,
            "name": snapshot.name,
            **({"clip_id_bits": bits} if bits != OLD_CLIP_ID_BITS else {}),
        }
        remedy += f", or write this into it, by snapshot {snapshot.number}: {json.dumps(record, ensure_ascii=False)}"
    return f"{root.uri(DATASET_FILE)}: damaged ({why}); {remedy}"
