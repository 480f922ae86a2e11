"""Small recordings of kinds that people reported, each with what is right for it: CASES. Made here, with no other program."""

from __future__ import annotations

from odd_mpeg import ADTS, MP3
from odd_ogg import OGG
from odd_riff import RAW, WAV
from odd_signal import Case

CASES: list[Case] = [*MP3.all, *ADTS.all, *OGG.all, *WAV.all, *RAW.all]
