"""Choose the audio track of a file to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from clipmill.schemas.config.audio_config import Language, Track
from clipmill.stages.decode.readers.base import DecodeError


class TrackChoice(NamedTuple):
    """A track. stream : PyAV's; remarks : pairs of code and detail, if the file has several tracks"""

    stream: Any
    remarks: list[tuple[str, str]]


def choose_track(streams: Sequence[Any], track: Track) -> TrackChoice:
    """Return the audio stream that the configuration asks for.

    Parameters
    ----------
    streams : the audio streams of a container, in its order
    track : of clipmill.schemas.config.Audio: "default", "first", an index from 0, or a language

    Raises
    ------
    DecodeError : the container has no audio stream (not_audio), lacks the one that was asked for (track_missing), or has one that no
        decoder reads (unsupported_format)
    """
    if not streams:
        raise DecodeError("not_audio", "FFmpeg: the file has no audio stream")
    place = _place(streams, track)
    stream = streams[place]
    if getattr(stream, "codec_context", None) is None:
        raise DecodeError("unsupported_format", f"the bundled FFmpeg libraries have no decoder for track {place}")
    remarks = []
    if len(streams) > 1:
        names = ", ".join(f"{i}{_describe(s)}" for i, s in enumerate(streams))
        remarks.append(("several_tracks", f"{len(streams)} audio tracks: {names}; track {place} is used"))
    return TrackChoice(stream, remarks)


def _place(streams: Sequence[Any], track: Track) -> int:
    if track == "first":
        return 0
    if isinstance(track, int):
        if track >= len(streams):
            raise DecodeError(
                "track_missing",
                f"the configuration asks for track {track}, counted from 0, but the file has {len(streams)}",
            )
        return track
    if isinstance(track, Language):
        wanted = track.language.lower()
        for i, stream in enumerate(streams):
            if (_language(stream) or "").lower() == wanted:
                return i
        languages = ", ".join(_language(s) or "not stated" for s in streams)
        raise DecodeError(
            "track_missing", f"no track has the language {wanted}; the languages of the tracks are {languages}"
        )
    # The same choice as ffmpeg's: tracks marked as default first, then those with most channels, then the first.
    return max(range(len(streams)), key=lambda i: (*_rank(streams[i]), -i))


def _rank(stream: Any) -> tuple[bool, bool, int]:
    context = getattr(stream, "codec_context", None)
    return context is not None, _is_default(stream), int(context.channels or 0) if context is not None else 0


def _is_default(stream: Any) -> bool:
    return "default" in str(getattr(stream.disposition, "name", "") or "").lower()


def _language(stream: Any) -> str | None:
    language = stream.metadata.get("language")
    return language if language and language != "und" else None


def _describe(stream: Any) -> str:
    words = [t for t in (_language(stream), "default" if _is_default(stream) else None) if t]
    return f" ({', '.join(words)})" if words else ""
