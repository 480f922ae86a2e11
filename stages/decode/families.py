"""Versions of decoding by family of containers, as a listing tells them: by extension.

A version is raised when recordings of the family, or some of them, come out otherwise than before. It stands in the digest of
each of its items, so that a corpus of WAV keeps its keys when MP3 changes.
"""

from __future__ import annotations

_EXTENSIONS = {
    "mpeg": "mp3 mp2 mp1 mpga",
    "adts": "aac",
    "ogg": "ogg oga opus spx oggflac ogv ogx",
    "mp4": "m4a m4b m4r mp4 mov 3gp 3g2",
    "matroska": "mka mkv webm",
    "asf": "wma asf",
    "amr": "amr",
    "voc": "voc",
    "plain": "wav wave rf64 w64 bwf flac aif aiff aifc au snd caf sph nist sd2 iff svx",
}
_FAMILIES = {extension: family for family, listed in _EXTENSIONS.items() for extension in listed.split()}
VERSIONS = {"mpeg": 2, "adts": 2, "ogg": 2, "mp4": 2, "matroska": 2, "asf": 2, "amr": 1, "voc": 2, "plain": 1}
WALKED = frozenset({"mpeg", "adts", "ogg", "matroska", "asf"})
"""Families of which every byte is looked at before decoding begins."""
_OTHER = 2
"""Of files whose names do not tell what they are."""


def decode_version(extension: str) -> int:
    """Return the version of decoding for files of an extension, given in lower case without the dot."""
    family = _FAMILIES.get(extension)
    return VERSIONS[family] if family is not None else _OTHER


def is_walked(extension: str) -> bool:
    """Return whether files of an extension are read from start to end before they are decoded."""
    return _FAMILIES.get(extension) in WALKED
