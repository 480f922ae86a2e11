"""Describe a dataset's columns: names, types, units, meanings, and the settings of features.

The descriptions are written once, into the snapshot. Readers use the snapshot, never the configuration. Each is a plain dictionary, which
JSON holds unchanged:

name, type : of the column in the Parquet shards; the type by its name in Arrow
kind : clip | field | audio | image | feature | shape
meaning, unit : text, left out where there is nothing to say
shape : of one value, as names and numbers: ["n_samples", "n_channels"], [80, "n_frames"]; features of several channels have one more
    dimension in front
settings : of features, pictures and audio, with all defaults filled in
of : for a column of shapes, the feature that they belong to
file : "features" where the column lies in the files beside the shards
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from clipmill.schemas.config import Config
from clipmill.schemas.config.feature_config import Features, LogMel, Spectrogram
from clipmill.schemas.config.image_config import Images
from clipmill.schemas.config.model import fingerprint
from clipmill.schemas.label_columns import EVENTS_COLUMN, LABELS_COLUMN
from clipmill.schemas.layout import BESIDE
from clipmill.schemas.tables import CHANNEL_COLUMN, FILE, IMAGE_COLUMN, manifest_schema

Column = dict[str, Any]
_ABOUT = b"clipmill"

_CLIP = {
    "clip_id": ("name of the clip, unique and stable", ""),
    "recording_id": ("recording that the clip was cut from", ""),
    "source": ("source of the configuration that the recording belongs to", ""),
    "source_uri": ("address of the recording", ""),
    "start_s": ("where the clip starts in its recording", "s"),
    "duration_s": ("length of the clip, padding included", "s"),
    "sample_rate_hz": ("sample rate of the stored audio", "Hz"),
    "n_channels": ("channels of the stored audio", ""),
    "n_samples": ("length of the clip, padding included", "samples of each channel"),
    "label": ("label, null where there is none", ""),
    "split": ("split that the clip belongs to", ""),
    "level_dbfs": ("level: 20 log10(rms / full scale), -inf for digital silence", "dBFS"),
    "n_clipped": ("samples of all channels that were beyond full scale and were clipped", "samples"),
    LABELS_COLUMN: ("labels, sorted; empty where there are none", ""),
    EVENTS_COLUMN: ("when each label is heard in the clip, sorted by onset; null where that is unknown", "s"),
    CHANNEL_COLUMN: ("channel of the recording, counted from 0; null for clips that are not of one alone", ""),
}
"""Meaning and unit of the columns that every clip has."""

_FEATURES = {
    "spectrogram": "short-time Fourier transform",
    "phase": "phase of the short-time Fourier transform",
    "log_mel": "mel power spectrogram",
    "mfcc": "mel-frequency cepstral coefficients",
}
_SPECTROGRAM_UNITS = {"magnitude": "", "power": "", "magnitude_db": "dB"}
_ONE_CHANNEL = ("mono", "left", "right", "each")


def column(
    name: str,
    kind: pa.DataType,
    meaning: str,
    unit: str = "",
    *,
    role: str = "clip",
    shape: Sequence[str | int] | None = None,
    settings: Mapping[str, Any] | None = None,
    of: str | None = None,
) -> pa.Field:
    """Return a column of shards, with its description in its metadata.

    Parameters
    ----------
    kind : Arrow type of a value; missing values are null
    meaning, unit : for people who read the dataset, as in "ratio of signal to noise", "dB"
    role : clip | field | audio | image | feature | shape
    shape, settings, of : see the module's docstring
    """
    about: Column = {"kind": role, "meaning": meaning, **({"unit": unit} if unit else {})}
    about |= {"shape": list(shape)} if shape is not None else {}
    about |= {"settings": dict(settings)} if settings is not None else {}
    about |= {"of": of} if of is not None else {}
    return pa.field(name, kind, metadata={_ABOUT: json.dumps(about)})


def feature(
    name: str,
    meaning: str,
    unit: str = "",
    *,
    shape: Sequence[str | int],
    settings: Mapping[str, Any] | None = None,
    dtype: str = "float32",
) -> tuple[pa.Field, pa.Field]:
    """Return the two columns of a feature: its values in row-major order, and each clip's shape in `<name>_shape`.

    Parameters
    ----------
    shape : of a mono clip's value, the bins before the frames, as in [12, "n_frames"]
    settings : the parameters from which the feature can be computed again
    dtype : of the stored values, float32 | float16 | int32
    """
    values = pa.list_(pa.from_numpy_dtype(dtype))
    return (
        column(name, values, meaning, unit, role="feature", shape=shape, settings=settings),
        column(f"{name}_shape", pa.list_(pa.int32()), f"shape of {name}", role="shape", of=name),
    )


def beside(field: pa.Field) -> pa.Field:
    """Return a column made by `column` as one that lies in the files beside the shards."""
    about = json.loads((field.metadata or {}).get(_ABOUT, b"{}"))
    return field.with_metadata({_ABOUT: json.dumps({**about, "file": BESIDE})})


def names_beside(columns: Sequence[Column]) -> list[str]:
    """Return the names of the columns that lie in the files beside the shards, from a snapshot's descriptions."""
    return [column["name"] for column in columns if column.get("file") == BESIDE]


