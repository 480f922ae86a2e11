"""FFmpeg's libraries by PyAV: what libsndfile cannot read, or stops reading too early. From start to end only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO, Any

import av
import numpy as np
import numpy.typing as npt

from clipmill.schemas.config.audio_config import Track
from clipmill.stages.decode.readers.base import DecodeError, check_format, one_line
from clipmill.stages.decode.readers.timeline import Timeline
from clipmill.stages.decode.readers.tracks import choose

# The demuxer is named, never probed: FFmpeg would also open playlists that lead to other files.
DEMUXERS = {
    "wav": "wav", "flac": "flac", "ogg": "ogg", "mp3": "mp3", "mp4": "mov", "aiff": "aiff", "au": "au", "caf": "caf", "w64": "w64",
    "matroska": "matroska", "asf": "asf", "amr": "amr", "nist": "nistsphere", "voc": "voc", "aac": "aac", "avi": "avi", "iff": "iff",
    "wavpack": "wv", "tta": "tta", "ac3": "ac3", "eac3": "eac3", "dts": "dts", "ape": "ape", "musepack7": "mpc", "musepack8": "mpc8",
    "tak": "tak", "dsf": "dsf", "dsdiff": "iff", "mpegts": "mpegts", "mpegps": "mpeg", "flv": "flv", "realmedia": "rm",
    "shorten": "shn", "qcp": "qcp", "loas": "loas", "truehd": "truehd",
    "mlp": "mlp", "adx": "adx", "oma": "oma", "brstm": "brstm", "hca": "hca", "nut": "nut", "gsm": "gsm", "dss": "dss", "xwma": "xwma",
}  # fmt: skip
_COUNTED = frozenset({"wavpack", "tta", "ape", "tak", "dsf"})
"""Kinds whose header has the exact count of samples."""
_ENTRY_ERRORS = 512
"""How many packets of a stream that was recorded from the middle may be undecodable before the first that is whole."""


class FfmpegReader:
    """Reads one track of a file.

    Parameters
    ----------
    stream : seekable
    kind : of the container, a key of `DEMUXERS`
    n_frames : exact count that the recording has; more is cut off, less is for the caller to judge
    ignore_length : do not believe the header's length
    track : of clipmill.schemas.config.Audio
    gaps : fill | reject | ignore, what to do where the container's timeline has a hole
    has_clock : the container's times are to be followed, where its kind has any
    skip_frames : how many frames of what is decoded stand before the recording's first
    """

    name = "ffmpeg"
    exact_seek = False

    def __init__(
        self,
        stream: IO[bytes],
        kind: str,
        *,
        n_frames: int | None = None,
        ignore_length: bool = False,
        track: Track = "default",
        gaps: str = "fill",
        skip_frames: int = 0,
        has_clock: bool = True,
    ) -> None:
        self.n_frames = n_frames
        self.problem: str | None = None
        self._to_skip = skip_frames
        options = {"ignore_length": "1"} if ignore_length else {}
        try:
            self._container = av.open(
                _Unfailing(stream), mode="r", format=DEMUXERS[kind], metadata_errors="ignore", container_options=options
            )
        except (av.FFmpegError, ValueError) as error:
            raise DecodeError("undecodable", f"FFmpeg: {one_line(error)}") from None
        try:
            chosen = choose(self._container.streams.audio, track)
            self._timeline = Timeline(self._container, chosen.stream, kind if has_clock else "", gaps)
            self.remarks = [*chosen.remarks, *self._timeline.remarks]
            self._timeline.remarks = self.remarks
            self._blocks = self._decode(chosen.stream)
            self._rest = next(self._blocks, None)
        except DecodeError:
            self._container.close()
            raise
        if self._rest is None and self.problem is not None:
            self._container.close()
            raise DecodeError("undecodable", self.problem)
        if self._rest is None:
            self.sample_rate_hz, self.n_channels = int(chosen.stream.rate or 0), int(chosen.stream.channels or 0)
            self._rest = np.empty((0, max(1, self.n_channels)), np.float32)
            return
        self.sample_rate_hz, self.n_channels = self._rate, self._rest.shape[1]
        try:
            check_format(self.sample_rate_hz, self.n_channels)
        except DecodeError:
            self._container.close()
            raise
        if kind in _COUNTED and n_frames is None and chosen.stream.duration:
            self.n_frames = round(chosen.stream.duration * chosen.stream.time_base * self.sample_rate_hz)

    def _decode(self, stream: Any) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the track's samples, with silence where it has holes, up to its end or to where decoding breaks off."""
        self._rate = 0
        channels = n_errors = 0
        failed: str | None = None
        packets = self._packets(stream)
        for packet in packets:
            try:
                frames = packet.decode()
            except (av.FFmpegError, ValueError) as error:
                n_errors += 1
                if self._rate == 0 and n_errors <= _ENTRY_ERRORS:
                    continue
                failed = failed or f"FFmpeg: {one_line(error)}"
                continue
            if frames and failed is not None:  # what follows was not to be read over the damage
                self.problem = failed
                return
            for frame in frames:
                if self._rate == 0:
                    self._rate, channels = int(frame.sample_rate), int(frame.layout.nb_channels)
                elif (frame.sample_rate, frame.layout.nb_channels) != (self._rate, channels):
                    raise DecodeError(
                        "bad_format",
                        f"{self._rate} Hz, {channels} channels become {frame.sample_rate} Hz, {frame.layout.nb_channels} part way",
                    )
                yield from self._timeline.before(frame, channels)
                yield _to_float(frame, channels)
            self._timeline.packet_bytes = packet.size
        if self._rate == 0 and n_errors:
            failed = failed or "FFmpeg: no packet of the track can be decoded"
        # An error behind everything that the container declares is none: encoders leave empty packets there.
        if failed is not None and not self._timeline.is_complete:
            self.problem = failed
        elif self.problem is None:
            self.problem = self._timeline.shortfall()

    def _packets(self, stream: Any) -> Iterator[Any]:
        try:
            yield from self._container.demux(stream)
        except (av.FFmpegError, ValueError) as error:
            self.problem = f"FFmpeg: {one_line(error)}"

    def read_into(self, out: npt.NDArray[np.float32]) -> int:
        done = 0
        while done < len(out):
            if self._rest is None or len(self._rest) == 0:
                self._rest = next(self._blocks, None)
                if self._rest is None:
                    break
            if self._to_skip:
                n = min(self._to_skip, len(self._rest))
                self._rest, self._to_skip = self._rest[n:], self._to_skip - n
                continue
            n = min(len(self._rest), len(out) - done)
            out[done : done + n] = self._rest[:n]
            self._rest = self._rest[n:]
            done += n
        return done

    def seek(self, frame: int) -> None:
        raise NotImplementedError("FFmpeg's containers are read from start to end")

    def close(self) -> None:
        self._container.close()


