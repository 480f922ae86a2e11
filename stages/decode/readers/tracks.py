"""Which audio track of a file is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from clipmill.schemas.config.audio_config import Language, Track
from clipmill.stages.decode.readers.base import DecodeError


class Chosen(NamedTuple):
    """stream : PyAV's; remarks : code and detail, where there was a choice"""

    stream: Any
    remarks: list[tuple[str, str]]


def choose(streams: Sequence[Any], track: Track) -> Chosen:
    """Return the audio stream that is asked for.

    Parameters
    ----------
    streams : the audio streams of a container, in its order

    Raises
    ------
    DecodeError : there is none (not_audio), not that one (track_missing), or nothing here decodes it (unsupported_format)
    """
    if not streams:
        raise DecodeError("not_audio", "FFmpeg: the file has no audio stream")
    place = _place(streams, track)
    stream = streams[place]
    if getattr(stream, "codec_context", None) is None:
        raise DecodeError("unsupported_format", f"FFmpeg's libraries here have no decoder for track {place}")
    remarks = []
    if len(streams) > 1:
        listed = ", ".join(f"{i}{_described(s)}" for i, s in enumerate(streams))
        remarks.append(("several_tracks", f"{len(streams)} audio tracks: {listed}; track {place} was taken"))
    return Chosen(stream, remarks)


def _place(streams: Sequence[Any], track: Track) -> int:
    if track == "first":
        return 0
    if isinstance(track, int):
        if track >= len(streams):
            raise DecodeError(
                "track_missing", f"track {track} was asked for, counted from 0, and there are {len(streams)}"
            )
        return track
    if isinstance(track, Language):
        wanted = track.language.lower()
        for i, stream in enumerate(streams):
            if (_language(stream) or "").lower() == wanted:
                return i
        there = ", ".join(_language(s) or "not stated" for s in streams)
        raise DecodeError("track_missing", f"no track has the language {wanted}; the languages of the tracks: {there}")
    # As ffmpeg chooses: one that is marked as the default before others, then the most channels, then the first.
    return max(range(len(streams)), key=lambda i: (*_rank(streams[i]), -i))


def _rank(stream: Any) -> tuple[bool, bool, int]:
    context = getattr(stream, "codec_context", None)
    return context is not None, _is_default(stream), int(context.channels or 0) if context is not None else 0


def _is_default(stream: Any) -> bool:
    return "default" in str(getattr(stream.disposition, "name", "") or "").lower()


def _language(stream: Any) -> str | None:
    found = stream.metadata.get("language")
    return found if found and found != "und" else None


def _described(stream: Any) -> str:
    told = [t for t in (_language(stream), "default" if _is_default(stream) else None) if t]
    return f" ({', '.join(told)})" if told else ""
