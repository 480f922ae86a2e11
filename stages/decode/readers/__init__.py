"""Two decoders with one interface: libsndfile (soundfile) and FFmpeg (PyAV). Both return float32 frames and count them."""

from clipmill.stages.decode.readers.base import DecodeError, Reader
from clipmill.stages.decode.readers.ffmpeg import DEMUXERS, FfmpegReader
from clipmill.stages.decode.readers.parts import PartsReader
from clipmill.stages.decode.readers.sndfile import SoundFileReader

__all__ = ["DEMUXERS", "DecodeError", "FfmpegReader", "PartsReader", "Reader", "SoundFileReader"]
