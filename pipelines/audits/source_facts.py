"""Read from a snapshot's configuration what must be known of a source to cut its clips again, as the user wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clipmill.schemas.records import Snapshot

_KEEP_SAMPLES = {"silence", "measure", "keep", "augment", "trim"}
"""Clip stages after which the samples are those of the recording: `trim` moves the start, `augment` adds copies, which are known by a column."""


@dataclass(frozen=True)
class SourceFacts:
    """What the configuration says of a source.

    channels : mono | keep | left | right | each, or numbers of channels
    changing : clip stages that change samples, by name
    moves_starts : whether a stage moves the starts of clips
    segment : how recordings are cut
    has_rows : whether annotations cut, or may cut
    is_raw : recordings have no header
    names_track : a track is chosen
    """

    channels: Any = "mono"
    changing: tuple[str, ...] = ()
    moves_starts: bool = False
    segment: Mapping[str, Any] = field(default_factory=dict)
    has_rows: bool = False
    is_raw: bool = False
    names_track: bool = False

    @property
    def mode(self) -> str:
        """Return how recordings are cut."""
        return str(self.segment.get("mode", "whole"))

    @property
    def padding(self) -> str | None:
        """Return what follows a clip that is too short: zero | noise | repeat | edge; None: nothing does."""
        if self.mode == "fixed":
            return str(self.segment.get("pad", "zero"))
        tail = str(self.segment.get("tail", "drop")) if self.mode == "window" else ""
        return tail.removeprefix("pad_") if tail.startswith("pad_") else None


def source_facts(snapshot: Snapshot) -> dict[str, SourceFacts]:
    """Return what a snapshot's configuration says of each source, by name."""
    config = snapshot.config
    audio = _map(config.get("audio"))
    found = {}
    for source in config.get("sources") or []:
        steps = source.get("clips") if source.get("clips") is not None else config.get("clips")
        names = [name for step in steps or [] for name in (step if isinstance(step, Mapping) else [step])]
        found[str(source.get("name"))] = SourceFacts(
            channels=source.get("channels") or audio.get("channels") or "mono",
            changing=tuple(str(name) for name in names if name not in _KEEP_SAMPLES),
            moves_starts="trim" in names,
            segment=_map(source.get("segment")),
            has_rows=source.get("annotations") is not None,
            is_raw=source.get("raw") is not None,
            names_track=(source.get("track") or audio.get("track") or "default") not in ("default", "first", 0),
        )
    return found


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
