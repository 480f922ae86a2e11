"""Make samples out of rows of shards: tensors, decoded audio and pictures, and labels as numbers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.read.normalising import Scales
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.label_columns import LABELS_COLUMN
from clipmill.schemas.log_scale import PAD_SUFFIX
from clipmill.schemas.tables import IMAGE_COLUMN
from clipmill.stages.write.encode import decode_waveform

LABEL_ID = "label_id"
Sample = dict[str, Any]


class RowTensors:
    """What a dataset makes of its rows.

    columns : of samples
    decode_images : make pictures tensors

    names : of the columns to read
    scales : mean and factor of features that are to be normalised

    Raises
    ------
    ClipmillError : a column does not exist, or the dataset has no pictures to decode
    """

    def __init__(self, published: Published, columns: Sequence[str], has_clips: bool, decode_images: bool) -> None:
        self._ids = {label: i for i, label in enumerate(published.classes)}
        self._has_lists = LABELS_COLUMN in published.snapshot.label_lists
        self._decodes_images = decode_images
        self.scales: Scales = {}
        stored: list[str] = []
        if has_clips:
            shapes = {f"{name}_shape" for name in published.feature_names}
            stored = [column["name"] for column in published.columns if column["name"] not in shapes]
            published.check_columns(columns, list(dict.fromkeys([*stored, LABEL_ID, LABELS_COLUMN])))
        if self._has_lists and LABEL_ID in columns:
            raise ClipmillError(
                f"{published.root.url}: clips of this dataset can have several labels, so label_id does not tell them; ask for"
                " labels, which are float32 [classes]"
            )
        if decode_images and (IMAGE_COLUMN not in columns or not published.has_images):
            there_are = "" if published.has_images else "; the dataset has none: add output.images and build again"
            raise ClipmillError(
                f"{published.root.url}: decode_images needs pictures among the columns: add {IMAGE_COLUMN}{there_are}"
            )
        self._columns = tuple(columns)
        # A field of the corpus can have the name `labels`, unless clips can have several.
        self._made = {
            name
            for name in columns
            if name == LABEL_ID or (name == LABELS_COLUMN and (self._has_lists or name not in stored))
        }
        self._silences = _silences(published, columns)
        self.names = [c for c in columns if c not in self._made]
        self.names += [c for c in self._silences.values() if isinstance(c, str) and c not in self.names]
        if self._made and (label := LABELS_COLUMN if self._has_lists else "label") not in self.names:
            self.names.append(label)

    def sample(self, row: Mapping[str, Any]) -> Sample:
        """Return a row for training.

        Features whose description says what to fill them up with have that beside them as `<name>_pad`: a number, or float32 [bins, 1] or
        [1, 1] if they are normalised. Raises ValueError or OSError if the row's audio or picture is damaged.
        """
        sample: Sample = {}
        for name in self._columns:
            if name in self._made:
                labels = row[LABELS_COLUMN] if self._has_lists else [row["label"]]
                ids = [self._ids[label] for label in labels or () if label in self._ids]
                sample[name] = self._multi_hot(ids) if name == LABELS_COLUMN else ids[0] if ids else -1
            elif name == "audio":
                sample[name] = _waveform(row[name]["bytes"])
            elif name == IMAGE_COLUMN and isinstance(row[name], dict):
                content = row[name]["bytes"]
                sample[name] = _pixels(content) if self._decodes_images else content
            elif isinstance(row[name], np.ndarray):
                sample[name] = torch.from_numpy(row[name])
                if name in self.scales:
                    mean, factor = self.scales[name]
                    if sample[name].ndim == 1:  # one value a bin
                        mean, factor = mean.reshape(-1), factor.reshape(-1)
                    sample[name].sub_(mean).mul_(factor)
            else:
                sample[name] = row[name]
        for name, silence in self._silences.items():
            value = row[silence] if isinstance(silence, str) else silence
            if name in self.scales:
                mean, factor = self.scales[name]
                value = (value - mean) * factor
            sample[name + PAD_SUFFIX] = value
        return sample

    def _multi_hot(self, ids: list[int]) -> torch.Tensor:
        hot = torch.zeros(len(self._ids), dtype=torch.float32)
        hot[ids] = 1.0
        return hot


def _silences(published: Published, columns: Sequence[str]) -> dict[str, float | str]:
    """Return what fills up the features that say so: a value, or the name of the column with each clip's own."""
    found: dict[str, float | str] = {}
    for about in published.columns:
        value = about.get("settings", {}).get("pad_value") if about.get("kind") == "feature" else None
        if about["name"] in columns and value is not None:
            found[about["name"]] = about["name"] + PAD_SUFFIX if value == "floor" else float(value)
    return found


def _waveform(content: bytes) -> torch.Tensor:
    """Return a stored clip as float32 [channels, samples] in [-1, 1)."""
    return torch.from_numpy(np.ascontiguousarray(decode_waveform(content).T))


def _pixels(content: bytes) -> torch.Tensor:
    """Return a stored picture as uint8 [height, width, 1], or [height, width, 3] if it has colours."""
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        pixels = np.array(image.convert("RGB") if image.mode == "P" else image)
    return torch.from_numpy(pixels[..., None] if pixels.ndim == 2 else pixels)
