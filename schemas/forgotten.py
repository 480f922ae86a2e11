"""Remember, by salted hashes, which recordings a dataset must never use again.

A hash answers whether a given id was forgotten, but does not reveal the id. Anyone who knows the salt can still test guessed ids.
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
    """Hold the recordings that a dataset has forgotten.

    salt : hexadecimal digits, different in each dataset
    recordings : hashes of their ids
    names : hashes of the names that a table can use for them: the ends of their paths, with and without the extension
    """

    salt: str = ""
    recordings: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.recordings)

    def holds(self, recording_id: str) -> bool:
        """Return whether a recording is forgotten. Composed and decomposed characters count as equal."""
        return bool(self.recordings) and self._hash(f"id:{recording_id}") in self.recordings

    def names_one(self, source: str, name: str) -> bool:
        """Return whether a table's name for a recording of a source means a forgotten one, by the rules of the join."""
        if not self.names:
            return False
        plain = name.replace("\\", "/").removeprefix("./").lstrip("/")
        wanted = [f"end:{source}/{plain}", *(f"path:{source}/{end}" for end in _ends(plain))]
        return any(self._hash(text) in self.names for text in wanted)

    def with_more(self, recording_ids: Iterable[str]) -> Forgotten:
        """Return these recordings and others."""
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
    for name in dict.fromkeys((path, stem)):
        yield f"path:{source}/{name}"
        yield from (f"end:{source}/{end}" for end in _ends(name))


def _ends(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[k:]) for k in range(len(parts)))
