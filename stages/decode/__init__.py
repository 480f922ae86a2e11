"""Decode: recordings to float32 PCM."""

from clipmill.stages.decode.decoding import Decode
from clipmill.stages.decode.source import DecodeSource

__all__ = ["Decode", "DecodeSource"]
