"""Which readers are tried for a file, in which order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import IO, TYPE_CHECKING

from clipmill.stages.decode.containers import Container
from clipmill.stages.decode.containers.structure import Part
from clipmill.stages.decode.extents import ExtentStream
from clipmill.stages.decode.pcm import PcmReader
from clipmill.stages.decode.readers import DEMUXERS, DecodeError, FfmpegReader, PartsReader, Reader, SoundFileReader

if TYPE_CHECKING:
    from clipmill.stages.decode.source import DecodeSource

ONLY_FFMPEG = frozenset(
    "mp4 matroska asf amr aac avi wavpack tta ac3 eac3 dts ape musepack7 musepack8 tak dsf dsdiff mpegts mpegps flv realmedia"
    " shorten qcp loas truehd mlp adx oma brstm hca dss xwma nut gsm".split()
)


def openers(
    source: DecodeSource, path: str, stream: IO[bytes], size: int, container: Container, gaps: str
) -> list[Callable[[], Reader]]:
    """Return ways to open a recording, the one that leads first.

    libsndfile leads where both libraries can read a kind, since it is faster; where the file's own structure says that it would
    stop early or read too much, FFmpeg does.
    """
    is_first = source.track in ("default", "first", 0)
    begin = container.start_byte

    def content() -> IO[bytes]:
        return ExtentStream(stream, ((begin, size),)) if begin else stream

    def file() -> SoundFileReader:
        """Open the file as it is, tags and all: the same bytes wherever it lies."""
        return SoundFileReader(source.root.full(path) if source.root.is_local else _at_start(stream))

    def libsndfile() -> Reader:
        reader = SoundFileReader(_at_start(content())) if begin else file()
        if not container.kind and reader.container == "MP3":  # a guess: what has frames of MPEG was recognised
            reader.close()
            raise DecodeError("undecodable", "libsndfile: there are no frames of MPEG audio")
        if container.n_frames is not None:
            reader.n_frames = container.n_frames
        return reader

    def ffmpeg() -> Reader:
        return FfmpegReader(
            content(),
            container.kind,
            n_frames=container.n_frames,
            ignore_length=container.understated,
            track=source.track,
            gaps=gaps,
        )

    def part(one: Part, is_only: bool) -> Reader:
        if one.hole is not None and not one.has_clock and gaps != "ignore":
            raise DecodeError("timeline_gap", one.hole)
        if one.whole_stream and is_first:
            try:
                reader = file() if is_only and one.is_file else SoundFileReader(ExtentStream(stream, one.extents))
            except DecodeError:
                pass  # FFmpeg says why
            else:
                # libsndfile does not read beyond the length that it states or guesses.
                if reader.declared_frames * one.sample_rate_hz >= _wanted(one) * reader.sample_rate_hz:
                    return reader
                reader.close()
        found = FfmpegReader(
            ExtentStream(stream, one.bare or one.extents),
            container.kind,
            has_clock=one.has_clock or not one.is_entered,
            track=source.track,
            gaps=gaps,
            skip_frames=one.skip_frames,
        )
        if one.n_frames is not None:
            found.n_frames = round(one.n_frames * found.sample_rate_hz / one.sample_rate_hz)
        return found

    if (pcm := container.pcm) is not None:
        return [lambda: PcmReader(stream, pcm)] if is_first else []
    if container.parts:
        # Where holes are passed over, what comes out is shorter than what the headers account for.
        counted = [replace(p, n_frames=None) if p.hole and gaps == "ignore" else p for p in container.parts]
        return [lambda: PartsReader(tuple(counted), part)]
    ways: list[Callable[[], Reader]] = []
    if container.kind not in ONLY_FFMPEG and not container.understated and is_first:
        ways.append(libsndfile)
    if container.kind in DEMUXERS:
        ways.append(ffmpeg)
    return ways


def _wanted(part: Part) -> int:
    return (part.n_frames or 0) - part.tolerance


def _at_start(stream: IO[bytes]) -> IO[bytes]:
    stream.seek(0)
    return stream
