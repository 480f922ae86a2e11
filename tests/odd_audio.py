"""Small recordings of kinds that people reported, each with what is right for it: CASES. Made here, with no other program."""

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
