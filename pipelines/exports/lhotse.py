"""Lhotse: a Shar directory a split, made by lhotse's own writer, with the features; and cuts straight from the shards.

A Shar's recordings are members of its own tar files, each followed by a manifest of lhotse's, or files of their own: a source of audio has no
range of bytes and no member. So a Shar of a dataset repeats the audio, or has none; `StoredCuts` needs neither.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from clipmill.pipelines.dataset.damage import legible
from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.exports import Export
from clipmill.pipelines.exports.export_format import Format
from clipmill.pipelines.exports.target import UNFINISHED
from clipmill.pipelines.read.selection import thresholds_for
from clipmill.schemas.config.model import Frozen
from clipmill.schemas.errors import ClipmillError
from clipmill.stages.write.encode import decode_waveform


class LhotseOptions(Frozen):
    """The options of `lhotse`."""

    audio: Literal["copy", "none"] = Field("copy", description="none: cuts with features and no recordings")


FORMAT = Format(
    "one Lhotse Shar directory per split, with features",
    copies_audio=True,
    options=LhotseOptions,
    needs={"lhotse": "lhotse"},
)

_CLIPS_A_FILE = 1000
_ALWAYS = ("label", "recording_id", "source_uri", "start_s")


def check(asked: Export) -> None:
    """Raise a ClipmillError where there would be nothing but labels."""
    if asked.read_options(LhotseOptions).audio == "none" and not asked.published.feature_names:
        raise ClipmillError(
            f"{asked.published.root.url}: there are no features, so --option audio=none would leave nothing to train on; leave it out"
        )


class StoredCuts:
    """Iterate over a split's clips as lhotse's cuts, read from the shards where they are, as often as needed.

    `CutSet(StoredCuts(open_dataset(ROOT), "train"))` is a lazy CutSet, which repeats no audio and needs no export. Each cut holds its
    recording's bytes and its features, as those of the export do. It can be sent to other processes.

    Parameters
    ----------
    published : a snapshot, as `clipmill.open_dataset` returns it
    split : its name
    text : the field with the transcripts, by default the usual one
    where : only clips within thresholds, as in `{"snr_db": {"min": 15}}`

    Raises
    ------
    ClipmillError, ConfigError : there is no such split, field or column
    """

    def __init__(self, published: Published, split: str, text: str | None = None, where: Any = None) -> None:
        if not published.all_shards(split):
            published.shards(split)  # which says what is wrong with the name
        self._asked = Export(published, published.root, text, thresholds_for(published, where))
        self._split = split

    def __iter__(self) -> Iterator[Any]:
        names = self._asked.published.feature_names
        for row in self._asked.clips(self._split, features=True):
            yield _cut(self._asked, row, names)


def export(asked: Export) -> list[str]:
    """Write <split>/cuts.*.jsonl.gz, recording.*.tar and a tar for each feature; a cut is a clip, its supervision the label and text.

    Recordings are the bytes that are stored. Features are temporal arrays of the cut under their own names, [frames, bins] as lhotse
    has them, or [frames, channels, bins]. Their frame shift is the cut's duration over the number of frames: lhotse takes as many
    frames as that gives, and with the hop's own duration it would leave out the last one of centred frames.

    With audio=none there are no recording.*.tar, and cuts have no recording.

    A split's folder appears when all of it is written; in a store its cuts come last.
    """
    written = []
    for split in asked.splits:
        with asked.writing(split):
            _write_split(asked, split)
        written.append(asked.target.uri(split))
    return written


def _write_split(asked: Export, split: str) -> None:
    target = asked.target
    if target.is_local:
        os.makedirs(target.full(), exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=target.full() if target.is_local else None) as folder:
        made = Path(folder, split)
        made.mkdir()
        _write_shar(asked, split, made)
        if target.is_local:
            place = Path(target.full(split))
            if place.exists():  # of an export of the same snapshot, as the folder's mark says
                shutil.rmtree(place)
            made.rename(place)
            return
        for path in sorted(made.iterdir(), key=lambda p: (p.name.startswith("cuts"), p.name)):
            with target.write(f"{split}/{path.name}") as sink, path.open("rb") as stream:
                shutil.copyfileobj(stream, sink, 1 << 20)


def _write_shar(asked: Export, split: str, place: Path) -> None:
    from lhotse import fastcopy  # type: ignore[import-untyped]
    from lhotse.shar import SharWriter, TarWriter  # type: ignore[import-untyped]
    from lhotse.shar.utils import to_shar_placeholder  # type: ignore[import-untyped]

    names = asked.published.feature_names
    has_audio = asked.read_options(LhotseOptions).audio == "copy"
    folder = str(place).replace("%", "%%")  # lhotse takes the whole path for a pattern of printf's
    recordings: Any = nullcontext()
    if has_audio:
        recordings = TarWriter(f"{folder}/recording.%06d.tar", shard_size=_CLIPS_A_FILE)
    others = SharWriter(
        folder, fields=dict.fromkeys(names, "numpy"), shard_size=_CLIPS_A_FILE, warn_unused_fields=False
    )
    with recordings, others:
        for row in asked.clips(split, features=True):
            with legible(asked.published.root, row["shard"]):
                decode_waveform(row["audio"])  # or damage would go unnoticed: the bytes are only copied
            cut = _cut(asked, row, names)
            if not has_audio:
                others.write(fastcopy(cut, recording=None))
                continue
            # lhotse's own writer would decode them and write float samples as 16 bit.
            recording = to_shar_placeholder(cut.recording, cut)
            recordings.write(f"{cut.id}.original", io.BytesIO(row["audio"]))
            recordings.write(f"{cut.id}.json", io.BytesIO(json.dumps(recording.to_dict()).encode()), count=False)
            others.write(fastcopy(cut, recording=recording))


def _cut(asked: Export, row: dict[str, Any], names: list[str]) -> Any:
    from lhotse import MonoCut, MultiCut, Recording, SupervisionSegment  # type: ignore[import-untyped]

    recording = Recording.from_bytes(row["audio"], recording_id=row["clip_id"])
    channel: Any = list(range(row["n_channels"])) if row["n_channels"] > 1 else 0
    snapshot = asked.published.snapshot
    known = {name: row[name] for name in (*snapshot.fields, *_ALWAYS, *snapshot.label_lists)}
    if snapshot.has_channel:
        name = "recording_channel"  # `channel` is one of the cut's own
        while name in known:
            name = f"clip_{name}"
        known[name] = row["channel"]
    said = SupervisionSegment(
        id=row["clip_id"], recording_id=row["clip_id"], start=0.0, duration=recording.duration, text=asked.text_of(row) or None,
        channel=channel, speaker=row[asked.speaker_field] if asked.speaker_field else None,
        custom=known,
    )  # fmt: skip
    kind = MultiCut if row["n_channels"] > 1 else MonoCut
    cut: Any = kind(
        id=row["clip_id"],
        start=0.0,
        duration=recording.duration,
        channel=channel,
        recording=recording,
        supervisions=[said],
    )
    for name in names:
        if row[name].ndim < 2:
            cut = cut.attach_tensor(name, row[name])
            continue
        values = np.moveaxis(row[name], -1, 0)  # frames first; with several channels [frames, channels, bins]
        shift_s = _frame_shift_s(asked.published, name, recording.duration, len(values))
        cut = cut.attach_tensor(name, np.ascontiguousarray(values), frame_shift=shift_s, temporal_dim=0)
    return cut


def _frame_shift_s(published: Published, name: str, duration_s: float, n_frames: int) -> float:
    """Return the seconds between frames as lhotse uses them, which computes the number of frames from them.

    Centred frames are one more than that, so theirs are made to fit the clip.
    """
    settings = next(column.get("settings", {}) for column in published.columns if column["name"] == name)
    shift_s = settings.get("frame_shift_s")
    if isinstance(shift_s, float) and int(duration_s / shift_s + 0.5) == n_frames:
        return shift_s
    return duration_s / n_frames
