"""Folders: <split>/<label>/<clip id>.wav, .flac or .png, as torchvision's ImageFolder, Keras and `datasets` read classes from folders."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

import soundfile as sf
import yaml
from pydantic import Field

from clipmill.pipelines.dataset.damage import legible
from clipmill.pipelines.exports import Export
from clipmill.pipelines.exports.csv import clip_table
from clipmill.pipelines.exports.export_format import Format
from clipmill.pipelines.exports.folder_names import folder_names, label_of
from clipmill.pipelines.exports.wav_files import as_wav
from clipmill.pipelines.read.clip_source import clip_rows
from clipmill.schemas.config.model import Frozen
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.export_marks import CARD_MARK
from clipmill.schemas.label_columns import LABELS_COLUMN
from clipmill.schemas.plural import counted, counted_are
from clipmill.schemas.tables import IMAGE_COLUMN
from clipmill.stages.write.encode import FLAC_MAX_CHANNELS, decode_clip, decode_waveform


class FolderOptions(Frozen):
    """The options of `folders`."""

    files: Literal["wav", "flac", "png"] = Field("wav", description="the clips' audio, or their pictures")
    several: Literal["refuse", "each"] = Field(
        "refuse", description="what becomes of clips with several labels; each: a file in the folder of each label"
    )
    unlabelled: str = Field("", description="folder for clips without a label, which are left out otherwise")


FORMAT = Format(
    "<split>/<label>/<clip id>.wav, .flac or .png: a folder per class, for ImageFolder, Keras and datasets",
    copies_audio=True,
    options=FolderOptions,
)

_SPLIT_WORDS = frozenset("train training valid validation dev val test testing eval evaluation".split())
"""What `datasets` takes for a split when it is the name of a folder, or a part of one."""


def check(asked: Export) -> None:
    """Raise a ClipmillError where there are no such files, or clips have several labels and nobody said what becomes of them."""
    options, published = asked.read_options(FolderOptions), asked.published
    url = published.root.url
    if options.files == "png" and not published.has_images:
        raise ClipmillError(
            f"{url}: clips have no pictures; add `images: {{}}` to `output` and build again, which draws them from the committed clips"
        )
    about = next((c for c in published.columns if c["name"] == "audio"), {})
    if options.files == "flac" and about.get("settings", {}).get("sample_format") == "float32":
        raise ClipmillError(
            f"{url}: samples are 32-bit float, and FLAC holds whole numbers only; give --option files=wav"
        )
    n_several, n_too_many = 0, 0
    labels: set[str] = set()
    for split in asked.splits:
        for row in clip_rows(published, split, asked.where):
            of = _labels(asked, row)
            labels.update(of)
            n_several += len(of) > 1
            n_too_many += row["n_channels"] > FLAC_MAX_CHANNELS
    if n_several and options.several == "refuse":
        raise ClipmillError(
            f"{url}: {_have(n_several)} several labels, but a file is in one folder; give --option several=each for a file"
            " in the folder of each label, or use another format"
        )
    if options.files == "flac" and n_too_many:
        raise ClipmillError(
            f"{url}: {_have(n_too_many)} more than {FLAC_MAX_CHANNELS} channels, which FLAC cannot hold; give --option files=wav"
        )
    if options.unlabelled and not labels:
        raise ClipmillError(
            f"{url}: no clip has a label, so there are no folders of labels; leave --option unlabelled out"
        )
    if options.unlabelled in labels:
        raise ClipmillError(
            f"--option unlabelled={options.unlabelled}: clips have this label, and would be in one folder with those without; give another name"
        )


def export(asked: Export) -> list[str]:
    """Write the files, labels.csv, clips.csv, and README.md, by which `datasets` finds the splits.

    labels.csv has a row a label: its id, name, folder and number of files by split. clips.csv has a row a file: its path, and the manifest's
    columns. Without any label files are in <split>/ itself. Names of folders are those of `folder_names`.

    Samples are those of the shards: 16-bit ones stay 16-bit, and float ones 32-bit float, which FLAC cannot hold.
    """
    options = asked.read_options(FolderOptions)
    counts, n_unlabelled = _count(asked, options)
    named = folder_names(counts)
    with clip_table(asked, "clips.csv", ("file",), without=("shard",)) as write:
        for split in asked.splits:
            for row in asked.clips(split, images=options.files == "png"):
                for folder in _folders_of(asked, options, row, named):
                    path = "/".join(filter(None, (split, folder, f"{row['clip_id']}.{options.files}")))
                    with asked.open(path) as stream:
                        stream.write(_content(asked, row, options.files))
                    write({**row, "file": path})
    written = [asked.target.uri("clips.csv")]
    if named:
        written.append(asked.write("labels.csv", _label_lines(asked, counts, named)))
    written += [
        asked.target.uri(split) for split in asked.splits if any(c[split] for c in counts.values()) or not named
    ]
    asked.notes.extend(_notes(asked, options, counts, named, n_unlabelled))
    if all(split != "all" and re.fullmatch(r"\w+", split) for split in asked.splits):
        written.append(asked.write("README.md", _card(asked, bool(named))))
    return written


def _count(asked: Export, options: FolderOptions) -> tuple[dict[str, Counter[str]], int]:
    """Return the number of files of each label by split, and the number of clips without a label."""
    counts: dict[str, Counter[str]] = {}
    n_unlabelled = 0
    for split in asked.splits:
        for row in clip_rows(asked.published, split, asked.where):
            labels = _labels(asked, row)
            n_unlabelled += not labels
            for label in labels or ([options.unlabelled] if options.unlabelled else []):
                counts.setdefault(label, Counter())[split] += 1
    return counts, n_unlabelled


def _labels(asked: Export, row: dict[str, Any]) -> list[str]:
    if LABELS_COLUMN in asked.published.snapshot.label_lists and row[LABELS_COLUMN] is not None:
        return [label for label in row[LABELS_COLUMN] if label]
    return [row["label"]] if row["label"] else []


def _folders_of(asked: Export, options: FolderOptions, row: dict[str, Any], named: dict[str, str]) -> list[str]:
    """Return the folders of a clip's files; an empty name where no clip has a label."""
    if not named:
        return [""]
    return [named[label] for label in _labels(asked, row) or ([options.unlabelled] if options.unlabelled else [])]


