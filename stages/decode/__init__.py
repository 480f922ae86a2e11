"""Decode: recordings to float32 PCM."""

from stages.decode.recording import DecodeSource
from stages.decode.stage import Decode

__all__ = ["Decode", "DecodeSource"]