class _Unfailing:
    """A file in which FFmpeg may go where it likes: a damaged header sends it to before the start, or beyond any file's end.

    Only what fails while bytes are read is storage's.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._size = stream.seek(0, os.SEEK_END)
        self._at = self._placed = stream.seek(0)

    def read(self, n: int) -> bytes:
        if self._at >= self._size:
            return b""
        if self._placed != self._at:
            self._stream.seek(self._at)
        content = self._stream.read(n)
        self._at += len(content)
        self._placed = self._at
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        place = offset + {0: 0, 1: self._at, 2: self._size}.get(whence, 0)
        if place < 0:
            return -1
        self._at = place
        return place

    def tell(self) -> int:
        return self._at


_DTYPES = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "s64": np.int64, "flt": np.float32, "dbl": np.float64}
"""Of FFmpeg's sample formats; with a `p` behind their names each channel lies by itself."""


def _to_float(frame: Any, channels: int) -> npt.NDArray[np.float32]:
    """Return a frame of any sample format as float32 [frames, channels]; whole numbers divided by their full scale.

    Not by `to_ndarray`: PyAV 18 takes eight planes for nine, and reads what is behind them.
    """
    n = int(frame.samples)
    dtype = np.dtype(_DTYPES[frame.format.packed.name])
    planes = frame.planes
    if frame.format.is_planar and channels > 1:
        data = np.stack([np.frombuffer(planes[c], dtype, n) for c in range(channels)], axis=1)
    else:
        data = np.frombuffer(planes[0], dtype, n * channels).reshape(n, channels)
    if dtype == np.uint8:
        return (data.astype(np.float32) - np.float32(128)) / np.float32(128)
    if dtype.kind == "i":
        return data.astype(np.float32) * np.float32(2.0 ** (1 - 8 * dtype.itemsize))
    # A copy, unless there is one: the frame's memory is FFmpeg's, to be used again.
    return data.astype(np.float32, copy=data.base is not None)
