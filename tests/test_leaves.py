"""Each leaf of a configuration moves a key, or stands in the list of those that must not: none is forgotten."""

from __future__ import annotations

import copy
import json
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from clipmill.pipelines.chain import chain_of
from clipmill.pipelines.plan.fingerprints import clips_fingerprint, files_fingerprint, source_fingerprint
from clipmill.schemas.config import Config, Output, Segment, Silence, Source
from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.config.audio_config import Audio
from clipmill.schemas.config.feature_config import Features, LogMel, Mfcc, Spectrogram
from clipmill.schemas.config.image_config import Images
from clipmill.schemas.config.raw_config import Raw
from clipmill.schemas.errors import ConfigError

PLAIN: dict[str, Any] = {
    "name": "d",
    "sources": [
        {
            "name": "s", "root": "/data", "segment": {"mode": "window", "length_s": 1.0, "hop_s": 0.5, "tail": "pad_noise"},
            "annotations": {"sidecar": "{stem}.csv", "columns": {"start": "s", "end": "e"}},
        },
        {"name": "r", "root": "/raw", "include": ["**/*.pcm"], "raw": {"sample_rate_hz": 8000, "encoding": "s16le"}},
    ],
    "audio": {"sample_rate_hz": 16000},
    "features": {
        "log_mel": {"top_db": 60.0, "fmax": 7000.0, "preemphasis": 0.5}, "spectrogram": {"preemphasis": 0.5},
        "mfcc": {"n_mfcc": 13},
    },
    "output": {"root": "/out", "audio_codec": "wav", "images": {"range_db": [-80, 0]}},
}  # fmt: skip

# What decides which recordings, rows, labels and noises there are, or where they stand, is in the digests of items, in the listing of
# noises, and in the places of shards.
OF_ITEMS = {
    "sources[].name", "sources[].include", "sources[].exclude", "sources[].any_name", "sources[].follow_links", "sources[].version",
    "sources[].annotations", "sources[].joins", "sources[].label", "sources[].fields", "sources[].text", "split", "classes", "noises",
    "exclude_clips",
}  # fmt: skip
# What is not to move a key: how the work is done, what is held back, and how much a shard has.
NOT_IN_KEYS = {
    "name", "limits", "sources[].storage_options", "sources[].bytes_per_second", "output.root", "output.storage_options",
    "output.shard_seconds", "features.device",
}  # fmt: skip
OF_MODES: dict[str, dict[str, Any]] = {
    **{f"sources[].segment.{key}": {"mode": "silence"} for key in ("below_dbfs", "min_silence_s", "pad_s")},
    **{f"sources[].segment.{key}": {"mode": "speech"} for key in ("min_s", "max_s", "max_gap_s")},
    "sources[].segment.pad": {"mode": "fixed", "length_s": 1.0}, "sources[].segment.crop": {"mode": "fixed", "length_s": 1.0},
}  # fmt: skip
"""Keys of single modes of cutting, with a configuration of that mode."""
ALTERNATIVES: dict[str, Any] = {
    "sources[].root": "/elsewhere", "sources[].segment.mode": "whole", "sources[].segment.tail_noise_dbfs": -40.0,
    "sources[].raw.encoding": "s24le", "sources[].channels": "left", "sources[].track": 1, "sources[].clips": [{"silence": {"min_dbfs": -10}}],
    "output.clip_id_bits": 128, "output.features": "beside", "sources[].joins": [{"sidecar": "{stem}.speakers.csv"}],
    "clips": [{"silence": {"min_dbfs": -30}}], "silence.min_dbfs": -40.0, "audio.channels": "keep", "audio.track": "first",
    "output.formats": ["webdataset"], "output.images.colormap": "viridis", "output.images.mode": "rgb", "output.images.range_db": [-60, 0],
    "output.audio_codec": "flac", "features.mfcc.norm": "none", "features.mfcc.window": "ones", "features.mfcc.center": False,
    "features.mfcc.pad_mode": "reflect", "features.mfcc.mel_scale": "htk", "features.spectrogram.output": "magnitude",
    "features.log_mel.model_rate_hz": 16000, "features.mfcc.model_rate_hz": 16000,
    **{f"features.{name}.win_s": 0.025 for name in ("log_mel", "mfcc", "spectrogram")},
    **{f"features.{name}.hop_s": 0.01 for name in ("log_mel", "mfcc", "spectrogram")},
}  # fmt: skip


