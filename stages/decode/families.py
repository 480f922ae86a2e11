"""Versions of decoding by family of containers. The family follows from a file's extension, which a listing shows.

A version is raised when some recordings of the family are decoded differently than before. It is part of the digest of each item
of that family, so a corpus of WAV files keeps its keys when the decoding of MP3 changes.
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
_FAMILIES = {extension: family for family, extensions in _EXTENSIONS.items() for extension in extensions.split()}
VERSIONS = {"mpeg": 2, "adts": 2, "ogg": 2, "mp4": 2, "matroska": 2, "asf": 2, "amr": 1, "voc": 2, "plain": 1}
WALKED = frozenset({"mpeg", "adts", "ogg", "matroska", "asf"})
"""Families whose files are read completely before decoding begins."""
_OTHER = 2
"""Version for files whose extension is not known."""


def decode_version(extension: str) -> int:
    """Return the version of decoding for files of an extension, given in lower case without the dot."""
    family = _FAMILIES.get(extension)
    return VERSIONS[family] if family is not None else _OTHER


def is_walked(extension: str) -> bool:
    """Return whether files of an extension are read from start to end before they are decoded."""
    return _FAMILIES.get(extension) in WALKED
