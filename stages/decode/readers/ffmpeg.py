"""Read with FFmpeg's libraries, through PyAV: files that libsndfile cannot read or would read only in part. From start to end only."""

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
from clipmill.stages.decode.readers.tracks import choose_track

# FFmpeg is told the demuxer. If it probed, it would also open playlists that lead to other files.
DEMUXERS = {
    "wav": "wav", "flac": "flac", "ogg": "ogg", "mp3": "mp3", "mp4": "mov", "aiff": "aiff", "au": "au", "caf": "caf", "w64": "w64",
    "matroska": "matroska", "asf": "asf", "amr": "amr", "nist": "nistsphere", "voc": "voc", "aac": "aac", "avi": "avi", "iff": "iff",
    "wavpack": "wv", "tta": "tta", "ac3": "ac3", "eac3": "eac3", "dts": "dts", "ape": "ape", "musepack7": "mpc", "musepack8": "mpc8",
    "tak": "tak", "dsf": "dsf", "dsdiff": "iff", "mpegts": "mpegts", "mpegps": "mpeg", "flv": "flv", "realmedia": "rm",
    "shorten": "shn", "qcp": "qcp", "loas": "loas", "truehd": "truehd",
    "mlp": "mlp", "adx": "adx", "oma": "oma", "brstm": "brstm", "hca": "hca", "nut": "nut", "gsm": "gsm", "dss": "dss", "xwma": "xwma",
}  # fmt: skip
_COUNTED = frozenset({"wavpack", "tta", "ape", "tak", "dsf"})
"""Kinds whose header states the exact number of samples."""
_ENTRY_ERRORS = 512
"""Packets that may be undecodable at the start of a stream that was recorded from the middle."""


