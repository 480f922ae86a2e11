"""What a dataset is to do without from now on: recordings that were forgotten, known by salted hashes alone.

A hash tells whether a given id is one of them; the ids cannot be read off it. Who knows the salt can still try ids that he guesses.
"""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_HEX = 40


@dataclass(frozen=True)
class Forgotten:
    """Which recordings a dataset has forgotten.

    salt : hex digits, of the dataset's own
    recordings : hashes of their ids
    names : hashes of what a table can call them: their paths' ends, with and without the extension
    """

    salt: str = ""
    recordings: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.recordings)

    def holds(self, recording_id: str) -> bool:
        """Return whether a recording is forgotten. Composed and decomposed characters are the same ones."""
        return bool(self.recordings) and self._hash(f"id:{recording_id}") in self.recordings

    def names_one(self, source: str, name: str) -> bool:
        """Return whether a table's name of a recording of a source is one of those that are forgotten, as the join would find it."""
        if not self.names:
            return False
        plain = name.replace("\\", "/").removeprefix("./").lstrip("/")
        wanted = [f"end:{source}/{plain}", *(f"path:{source}/{end}" for end in _ends(plain))]
        return any(self._hash(text) in self.names for text in wanted)

    def with_more(self, recording_ids: Iterable[str]) -> Forgotten:
        """Return the same with other recordings beside them."""
        salted = self if self.salt else Forgotten(secrets.token_hex(16))
        ids = list(recording_ids)
        return Forgotten(
            salted.salt,
            self.recordings | {salted._hash(f"id:{i}") for i in ids},
            self.names | {salted._hash(text) for i in ids for text in _names(i)},
        )

    def _hash(self, text: str) -> str:
        plain = text if text.isascii() else unicodedata.normalize("NFC", text)
        return hashlib.sha256(f"{self.salt}\n{plain}".encode()).hexdigest()[:_HEX]


def _names(recording_id: str) -> Iterator[str]:
    source, _, path = recording_id.partition("/")
    stem = path.rpartition(".")[0] if "." in path.rpartition("/")[2] else path
    for whole in dict.fromkeys((path, stem)):
        yield f"path:{source}/{whole}"
        yield from (f"end:{source}/{end}" for end in _ends(whole))


def _ends(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[k:]) for k in range(len(parts)))
