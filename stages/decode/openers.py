"""The readers to try for a file, in order."""

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


def list_openers(
    source: DecodeSource, path: str, stream: IO[bytes], size: int, container: Container, gaps: str
) -> list[Callable[[], Reader]]:
    """Return functions that open a recording, in the order in which to try them.

    libsndfile comes first where both libraries can read a kind, since it is faster. FFmpeg is used where the file's own structure
    shows that libsndfile would stop early or read too much.
    """
    is_first = source.track in ("default", "first", 0)
    start = container.start_byte

    def content() -> IO[bytes]:
        """Return the file without the tags before its container."""
        return ExtentStream(stream, ((start, size),)) if start else stream

    def file() -> SoundFileReader:
        """Open the whole file, including tags: the decoder sees the same bytes whether the file is local or remote."""
        return SoundFileReader(source.root.full(path) if source.root.is_local else _at_start(stream))

    def libsndfile() -> Reader:
        reader = SoundFileReader(_at_start(content())) if start else file()
        # Without a kind this is libsndfile's guess: a file with MPEG frames would have been recognised.
        if not container.kind and reader.container == "MP3":
            reader.close()
            raise DecodeError("undecodable", "libsndfile: the file has no MPEG audio frames")
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

    def open_part(part: Part, is_only: bool) -> Reader:
        if part.hole is not None and not part.has_clock and gaps != "ignore":
            raise DecodeError("timeline_gap", part.hole)
        if part.whole_stream and is_first:
            try:
                sndfile = file() if is_only and part.is_file else SoundFileReader(ExtentStream(stream, part.extents))
            except DecodeError:
                pass  # FFmpeg is tried next, and its error is reported
            else:
                # libsndfile never reads beyond the length that it states or guesses.
                if sndfile.declared_frames * part.sample_rate_hz >= _required_frames(part) * sndfile.sample_rate_hz:
                    return sndfile
                sndfile.close()
        reader = FfmpegReader(
            ExtentStream(stream, part.audio_extents or part.extents),
            container.kind,
            has_clock=part.has_clock or not part.is_entered,
            track=source.track,
            gaps=gaps,
            skip_frames=part.skip_frames,
        )
        if part.n_frames is not None:
            reader.n_frames = round(part.n_frames * reader.sample_rate_hz / part.sample_rate_hz)
        return reader

    if (pcm := container.pcm) is not None:
        return [lambda: PcmReader(stream, pcm)] if is_first else []
    if container.parts:
        # With gaps: ignore the decoded audio is shorter than the headers say, so their counts are not checked.
        parts = [replace(p, n_frames=None) if p.hole and gaps == "ignore" else p for p in container.parts]
        return [lambda: PartsReader(tuple(parts), open_part)]
    result: list[Callable[[], Reader]] = []
    if container.kind not in ONLY_FFMPEG and not container.understated and is_first:
        result.append(libsndfile)
    if container.kind in DEMUXERS:
        result.append(ffmpeg)
    return result


def _required_frames(part: Part) -> int:
    return (part.n_frames or 0) - part.tolerance


def _at_start(stream: IO[bytes]) -> IO[bytes]:
    stream.seek(0)
    return stream
