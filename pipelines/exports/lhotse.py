"""Lhotse: a Shar directory a split, made by lhotse's own writer, with the features. Shar holds the audio itself, so it is repeated."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.clip_source import clips
from pipelines.exports import Export
from schemas.errors import ClipmillError

_CLIPS_A_FILE = 1000


def export(asked: Export) -> list[str]:
    """Write <split>/cuts.*.jsonl.gz, recording.*.tar and a tar for each feature; a cut is a clip, its supervision the label and text.

    Features are temporal arrays of the cut under their own names, [frames, bins] as lhotse has them, or [frames, channels, bins]. Their
    frame shift is the cut's duration over the number of frames: lhotse takes as many frames as that gives, and with the hop's own
    duration it would leave out the last one of centred frames.

    Raises
    ------
    ClipmillError : lhotse is not installed
    """
    try:
        from lhotse.shar import SharWriter  # type: ignore[import-untyped]
    except ImportError:
        raise ClipmillError("the export to lhotse is made by lhotse itself: pip install lhotse") from None
    written = []
    for split in asked.published.splits:
        with tempfile.TemporaryDirectory(prefix="clipmill-shar-") as folder:
            place = Path(asked.target.full(split)) if asked.target.is_local else Path(folder)
            place.mkdir(parents=True, exist_ok=True)
            names = asked.published.feature_names
            fields = {"recording": "original", **dict.fromkeys(names, "numpy")}
            with SharWriter(str(place), fields=fields, shard_size=_CLIPS_A_FILE) as writer:
                for row in clips(asked.published, split, features=True):
                    writer.write(_cut(asked, row, names))
            if not asked.target.is_local:
                for path in sorted(place.iterdir()):
                    with asked.target.write(f"{split}/{path.name}") as sink, path.open("rb") as stream:
                        while part := stream.read(1 << 20):
                            sink.write(part)
        written.append(asked.target.uri(split))
    return written


def _cut(asked: Export, row: dict[str, Any], names: list[str]) -> Any:
    from lhotse import MonoCut, MultiCut, Recording, SupervisionSegment  # type: ignore[import-untyped]

    recording = Recording.from_bytes(row["audio"], recording_id=row["clip_id"])
    channel: Any = list(range(row["n_channels"])) if row["n_channels"] > 1 else 0
    said = SupervisionSegment(
        id=row["clip_id"], recording_id=row["clip_id"], start=0.0, duration=recording.duration, text=asked.text_of(row) or None,
        channel=channel, speaker=row.get("speaker"),
        custom={"label": row["label"], **{name: row[name] for name in asked.published.snapshot.fields}},
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
        values = np.moveaxis(row[name], -1, 0)  # frames first; with several channels [frames, channels, bins]
        cut = cut.attach_tensor(
            name, np.ascontiguousarray(values), frame_shift=recording.duration / len(values), temporal_dim=0
        )
    return cut