class FfmpegReader:
    """Reads one track of a file.

    Parameters
    ----------
    stream : seekable
    kind : of the container, a key of `DEMUXERS`
    n_frames : exact length of the recording, None if unknown; the caller cuts what is beyond it and checks what is missing
    ignore_length : do not trust the header's length
    track : of clipmill.schemas.config.Audio
    gaps : fill | reject | ignore, what to do where the container's timeline has a hole
    has_clock : follow the container's times, if its kind has any
    skip_frames : decoded frames to drop before the recording's first

    Raises
    ------
    DecodeError : not_audio, track_missing, unsupported_format, bad_format, undecodable, timeline_gap
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
                _TolerantFile(stream),
                mode="r",
                format=DEMUXERS[kind],
                metadata_errors="ignore",
                container_options=options,
            )
        except (av.FFmpegError, ValueError) as error:
            raise DecodeError("undecodable", f"FFmpeg: {one_line(error)}") from None
        try:
            choice = choose_track(self._container.streams.audio, track)
            self._timeline = Timeline(self._container, choice.stream, kind if has_clock else "", gaps)
            self.remarks = [*choice.remarks, *self._timeline.remarks]
            self._timeline.remarks = self.remarks
            self._blocks = self._decode(choice.stream)
            self._rest = next(self._blocks, None)
        except DecodeError:
            self._container.close()
            raise
        if self._rest is None and self.problem is not None:
            self._container.close()
            raise DecodeError("undecodable", self.problem)
        if self._rest is None:
            self.sample_rate_hz, self.n_channels = int(choice.stream.rate or 0), int(choice.stream.channels or 0)
            self._rest = np.empty((0, max(1, self.n_channels)), np.float32)
            return
        self.sample_rate_hz, self.n_channels = self._rate, self._rest.shape[1]
        try:
            check_format(self.sample_rate_hz, self.n_channels)
        except DecodeError:
            self._container.close()
            raise
        if kind in _COUNTED and n_frames is None and choice.stream.duration:
            self.n_frames = round(choice.stream.duration * choice.stream.time_base * self.sample_rate_hz)

    def _decode(self, stream: Any) -> Iterator[npt.NDArray[np.float32]]:
        """Yield float32 [frames, channels] of the track, with silence in its holes, up to its end or to where decoding fails."""
        self._rate = 0
        channels = n_errors = 0
        failure: str | None = None
        packets = self._packets(stream)
        for packet in packets:
            try:
                frames = packet.decode()
            except (av.FFmpegError, ValueError) as error:
                n_errors += 1
                if self._rate == 0 and n_errors <= _ENTRY_ERRORS:
                    continue
                failure = failure or f"FFmpeg: {one_line(error)}"
                continue
            if frames and failure is not None:  # do not read on past the damage
                self.problem = failure
                return
            for frame in frames:
                if self._rate == 0:
                    self._rate, channels = int(frame.sample_rate), int(frame.layout.nb_channels)
                elif (frame.sample_rate, frame.layout.nb_channels) != (self._rate, channels):
                    raise DecodeError(
                        "bad_format",
                        f"{self._rate} Hz, {channels} channels change to {frame.sample_rate} Hz, {frame.layout.nb_channels} partway",
                    )
                yield from self._timeline.fill_before(frame, channels)
                yield _to_float(frame, channels)
            self._timeline.packet_bytes = packet.size
        if self._rate == 0 and n_errors:
            failure = failure or "FFmpeg: no packet of the track could be decoded"
        # An error after everything that the container declares does not matter: encoders leave empty packets there.
        if failure is not None and not self._timeline.is_complete:
            self.problem = failure
        elif self.problem is None:
            self.problem = self._timeline.shortfall()

    def _packets(self, stream: Any) -> Iterator[Any]:
        try:
            yield from self._container.demux(stream)
        except (av.FFmpegError, ValueError) as error:
            self.problem = f"FFmpeg: {one_line(error)}"

    def read_into(self, out: npt.NDArray[np.float32]) -> int:
        """Fill float32 [frames, channels] from the current place; return the number of frames, fewer only at the end."""
        filled = 0
        while filled < len(out):
            if self._rest is None or len(self._rest) == 0:
                self._rest = next(self._blocks, None)
                if self._rest is None:
                    break
            if self._to_skip:
                n = min(self._to_skip, len(self._rest))
                self._rest, self._to_skip = self._rest[n:], self._to_skip - n
                continue
            n = min(len(self._rest), len(out) - filled)
            out[filled : filled + n] = self._rest[:n]
            self._rest = self._rest[n:]
            filled += n
        return filled

    def seek(self, frame: int) -> None:
        """Raise NotImplementedError: `exact_seek` is False."""
        raise NotImplementedError("FFmpeg's containers are read from start to end")

    def close(self) -> None:
        self._container.close()


class _TolerantFile:
    """A file in which FFmpeg may seek anywhere: damaged headers send it before the start or beyond any file's end.

    So every error that it raises is one of reading, hence of the storage.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._size = stream.seek(0, os.SEEK_END)
        self._at = self._stream_at = stream.seek(0)

    def read(self, n: int) -> bytes:
        if self._at >= self._size:
            return b""
        if self._stream_at != self._at:
            self._stream.seek(self._at)
        content = self._stream.read(n)
        self._at += len(content)
        self._stream_at = self._at
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        position = offset + {0: 0, 1: self._at, 2: self._size}.get(whence, 0)
        if position < 0:
            return -1
        self._at = position
        return position

    def tell(self) -> int:
        return self._at


_DTYPES = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "s64": np.int64, "flt": np.float32, "dbl": np.float64}
"""By FFmpeg's names of packed sample formats."""


def _to_float(frame: Any, channels: int) -> npt.NDArray[np.float32]:
    """Return a frame of any sample format as float32 [frames, channels]; integers are divided by their full scale.

    This does not use `to_ndarray`: PyAV 18 takes eight planes for nine and reads beyond them.
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
    # Copy unless it is a copy already: the frame's memory belongs to FFmpeg, which uses it again.
    return data.astype(np.float32, copy=data.base is not None)
