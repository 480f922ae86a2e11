"""CASES: small recordings of kinds that users reported, each with the right outcome. They are generated here, without other programs."""

from __future__ import annotations

from odd_boxes import BOXES, TIME, TRACKS
from odd_kinds import CHUNKS, FLAC, KINDS
from odd_mpeg import ADTS, MP3
from odd_ogg import OGG
from odd_riff import RAW, WAV
from odd_signal import Case

CASES: list[Case] = [
    case for some in (MP3, ADTS, OGG, WAV, RAW, CHUNKS, FLAC, BOXES, TIME, TRACKS, KINDS) for case in some.all
]
