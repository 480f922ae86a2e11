"""Find the file of a recording in Lhotse's manifests of recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clipmill.schemas.config.annotation_config import Annotations
from clipmill.stages.annotations.format import Record
from clipmill.stages.annotations.json_text import shown, text_of

_RUN, _ELSEWHERE = frozenset(["command"]), frozenset(["memory", "shar"])
_CHANGES_TIME = frozenset(["Speed", "Tempo"])


@dataclass(slots=True)
class _Source:
    """A file of a recording, or what stands for one. channels : of the recording, in the order of the file's"""

    kind: str
    channels: tuple[str, ...]
    place: str


class Recordings:
    """The recordings of manifests, by id."""

    def __init__(self, spec: Annotations) -> None:
        self._reads_channel = "channel" in spec.roles
        self._spec = spec
        self._sources: dict[str, tuple[_Source, ...]] = {}
        self._changed: dict[str, bool] = {}

    def add(self, value: dict[str, Any]) -> None:
        """Add a recording. Sources that are not as Lhotse writes them are left out, so that its id is looked up."""
        name = value.get("id")
        if not isinstance(name, str):
            return
        sources = value.get("sources")
        found = [_source(each) for each in sources if isinstance(each, dict)] if isinstance(sources, list) else []
        self._sources[name] = tuple(found)
        transforms = value.get("transforms")
        if isinstance(transforms, list) and transforms:
            names = {each.get("name") if isinstance(each, dict) else None for each in transforms}
            self._changed[name] = bool(names & _CHANGES_TIME)

    def alone(self, value: dict[str, Any]) -> Recordings:
        """Return one recording, that of a cut."""
        found = Recordings(self._spec)
        found.add(value)
        return found

    def find(self, record: Record, name: str, channel: Any) -> None:
        """Add the path of the file of a recording to a record, and its channel; or tell why there is none.

        channel : as the manifest has it: a number, counted from 0 over the recording's files, or a list of them
        """
        wanted = [text_of(each) for each in channel] if isinstance(channel, list) else [text_of(channel) or "0"]
        record.cells["channel"] = shown(channel) if isinstance(channel, list) else wanted[0]
        sources = self._sources.get(name, ())
        if self._changed.get(name) or any(source.kind in _ELSEWHERE for source in sources):
            record.is_passed_over, record.notes = True, ("cuts_not_of_a_file",)
            return
        if name in self._changed:
            record.notes += ("transforms_not_applied",)
        source = _that_has(sources, wanted)
        if source is None and sources:
            record.problem = f"recording {name[:50]!r} has no channel {', '.join(wanted)[:50]}"
            return
        if source is not None and source.kind in _RUN:
            record.notes += ("commands_not_run",)
        elif source is not None:
            record.cells["path"] = source.place
            if not set(wanted) <= set(source.channels):
                record.notes += ("rows_of_one_file",)
        if self._reads_channel and len(wanted) == 1 and wanted[0].isdecimal() and len(wanted[0]) < 10:
            place = source.channels.index(wanted[0]) if source is not None and source.channels else int(wanted[0])
            record.cells["channel"] = str(place + 1)


def _source(value: dict[str, Any]) -> _Source:
    channels = value.get("channels")
    numbers = tuple(text_of(each) for each in channels) if isinstance(channels, list) else ()
    return _Source(text_of(value.get("type")), numbers, text_of(value.get("source")))


def _that_has(sources: Sequence[_Source], channels: Sequence[str]) -> _Source | None:
    """Return the source with the first of the channels; the only source if its channels are not given."""
    if len(sources) == 1 and not sources[0].channels:
        return sources[0]
    return next((source for source in sources for channel in channels[:1] if channel in source.channels), None)