def describe_columns(fields: Iterable[pa.Field]) -> list[Column]:
    """Return the descriptions of columns, for a snapshot."""
    return [{"name": f.name, "type": str(f.type), **json.loads((f.metadata or {}).get(_ABOUT, b"{}"))} for f in fields]


def measured_fields(columns: Sequence[Column]) -> list[pa.Field]:
    """Return the columns of stages with one value per clip, from a snapshot's descriptions. The manifest has them as well."""
    one = [c for c in columns if not str(c.get("type")).startswith("list<")]
    measured = [c for c in one if c.get("kind") == "clip" and c["name"] not in _CLIP]
    return [pa.field(c["name"], pa.type_for_alias(c["type"])) for c in measured]


def role_of(field: pa.Field) -> str:
    """Return the role of a column made by `column`."""
    return str(json.loads((field.metadata or {}).get(_ABOUT, b"{}")).get("kind", "clip"))


def is_summed(field: pa.Field) -> bool:
    """Return whether the values of a feature's bins are summed: numbers that are no names, with the bins in front of the frames."""
    shape = json.loads((field.metadata or {}).get(_ABOUT, b"{}")).get("shape") or [0]
    return bool(pa.types.is_floating(field.type.value_type)) and shape[0] != "n_frames"


def base_fields(config: Config) -> list[pa.Field]:
    """Return the columns that every clip has."""
    names = manifest_schema([], config.has_channel_column, (), config.label_lists)
    return [column(f.name, f.type, *_CLIP[f.name]) for f in names if f.name != "shard"]


def corpus_fields(names: Sequence[str]) -> list[pa.Field]:
    """Return the columns of the corpus's own fields."""
    return [column(name, pa.string(), "the corpus's own field", role="field") for name in names]


def audio_field(config: Config) -> pa.Field:
    """Return the column of encoded audio."""
    is_one = all(isinstance(c, list) or c in _ONE_CHANNEL for c in map(config.channels_of, config.sources))
    settings = {
        "codec": config.output.audio_codec,
        "sample_rate_hz": config.audio.sample_rate_hz,
        "sample_format": config.audio.sample_format,
        "resampler": config.audio.resampler,
    }
    meaning = "the clip as the bytes of an audio file, and its name"
    shape = ["n_samples", 1 if is_one else "n_channels"]
    return column("audio", FILE, meaning, role="audio", shape=shape, settings=settings)


def image_field(images: Images) -> pa.Field:
    """Return the column of pictures."""
    settings = images.model_dump(mode="json")
    shape = [settings.get("height") or "n_bands", settings.get("width") or "n_frames"]
    meaning = "the clip's log-mel as the bytes of a PNG, and its name"
    return column(IMAGE_COLUMN, FILE, meaning, role="image", shape=shape, settings=settings)


def feature_fields(features: Features, sample_rate_hz: int) -> list[pa.Field]:
    """Return the columns of the configured features among spectrogram, phase, log-mel and MFCC."""
    fields: list[pa.Field] = []
    for name in features.names:
        about = _feature(name, features, sample_rate_hz)
        fields += feature(
            name,
            about["meaning"],
            about.get("unit", ""),
            shape=about["shape"],
            settings=about["settings"],
            dtype=features.dtype,
        )
    meaning = "value of silence in the clip's log_mel, to fill it up with"
    return [*fields, *(column(name, pa.float32(), meaning) for name in features.pad_names)]


