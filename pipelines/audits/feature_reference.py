"""Compare stored features with what librosa, torchaudio and the packages of presets compute from the stored clip."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from clipmill.pipelines.audits.audit_kinds import Finding, Kind, feature_kind
from clipmill.pipelines.audits.librosa_features import (
    NoReferenceError,
    check_expressible,
    db_step,
    in_output,
    log_mel,
    mfcc,
    spectrogram,
)
from clipmill.pipelines.audits.preset_packages import PACKAGES
from clipmill.pipelines.audits.shard_reading import StoredClip
from clipmill.pipelines.audits.torchaudio_features import by_kaldi, by_mel_spectrogram
from clipmill.pipelines.dataset.published import Published
from clipmill.schemas.columns import describe_columns, feature_fields
from clipmill.schemas.config.feature_config import Features

Floats = npt.NDArray[Any]
Column = Mapping[str, Any]
_KNOWN = ("spectrogram", "phase", "log_mel", "mfcc")
_AUDIBLE = 1e-3
"""Share of the largest magnitude from which on phases are compared: below, a phase is that of rounding."""
_HALF_PRECISION = 2.0**-11
_HEARD_DB = 80.0
"""Bands further below the loudest of their frame are not compared: there, single precision's rounding of a transform is in the values."""


class FeatureReferences:
    """Compares the features of clips.

    left_out : clips whose feature could not be compared with a reference, by the reason
    """

    def __init__(self, published: Published) -> None:
        self._columns = {c["name"]: c for c in published.columns if c.get("kind") == "feature"}
        self._presets = {name: _whole_preset(c) for name, c in self._columns.items()}
        self._has_pad = any(c["name"] == "log_mel_pad" for c in published.columns)
        self.left_out: Counter[str] = Counter()

    def compare(self, clip: StoredClip) -> Iterator[Finding]:
        """Yield how the features of a clip differ from each reference there is, one finding for all channels."""
        y = clip.samples.T.astype(np.float64) / (32768.0 if clip.samples.dtype == np.int16 else 1.0)
        for name, column in self._columns.items():
            settings = column.get("settings") or {}
            if name not in _KNOWN or not settings:
                self.left_out[f"{name}: there is no reference for it"] += 1
                continue
            stored = clip.features[name]
            channels = stored[None] if stored.ndim == 2 else stored
            if len(channels) != len(y):
                yield Finding(
                    self._kind(name, "librosa"), math.inf, detail=f"{len(channels)} channels, {len(y)} expected"
                )
                continue
            by_reference: dict[str, list[Finding]] = {}
            for values, channel in zip(channels, y, strict=True):
                for reference, finding in self._of_channel(name, values, channel, clip):
                    by_reference.setdefault(reference, []).append(finding)
            for findings in by_reference.values():
                yield max(findings, key=lambda f: math.inf if math.isnan(f.difference) else f.difference)

    def _kind(self, name: str, reference: str) -> Kind:
        column = self._columns[name]
        settings = column["settings"]
        output = settings.get("output") if name == "spectrogram" else None
        db = db_step(settings) if name == "log_mel" else None
        return feature_kind(
            name, reference, column.get("unit", ""), preset=settings.get("preset"), output=output, db=db
        )

    def _of_channel(self, name: str, stored: Floats, y: Floats, clip: StoredClip) -> Iterator[tuple[str, Finding]]:
        settings = self._columns[name]["settings"]
        if name in ("spectrogram", "phase"):
            yield from self._transform(name, stored, y, settings)
            return
        expected: dict[str, Floats] = {}
        reasons: list[str] = []
        try:
            check_expressible(settings)
            if name == "mfcc":
                expected["librosa"] = mfcc(y, settings)
            else:
                expected["librosa"], silence = log_mel(y, settings)
                if self._has_pad and len(clip.samples.T) == 1:
                    kind = feature_kind("log_mel_pad", "librosa", "")
                    yield (
                        "pad",
                        Finding(kind, abs(clip.row["log_mel_pad"] - silence), _slack(np.array(silence), stored)),
                    )
        except NoReferenceError as error:
            reasons.append(f"librosa: {error}")
        try:
            if name == "mfcc":
                expected["torchaudio"] = by_kaldi(y, settings, True)
            elif settings.get("snip_edges") is not None:
                expected["torchaudio"] = by_kaldi(y, settings, False)
            else:
                expected["torchaudio"] = by_mel_spectrogram(y, settings)
        except NoReferenceError as error:
            reasons.append(f"torchaudio: {error}")
        except ImportError:
            reasons.append("torchaudio is not installed")
        if (preset := self._presets[name]) is not None and preset in PACKAGES:
            self._by_package(name, preset, y, expected, clip.samples.dtype != np.int16)
        if not expected:
            self.left_out[f"{name}: no reference has its settings ({'; '.join(reasons)})"] += 1
        for reference, values in expected.items():
            depth = db_step(settings) if name == "log_mel" else None
            yield reference, _compared(self._kind(name, reference), stored, values, depth)

    def _by_package(self, name: str, preset: str, y: Floats, expected: dict[str, Floats], clip_is_float: bool) -> None:
        package = PACKAGES[preset]
        if name == "mfcc" and clip_is_float:
            self.left_out[f"{name}: float32 clips have bands below the rounding of {package.name}"] += 1
            return
        if len(y) < package.min_samples:
            self.left_out[f"{name}: the clip is too short for {package.name}"] += 1
            return
        if package.least_deviation:
            raw, _ = log_mel(y, {**self._columns[name]["settings"], "normalise": None, "frames_beyond": "drop"})
            if raw.std(axis=-1, ddof=1).min() < package.least_deviation:
                self.left_out[
                    f"{name}: a band hardly changes, and {package.name} divides rounding by its deviation"
                ] += 1
                return
        try:
            expected[package.name] = package.compute(
                y.astype(np.float32), self._columns[name]["settings"]["sample_rate_hz"]
            )
        except ImportError:
            self.left_out[f"{name}: the preset's own {package.name} is not installed (pip install {package.name})"] += 1

    def _transform(
        self, name: str, stored: Floats, y: Floats, settings: Mapping[str, Any]
    ) -> Iterator[tuple[str, Finding]]:
        try:
            check_expressible(settings)
            magnitudes, phases = spectrogram(y, settings)
        except NoReferenceError as error:
            self.left_out[f"{name}: no reference has its settings (librosa: {error})"] += 1
            return
        largest = magnitudes.max(initial=0.0)
        kind = self._kind(name, "librosa")
        if name == "phase":
            if stored.shape != phases.shape:
                yield "librosa", _compared(kind, stored, phases)
                return
            turned = np.abs(np.angle(np.exp(1j * (stored.astype(np.float64) - phases))))
            is_heard = magnitudes > _AUDIBLE * largest
            yield "librosa", Finding(kind, float(turned[is_heard].max(initial=0.0)), _slack(phases, stored))
            return
        expected = in_output(magnitudes, settings)
        found = _compared(kind, stored, expected)
        if settings["output"] != "magnitude_db" and (top := float(expected.max(initial=0.0))) > 0:
            found = Finding(kind, found.difference / top, found.slack / top, found.detail)
        yield "librosa", found


