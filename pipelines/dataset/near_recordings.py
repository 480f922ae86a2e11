"""Suggest recordings for an id that is not in a dataset. Forgetting cannot be undone, so only close matches are suggested."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping, Sequence

from clipmill.pipelines.dataset.records_io import snapshot_numbers
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.layout import SNAPSHOTS, snapshot_name
from clipmill.stages.storage.root import Root

_SHOWN, _NEAR, _COMPARED = 10, 3, 20_000
_ALIKE, _ALIKE_PART = 0.9, 0.75
Addresses = Callable[[Sequence[str]], Mapping[str, Collection[str]]]


def unknown_recordings_error(
    root: Root, unknown: Sequence[str], known: Collection[str], addresses: Addresses
) -> ConfigError:
    """Return an error that recordings are not in a dataset, with suggestions, and with the place where the ids can be found.

    addresses : returns the addresses that recordings were read from, by id
    """
    messages = []
    for recording in unknown[:_SHOWN]:
        near = suggest_recordings(recording, known, addresses)
        hint = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
        messages.append(f"recording {recording!r} is not in this dataset{hint}")
    more = f"; and {len(unknown) - _SHOWN} more unknown ids" if len(unknown) > _SHOWN else ""
    numbers = snapshot_numbers(root)
    manifest = f"{SNAPSHOTS}/{snapshot_name(numbers[-1])}/manifest.parquet" if numbers else ""
    file = (
        root.uri(manifest)
        if manifest and root.exists(manifest)
        else f"the manifest that `clipmill show {root.url} --manifest FILE` writes"
    )
    where = f" of {file}, and of the tables that `clipmill export {root.url} csv` writes" if numbers else ""
    return ConfigError(
        f"{'; '.join(messages)}{more}: a recording's id is SOURCE/PATH, as in the column recording_id{where}",
        code="root.unknown_recording",
    )


def suggest_recordings(text: str, known: Collection[str], addresses: Addresses) -> list[str]:
    """Return up to three ids that may be meant: of recordings at this address or with this ending, else with a similar spelling."""
    plain = text.replace("\\", "/").removeprefix("./")
    matches = _match_address(plain, known)
    if matches:
        read_from = addresses(matches)
        read_there = [k for k in matches if plain in read_from.get(k, ())]
        # A file's name alone does not identify a file in another place.
        matches = read_there or [k for k in matches if k.count("/") > 1]
    if not matches:
        matches = [k for k in known if k.endswith(f"/{plain.lstrip('/')}")] if plain.strip("/") else []
    if not matches:
        name = plain.rpartition("/")[2]
        same = [k for k in known if name and k.rpartition("/")[2] == name]
        matches = same if len(same) == 1 else []
    return sorted(matches)[:_NEAR] or _spelt_alike(plain, known)


def _match_address(address: str, known: Collection[str]) -> list[str]:
    """Return the recordings whose path is the longest one that the address ends with."""
    ends = {k: path for k in known if (path := k.partition("/")[2]) and address.endswith(f"/{path}")}
    longest = max(map(len, ends.values()), default=0)
    # An unknown id such as s/nope/a.wav is not an address: it would match every a.wav.
    is_address = address.startswith("/") or "://" in address
    return [k for k, path in ends.items() if len(path) == longest] if is_address else []


def _spelt_alike(text: str, known: Collection[str]) -> list[str]:
    """Return ids that differ by a typing error, but not in a number, because numbers distinguish recordings."""
    numbers, parts = re.findall(r"\d+", text), text.split("/")
    near = difflib.get_close_matches(text, sorted(known)[:_COMPARED], _NEAR, _ALIKE)
    return [k for k in near if re.findall(r"\d+", k) == numbers and _are_like(parts, k.split("/"))]


def _are_like(a: list[str], b: list[str]) -> bool:
    """Return whether the parts of two ids are similar one by one: a different folder is not a typing error."""
    return len(a) == len(b) and all(
        difflib.SequenceMatcher(None, x, y).ratio() >= _ALIKE_PART for x, y in zip(a, b, strict=True)
    )
