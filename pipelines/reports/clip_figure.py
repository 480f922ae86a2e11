"""Show one clip on a page: its picture, a player, and words about it. What reports and samples have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import soundfile as sf

from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.reports.markup import Safe, tag
from clipmill.pipelines.reports.playable import Playable, data_uri, drawn
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.label_columns import LABELS_COLUMN
from clipmill.schemas.names import transcript_field

_TEXT_LENGTH = 300
_LABELS_SHOWN = 8


def clip_figure(clip: Playable, row: Mapping[str, Any], caption: Safe, preload: Literal["none", "metadata"]) -> Safe:
    """Return a clip as a figure that can be heard.

    row : of the clip, as `clipmill.pipelines.reports.clip_table.ClipTable.row` returns it
    preload : what a browser reads of the audio before it is played; the length is in the metadata
    """
    label = label_text(row)
    words = f"clip {row['clip_id']}" + (f" labelled {label}" if label else "")
    source = data_uri(clip.audio, "audio/flac")
    player = tag("audio", controls=True, preload=preload, src=source, aria_label=f"play {words}")
    return tag("figure", drawn(clip, words), player, caption, class_="clip")


@contextmanager
def decoding(published: Published, row: Mapping[str, Any]) -> Iterator[None]:
    """Say which clip it is that the block cannot decode.

    Raises
    ------
    ClipmillError : the stored file is damaged
    """
    try:
        yield
    except (sf.LibsndfileError, RuntimeError) as error:
        where = published.root.uri(str(row["shard"]))
        raise ClipmillError(
            f"{where}: clip {row['clip_id']} cannot be decoded: {error}; run `clipmill verify`", code="root.damaged"
        ) from None


def label_text(row: Mapping[str, Any]) -> str:
    """Return the labels of a clip with commas between them, or its label; empty without any."""
    labels = row.get(LABELS_COLUMN)
    if isinstance(labels, list):
        more = f" and {len(labels) - _LABELS_SHOWN} more" if len(labels) > _LABELS_SHOWN else ""
        return ", ".join(map(str, labels[:_LABELS_SHOWN])) + more
    return str(row.get("label") or "")


def said_in(published: Published, row: Mapping[str, Any]) -> str:
    """Return the beginning of a clip's transcript; empty without one."""
    field = transcript_field(published.snapshot.fields)
    return legible(str(row.get(field) or "")) if field else ""


def legible(text: str) -> str:
    """Return a text that fits a card."""
    return text if len(text) <= _TEXT_LENGTH else f"{text[: _TEXT_LENGTH - 1]}…"