def columns_of_schema(schema: pa.Schema, field_names: Sequence[str]) -> list[Column]:
    """Return the descriptions that a Parquet shard's schema allows, for snapshots that were published without descriptions."""
    features = _feature_names(schema)
    own = set(field_names)
    columns = []
    for field in schema:
        column: Column = {"name": field.name, "type": str(field.type)}
        if field.name in own:
            column |= {"kind": "field", "meaning": "the corpus's own field"}
        elif field.name == "audio":
            column |= {"kind": "audio", "meaning": "the clip as the bytes of an audio file, and its name"}
        elif field.name == IMAGE_COLUMN and pa.types.is_struct(field.type):
            column |= {"kind": "image", "meaning": "the clip's log-mel as the bytes of a PNG, and its name"}
        elif field.name in features:
            column |= describe_feature(field.name)
        elif field.name.removesuffix("_shape") in features:
            column |= _shape(field.name)
        else:
            meaning, unit = _CLIP.get(field.name, ("", ""))
            column |= {"kind": "clip", **({"meaning": meaning} if meaning else {}), **({"unit": unit} if unit else {})}
        columns.append(column)
    return columns


def describe_feature(name: str) -> Column:
    """Return the description of a feature of which only the name is known."""
    return {"kind": "feature", **({"meaning": _FEATURES[name]} if name in _FEATURES else {})}


def feature_names(columns: Sequence[Column]) -> list[str]:
    """Return the names of the features among columns, in their order."""
    return [column["name"] for column in columns if column.get("kind") == "feature"]


def _feature_names(schema: pa.Schema) -> set[str]:
    """Return the list columns that have a column of shapes. The corpus's own fields are text."""
    lists = {field.name for field in schema if pa.types.is_list(field.type)}
    return {name for name in lists if f"{name}_shape" in lists}


def _feature(name: str, features: Features, sample_rate_hz: int) -> Column:
    meaning, unit, n_bins, settings = _FEATURES[name], "dB", 0, {}
    at_rate = features.at(sample_rate_hz)
    if name in ("spectrogram", "phase") and at_rate.spectrogram is not None:
        settings = _resolved(at_rate.spectrogram, sample_rate_hz)
        n_bins = 1 + at_rate.spectrogram.n_fft // 2
        unit = "rad" if name == "phase" else _SPECTROGRAM_UNITS[at_rate.spectrogram.output]
    elif name == "log_mel" and at_rate.log_mel is not None:
        settings, n_bins = _resolved(at_rate.log_mel, sample_rate_hz), at_rate.log_mel.n_mels
        unit = _unit(at_rate.log_mel)
    elif name == "mfcc" and features.mfcc is not None and at_rate.of_mfcc is not None:
        own = {k: v for k, v in fingerprint(features.mfcc).items() if k not in LogMel.model_fields or k == "preset"}
        settings = {**_resolved(at_rate.of_mfcc, sample_rate_hz), **own}
        n_bins = features.mfcc.n_mfcc
        unit = _unit(at_rate.of_mfcc)
    settings = {**settings, "sample_rate_hz": sample_rate_hz, "frame_shift_s": settings["hop_length"] / sample_rate_hz}
    about: Column = {"kind": "feature", "meaning": meaning, **({"unit": unit} if unit else {})}
    return {**about, "shape": [n_bins, "n_frames"], "settings": settings}


def _unit(spec: LogMel) -> str:
    """Return dB for what is in decibels, and nothing for other logarithms and for what is scaled."""
    return "dB" if spec.per_db == 1.0 and not spec.subtract else ""


def _resolved(spec: Spectrogram | LogMel, sample_rate_hz: int) -> dict[str, Any]:
    """Return settings in which defaults that depend on other keys are filled in. Keys that came later are there if they are set."""
    settings: dict[str, Any] = fingerprint(spec)
    settings["win_length"] = settings["win_length"] or settings["n_fft"]
    if isinstance(spec, LogMel):
        settings["fmax"] = settings["fmax"] or sample_rate_hz / 2
    return settings


def _shape(name: str) -> Column:
    return {"kind": "shape", "meaning": f"shape of {name.removesuffix('_shape')}", "of": name.removesuffix("_shape")}