def _compared(kind: Kind, stored: Floats, expected: Floats, db: float | None = None) -> Finding:
    """Return how stored values differ. db : what a decibel is in them; None: all values are compared, however low"""
    if stored.shape != expected.shape:
        return Finding(kind, math.inf, detail=f"shape {list(stored.shape)}, {list(expected.shape)} expected")
    if not stored.size:
        return Finding(kind, 0.0)
    apart = np.abs(stored.astype(np.float64) - expected)
    if np.isnan(apart).any():
        return Finding(kind, math.inf, detail="values that are no numbers")
    if db is not None:
        apart[expected < expected.max(axis=0, keepdims=True) - _HEARD_DB * db] = 0.0
    at = np.unravel_index(int(np.argmax(apart)), apart.shape)
    return Finding(kind, float(apart[at]), _slack(expected, stored), f"bin {at[0]}, frame {at[1]}")


def _slack(expected: Floats, stored: Floats) -> float:
    """Return what rounding to half precision adds; nothing where values are stored in single precision."""
    return float(np.abs(expected).max(initial=0.0)) * _HALF_PRECISION if stored.dtype == np.float16 else 0.0


def _whole_preset(column: Column) -> str | None:
    """Return the preset of a feature whose settings are the preset's; None if there is none, or a key replaces one of its own."""
    settings = column.get("settings") or {}
    preset, name = settings.get("preset"), column["name"]
    if preset is None or name not in ("log_mel", "mfcc"):
        return None
    plain = Features.model_validate({name: {"preset": preset}})
    for other in describe_columns(feature_fields(plain, settings["sample_rate_hz"])):
        if other["name"] == name and other["settings"] == settings:
            return str(preset)
    return None