def leaves() -> Iterator[tuple[str, tuple[Any, ...], typing.Any]]:
    """Yield (key, path, annotation) of all leaves whose models stand in keys."""
    models: list[tuple[str, tuple[Any, ...], type[BaseModel]]] = [
        ("", (), Config), ("sources[].", ("sources", 0), Source), ("sources[].segment.", ("sources", 0, "segment"), Segment),
        ("sources[].raw.", ("sources", 1, "raw"), Raw), ("audio.", ("audio",), Audio), ("silence.", ("silence",), Silence),
        ("features.", ("features",), Features), ("features.log_mel.", ("features", "log_mel"), LogMel),
        ("features.mfcc.", ("features", "mfcc"), Mfcc), ("features.spectrogram.", ("features", "spectrogram"), Spectrogram),
        ("output.", ("output",), Output), ("output.images.", ("output", "images"), Images),
    ]  # fmt: skip
    inner = {
        Source: {"segment", "raw"},
        Config: {"sources", "audio", "silence", "features", "output"},
        Output: {"images"},
    }
    for prefix, path, model in models:
        for name, info in model.model_fields.items():
            if name in inner.get(model, set()) or (model is Features and name in ("log_mel", "mfcc", "spectrogram")):
                continue
            yield prefix + (info.alias or name), (*path, info.alias or name), info


def others(key: str, info: Any, now: Any) -> Iterator[Any]:
    """Yield values that a leaf could have instead of what it has."""
    if key in ALTERNATIVES:
        yield ALTERNATIVES[key]
    for choice in _choices(info.annotation):
        if choice != now:
            yield choice
    if isinstance(now, bool):
        yield not now
    if isinstance(now, int | float) and not isinstance(now, bool):
        yield from (now + 1, now * 2, now / 2, now - 1)
    yield from (None, True, 100, 1024, 0.5, 1, "x", ["x"], {"x": "y"}, {"min_clips": 2})


def _choices(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) is typing.Literal:
        return list(typing.get_args(annotation))
    return [c for part in typing.get_args(annotation) if not isinstance(part, str | int) for c in _choices(part)]


def keys(config: Config) -> str:
    chain = chain_of(config)
    parts = [
        clips_fingerprint(chain, []),
        files_fingerprint(chain),
        [source_fingerprint(chain, s) for s in config.sources],
    ]
    return json.dumps(parts, sort_keys=True)


def value_at(config: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        config = config[part] if isinstance(part, int) else getattr(config, "from_" if part == "from" else part)
    return config


@pytest.mark.parametrize(("key", "path", "info"), [pytest.param(*leaf, id=leaf[0]) for leaf in leaves()])
def test_each_leaf_moves_a_key_or_is_known_not_to(key: str, path: tuple[Any, ...], info: Any) -> None:
    base = copy.deepcopy(PLAIN)
    if (segment := OF_MODES.get(key)) is not None:
        base["sources"][0]["segment"] = segment
    if key == "features.log_mel.normalise":
        base["output"]["images"] = {}  # a range in dB is refused
    before = Config.model_validate(base)
    now = value_at(before, path)
    if any(key == name or key.startswith(f"{name}.") for name in OF_ITEMS):
        return
    for other in others(key, info, now):
        plain = copy.deepcopy(base)
        place = plain
        for part in path[:-1]:
            place = place[part] if isinstance(part, int) else place.setdefault(part, {})
        if key == "sources[].segment.mode":
            place.clear()  # the other keys belong to windows
        place[path[-1]] = other
        try:
            after = Config.model_validate(plain)
            moved = keys(after) != keys(before)
        except (ValidationError, ConfigError):
            continue
        if value_at(after, path) == now:
            continue
        assert moved == (key not in NOT_IN_KEYS and key.split(".")[0] not in NOT_IN_KEYS), f"{now!r} to {other!r}"
        return
    raise AssertionError("no other value fits; give one in ALTERNATIVES")


def test_lists_name_what_there_is() -> None:
    known = {key for key, _, _ in leaves()} | {"limits", "split", "classes"}
    assert {*OF_ITEMS, *NOT_IN_KEYS, *ALTERNATIVES} <= known
    assert Annotations.model_fields, "rows stand in item digests"
