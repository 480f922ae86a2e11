"""NeMo: JSONL manifests. With tar shards they name the audio in them, and none is repeated; else WAV files are written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from clipmill.pipelines.exports import Export
from clipmill.pipelines.exports.addresses import beside, note_cut
from clipmill.pipelines.exports.export_format import Format
from clipmill.pipelines.exports.wav_files import wav_path, write_wav
from clipmill.pipelines.read.clip_source import clip_rows
from clipmill.stages.write.encode import codec_of

FORMAT = Format("JSONL manifests of the tar shards, or of WAV files if there are no tar shards")

_KEYS = re.compile(
    r"(audio|video|rttm|ctm|features?|channel|token|sampl\w+|text|context|target|answer)(_\w+)?|duration|offset|shard_id|_skipme"
    r"|num_speakers|uniq_id|orig_sr"
)
"""What NeMo's readers may look for in a line, and some of it as numbers."""


def export(asked: Export) -> list[str]:
    """Write <split>.json, a clip a line: audio_filepath, duration, text, label, recording_id, start_s and the corpus's own fields.

    A field that has the name of one of NeMo's keys is called corpus_<name>, but for the one that gives the text. Where clips are of one
    channel each, recording_channel is its number.

    NeMo finds WAV files beside their manifest. With tar shards, audio_filepath is a member's name, shard_id the place of its tar in
    <split>_tars.txt, for `tarred_audio_filepaths`.
    """
    written = []
    for split in asked.splits:
        shards = [shard for shard in asked.published.all_shards(split) if shard.clips_kept]
        tarred = all(shard.output("webdataset") for shard in shards)
        lines = _of_tars(asked, split) if tarred else _of_files(asked, split)
        written.append(asked.write(f"{split}.json", lines))
        if tarred:
            tars = [beside(asked, file.path) for file in asked.published.shards(split, "webdataset")]
            written.append(asked.write(f"{split}_tars.txt", tars))
            if not asked.notes:
                note_cut(asked, asked.published.root, "NeMo, by webdataset,")
    return written


def _of_files(asked: Export, split: str) -> Iterator[str]:
    for row in asked.clips(split):
        address = write_wav(asked, split, row)
        yield _line(asked, row, wav_path(split, row) if asked.target.is_local else address)


def _of_tars(asked: Export, split: str) -> Iterator[str]:
    places = {f.path: i for i, f in enumerate(asked.published.shards(split, "webdataset"))}
    tar_of = {}
    for shard in asked.published.all_shards():
        file, tar = shard.output("parquet", "webdataset"), shard.output("webdataset")
        if file is not None and tar is not None:
            tar_of[file.path] = tar.path
    codec = asked.published.audio_codec
    for row in clip_rows(asked.published, split, asked.where):
        name = f"{row['clip_id']}.{codec_of(codec, row['n_channels'])}"
        yield _line(asked, row, name, shard_id=places[tar_of[row["shard"]]])


def _line(asked: Export, row: dict[str, object], audio: str, **more: object) -> str:
    line = {
        "audio_filepath": audio,
        "duration": row["duration_s"],
        "text": asked.text_of(row),
        "label": row["label"],
        **{name: row[name] for name in asked.published.snapshot.label_lists},
        "recording_id": row["recording_id"],
        "start_s": row["start_s"],
        **more,
    }
    if asked.published.snapshot.has_channel:
        line["recording_channel"] = row["channel"]  # `channel` would be one of the clip's own
    fields = asked.published.snapshot.fields
    for name in fields:
        if name not in line and not _KEYS.fullmatch(name):
            line[name] = row[name]
        elif name != asked.text_field:
            other = f"corpus_{name}"
            while other in fields or other in line:
                other = f"corpus_{other}"
            line[other] = row[name]
    return json.dumps(line, ensure_ascii=False)
