"""Hugging Face: a dataset card in the dataset's root, by which `datasets.load_dataset` reads the shards where they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from clipmill.pipelines.exports import Export
from clipmill.pipelines.exports.addresses import note_patterns
from clipmill.pipelines.exports.export_format import Format
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.export_marks import CARD_FILE, CARD_MARK
from clipmill.schemas.label_columns import LABELS_COLUMN
from clipmill.schemas.layout import BESIDE

FORMAT = Format(
    "README.md in ROOT, so that load_dataset(ROOT) returns splits, audio and labels", place="root", whole_shards=True
)


def export(asked: Export) -> list[str]:
    """Write README.md: its YAML names the snapshot's shards by split, audio, and the labels as a ClassLabel.

    Raises
    ------
    ClipmillError : the shards are stored as WebDataset only, there is a README.md of somebody else's, or a split's name is
        none that `datasets` takes
    """
    published, root = asked.published, asked.target
    note_patterns(asked, root)
    with asked.writing(CARD_FILE):
        foreign = root.exists(CARD_FILE) and CARD_MARK.encode() not in root.read_bytes(CARD_FILE)
    if foreign:
        raise ClipmillError(f"{root.uri(CARD_FILE)} is not one that clipmill wrote: move it away, then export again")
    check_splits(asked)

    def files(format: str) -> dict[str, list[str]]:
        return {split: [f.path for f in published.shards(split, format)] for split in asked.splits}

    return [asked.write(CARD_FILE, card(asked, files))]


def check_splits(asked: Export) -> None:
    """Raise a ClipmillError where a split's name is none that `datasets` takes."""
    for split in asked.splits:
        if split == "all" or not re.fullmatch(r"\w+", split):
            raise ClipmillError(
                f"a split is called {split!r}, which datasets does not take: give it another name, of letters, digits and _, but not all"
            )


def card(asked: Export, files: Callable[[str], Mapping[str, Any]], license: str = "") -> list[str]:
    """Return the lines of a dataset card. Where features lie beside the shards it has two configurations, `audio` and `features`.

    files : returns, for a format of `Published.shards`, paths or patterns of the files of each split
    license : one of the Hub's names of licenses
    """
    tables = [_table(asked, files, "default", "parquet", asked.published.schema.names)]
    if beside := asked.published.names_beside:
        names = asked.published.schema.names
        tables = [
            _table(asked, files, "audio", "parquet", [name for name in names if name not in beside]),
            _table(asked, files, "features", BESIDE, [name for name in names if name in beside or name == "clip_id"]),
        ]
        tables[0][0]["default"] = True
    infos = [info if beside else {k: v for k, v in info.items() if k != "config_name"} for _, info in tables]
    head = {
        **({"license": license} if license else {}),
        "pretty_name": asked.published.snapshot.name,
        "configs": [configuration for configuration, _ in tables],
        "dataset_info": infos if beside else infos[0],
    }
    text = _text(asked) + (_how_to_join(asked) if beside else [])
    return ["---", yaml.safe_dump(head, sort_keys=False, allow_unicode=True).rstrip(), "---", *text]


def _table(
    asked: Export, files: Callable[[str], Mapping[str, Any]], name: str, format: str, columns: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a configuration of the card, and what it says of it. columns : that it has"""
    data_files = [{"split": split, "path": of} for split, of in files(format).items()]
    info = {"config_name": name, "features": _features(asked, columns), "splits": _splits(asked, format)}
    return {"config_name": name, "data_files": data_files}, info


def _splits(asked: Export, format: str) -> list[dict[str, Any]]:
    published = asked.published
    return [
        {
            "name": split,
            "num_bytes": sum(f.size_bytes for f in published.shards(split, format)),
            "num_examples": sum(f.rows for f in published.shards(split, format)),
        }
        for split in asked.splits
    ]


def _features(asked: Export, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return columns as the card's YAML has them."""
    found: list[dict[str, Any]] = []
    wanted = set(columns)
    every = asked.published.huggingface_features()
    for name, feature in ((name, about) for name, about in every.items() if name in wanted):
        names = {str(i): label for i, label in enumerate(asked.published.classes)}
        lists = asked.published.snapshot.label_lists
        if name == "label" and names and not asked.published.has_unlabelled and not lists:
            found.append({"name": name, "dtype": {"class_label": {"names": names}}})
        elif name == LABELS_COLUMN and name in lists and names:
            found.append({"name": name, "list": {"class_label": {"names": names}}})
        elif feature["_type"] == "Audio":
            found.append({"name": name, "dtype": {"audio": {"sampling_rate": feature["sampling_rate"]}}})
        elif feature["_type"] == "Image":
            found.append(
                {"name": name, "dtype": {"image": {"mode": feature["mode"]}} if "mode" in feature else "image"}
            )
        elif feature["_type"] == "List" and "_type" in feature["feature"]:
            found.append({"name": name, "list": feature["feature"]["dtype"]})
        elif feature["_type"] == "List":
            parts = [{"name": part, "dtype": about["dtype"]} for part, about in feature["feature"].items()]
            found.append({"name": name, "list": parts})
        else:
            found.append({"name": name, "dtype": feature["dtype"]})
    return found


def _text(asked: Export) -> list[str]:
    snapshot = asked.published.snapshot
    lines = [
        CARD_MARK, "", f"# {snapshot.name}", "",
        f"{snapshot.counts.clips_kept:,} clips, {snapshot.seconds.kept_s:,.1f} s of audio; snapshot {snapshot.number} of {snapshot.created}.",
        "", "| split | clips | seconds |", "|---|---|---|",
        *(f"| {s} | {side['clips']:,} | {side['seconds']:,.1f} |" for s, side in sorted(snapshot.by_split.items())),
    ]  # fmt: skip
    if asked.published.classes:
        if LABELS_COLUMN in snapshot.label_lists:
            lines += ["", "Clips can have several labels; such a clip counts for each of them."]
        lines += ["", "| label | clips | seconds |", "|---|---|---|"]
        for label in asked.published.classes:
            # A class can be named without a clip of it.
            clips, seconds = snapshot.seconds.clips_by_label.get(label, 0), snapshot.seconds.by_label.get(label, 0.0)
            lines.append(f"| {' '.join(label.split()).replace('|', '&#124;')} | {clips:,} | {seconds:,.1f} |")
    return lines


def _how_to_join(asked: Export) -> list[str]:
    split = asked.splits[0] if asked.splits else "train"
    return [
        "", "Audio and features are two configurations. Row i of both is about the same clip, and both have its `clip_id`:", "",
        "```python",
        "from datasets import concatenate_datasets, load_dataset", "",
        f'audio = load_dataset(path, "audio", split="{split}")',
        f'features = load_dataset(path, "features", split="{split}")',
        'both = concatenate_datasets([audio, features.remove_columns("clip_id")], axis=1)',
        "```",
    ]  # fmt: skip