def _have(n: int) -> str:
    return f"{counted(n, 'clip')} {'has' if n == 1 else 'have'}"


def _content(asked: Export, row: dict[str, Any], files: str) -> bytes:
    if files == "png":
        picture: bytes = row[IMAGE_COLUMN]
        return picture
    with legible(asked.published.root, row["shard"]):
        if files == "wav":
            return as_wav(row)
        audio: bytes = row["audio"]
        if row["audio_name"].endswith(".flac"):
            decode_waveform(audio)  # or damage would go unnoticed: the bytes are only copied
            return audio
        samples, rate = decode_clip(audio)
    sink = io.BytesIO()
    sf.write(sink, samples, rate, subtype="PCM_16", format="FLAC")
    return sink.getvalue()


def _label_lines(asked: Export, counts: dict[str, Counter[str]], named: dict[str, str]) -> Iterator[str]:
    ids = {label: i for i, label in enumerate(asked.published.classes)}
    for cells in (
        ("label_id", "label", "folder", *asked.splits),
        *(
            (ids.get(label, ""), label, folder, *(counts[label][split] for split in asked.splits))
            for label, folder in sorted(named.items(), key=lambda item: (ids.get(item[0], len(ids)), item[0]))
        ),
    ):
        line = io.StringIO()
        csv.writer(
            line, lineterminator="", quoting=csv.QUOTE_ALL if any("\r" in str(c) for c in cells) else 0
        ).writerow(cells)
        yield line.getvalue()


def _card(asked: Export, has_labels: bool) -> list[str]:
    """Return a dataset card by which `load_dataset` takes splits and labels from the folders, and neither from names that look like splits."""
    head = {
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{split}/**"} for split in asked.splits],
                "drop_labels": not has_labels,
            }
        ]
    }
    return ["---", yaml.safe_dump(head, sort_keys=False).rstrip(), "---", CARD_MARK]


def _notes(
    asked: Export, options: FolderOptions, counts: dict[str, Counter[str]], named: dict[str, str], n_unlabelled: int
) -> Iterator[str]:
    """Yield what the user should know of the export."""
    if not named:
        yield "no clip has a label, so files are in their split's folder itself; ImageFolder and Keras want a folder per class"
        return
    if n_unlabelled and not options.unlabelled:
        yield f"{counted_are(n_unlabelled, 'clip')} left out, having no label; --option unlabelled=NAME puts them into a folder"
    if escaped := sorted(label for label, folder in named.items() if folder != label):
        cut = [label for label in escaped if label_of(named[label]) is None]
        shown = ", ".join(f"{label!r} as {named[label]!r}" for label in escaped[:3]) + (
            ", …" if len(escaped) > 3 else ""
        )
        how = f"; {counted_are(len(cut), 'name')} cut, being too long" if cut else ""
        yield (
            f"{counted_are(len(escaped), 'label')} escaped, being no name that a folder can have everywhere: {shown}{how}; labels.csv has all"
        )
    for split in asked.splits:
        if lacking := sorted(label for label in counts if not counts[label][split]):
            yield (
                f"split {split} has no file of {', '.join(map(repr, lacking[:5]))}{', …' if len(lacking) > 5 else ''}: ImageFolder and Keras"
                " number the folders that they find, so ids differ between splits; take those of labels.csv"
            )
    looks_alike = [folder for folder in named.values() if {*re.split(r"[^a-z]+", folder.lower())} & _SPLIT_WORDS]
    if looks_alike:
        yield (
            f"the folder {looks_alike[0]!r} looks like a split to datasets: load with load_dataset(FOLDER), which reads README.md, not with"
            " data_dir=FOLDER"
        )
    if len(named) == 1:
        yield "there is one class only, and load_dataset with data_dir=FOLDER drops labels then; load_dataset(FOLDER) keeps it"
    odd = [split for split in asked.splits if split == "all" or not re.fullmatch(r"\w+", split)]
    if odd:
        yield f"a split is called {odd[0]!r}, which datasets does not take, so there is no README.md for it; give data_dir=FOLDER/{odd[0]}"
