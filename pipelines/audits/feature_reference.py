"""Compare stored features with what librosa, torchaudio and the packages of presets compute from the stored clip."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from clipmill.pipelines.audits.audit_kinds import Finding, Kind, feature_kind
from clipmill.pipelines.audits.librosa_descriptors import DESCRIPTORS, base_of_slope, descriptor, slope
from clipmill.pipelines.audits.librosa_features import (
    check_expressible,
    db_step,
    in_output,
    log_mel,
    mfcc,
    spectrogram,
)
from clipmill.pipelines.audits.preset_packages import PACKAGES
from clipmill.pipelines.audits.preset_settings import named_presets
from clipmill.pipelines.audits.reference_calls import NoReferenceError, asking
from clipmill.pipelines.audits.shard_reading import StoredClip
from clipmill.pipelines.audits.torchaudio_features import by_kaldi, by_mel_spectrogram
from clipmill.pipelines.dataset.published import Published

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

    left_out : clips whose feature could not be compared with any reference, by the feature and the reason
    skipped : clips whose feature was compared, but not with the package that its preset stands for, by the feature and the reason
    """

    def __init__(self, published: Published) -> None:
        self._columns = {c["name"]: c for c in published.columns if c.get("kind") == "feature"}
        self._presets = named_presets(self._columns, published.snapshot.config)
        self._has_pad = any(c["name"] == "log_mel_pad" for c in published.columns)
        self.left_out: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self._told: set[tuple[str, str]] = set()

    def compare(self, clip: StoredClip) -> Iterator[Finding]:
        """Yield how the features of a clip differ from each reference there is, one finding for all channels."""
        self._told.clear()
        yield from self._findings(clip)
        for where, reason in sorted(self._told):  # of several channels, once
            (self.left_out if where == "left_out" else self.skipped)[reason] += 1

    def _findings(self, clip: StoredClip) -> Iterator[Finding]:
        y = clip.samples.T.astype(np.float64) / (32768.0 if clip.samples.dtype == np.int16 else 1.0)
        for name, column in self._columns.items():
            settings = column.get("settings") or {}
            if name in self._presets:
                yield self._presets[name].finding
            base = base_of_slope(name, settings)
            is_known = name in _KNOWN or name in DESCRIPTORS or base in clip.features
            if not is_known or not settings:
                self._told.add(("left_out", f"{name}: there is no reference for it"))
                continue
            stored = clip.features[name]
            channels = stored[None] if stored.ndim == 2 else stored
            if len(channels) != len(y):
                yield Finding(
                    self._kind(name, "librosa"), math.inf, detail=f"{len(channels)} channels, {len(y)} expected"
                )
                continue
            bases = clip.features[base].reshape(-1, *clip.features[base].shape[-2:]) if base is not None else channels
            if len(bases) != len(channels):
                yield Finding(self._kind(name, "librosa"), math.inf, detail=f"{len(bases)} channels of {base}")
                continue
            by_reference: dict[str, list[Finding]] = {}
            for values, channel, of in zip(channels, y, bases, strict=True):
                one = self._slope(name, values, of) if base else self._of_channel(name, values, channel, clip)
                for reference, finding in one:
                    by_reference.setdefault(reference, []).append(finding)
            for findings in by_reference.values():
                yield max(findings, key=lambda f: math.inf if math.isnan(f.difference) else f.difference)

    def _kind(self, name: str, reference: str) -> Kind:
        column = self._columns[name]
        settings = column["settings"]
        output = settings.get("output") if name == "spectrogram" else None
        if name == "cqt" and settings.get("output") == "magnitude":
            output = "magnitude"
        bin_hz = settings["sample_rate_hz"] / settings["n_fft"] if name == "spectral_rolloff" else 0.0
        db = db_step(settings) if name == "log_mel" else None
        return feature_kind(
            name, reference, column.get("unit", ""), preset=settings.get("preset"), output=output, db=db, bin_hz=bin_hz
        )

    def _slope(self, name: str, stored: Floats, base: Floats) -> Iterator[tuple[str, Finding]]:
        try:
            expected = slope(base, self._columns[name]["settings"])
        except NoReferenceError as error:
            self._told.add(("left_out", f"{name}: {error}"))
            return
        found = _compared(self._kind(name, "librosa"), stored, expected)
        top = float(np.abs(base.astype(np.float64)).max(initial=0.0)) or 1.0
        yield "librosa", Finding(found.kind, found.difference / top, found.slack / top, found.detail)

    def _descriptor(self, name: str, stored: Floats, y: Floats) -> Iterator[tuple[str, Finding]]:
        try:
            expected = descriptor(name, y, self._columns[name]["settings"])
        except NoReferenceError as error:
            self._told.add(("left_out", f"{name}: {error}"))
            return
        found = _compared(self._kind(name, "librosa"), stored, expected)
        if found.kind.unit == "of the maximum" and (top := float(expected.max(initial=0.0))) > 0:
            found = Finding(found.kind, found.difference / top, found.slack / top, found.detail)
        yield "librosa", found

    def _of_channel(self, name: str, stored: Floats, y: Floats, clip: StoredClip) -> Iterator[tuple[str, Finding]]:
        settings = self._columns[name]["settings"]
        if name in DESCRIPTORS:
            yield from self._descriptor(name, stored, y)
            return
        if name in ("spectrogram", "phase"):
            yield from self._transform(name, stored, y, settings)
            return
        expected: dict[str, Floats] = {}
        reasons: list[str] = []
        try:
            check_expressible(settings)
            with asking("librosa"):
                if name == "mfcc":
                    expected["librosa"] = mfcc(y, settings)
                else:
                    expected["librosa"], silence = log_mel(y, settings)
            if name == "log_mel" and self._has_pad and len(clip.samples.T) == 1:
                kind = feature_kind("log_mel_pad", "librosa", "")
                yield (
                    "pad",
                    Finding(kind, abs(clip.row["log_mel_pad"] - silence), _slack(np.array(silence), stored)),
                )
        except NoReferenceError as error:
            reasons.append(f"librosa: {error}")
        try:
            with asking("torchaudio"):
                if name == "mfcc" or settings.get("snip_edges") is not None:
                    expected["torchaudio"] = by_kaldi(y, settings, name == "mfcc")
                else:
                    expected["torchaudio"] = by_mel_spectrogram(y, settings)
        except NoReferenceError as error:
            reasons.append(f"torchaudio: {error}")
        except ImportError:
            reasons.append("torchaudio is not installed")
        if name in self._presets and self._presets[name].name in PACKAGES:
            self._by_package(name, y, expected, clip.samples.dtype != np.int16)
        if not expected:
            self._told.add(("left_out", f"{name}: no reference has its settings ({'; '.join(reasons)})"))
        for reference, values in expected.items():
            depth = db_step(settings) if name == "log_mel" else None
            yield reference, _compared(self._kind(name, reference), stored, values, depth)

    def _by_package(self, name: str, y: Floats, expected: dict[str, Floats], clip_is_float: bool) -> None:
        """Add what the preset's package gives, by the preset's name; where it cannot be asked, count why."""
        preset = self._presets[name]
        package = PACKAGES[preset.name]
        settings = self._columns[name]["settings"]
        try:
            if preset.replaced:
                raise NoReferenceError(f"the configuration replaces the preset's {', '.join(preset.replaced)}")
            if name == "mfcc" and clip_is_float:
                raise NoReferenceError("float32 clips have bands below its rounding")
            if len(y) < package.min_samples:
                raise NoReferenceError("the clip is too short for it")
            if package.least_deviation:
                with asking("librosa"):
                    raw, _ = log_mel(y, {**settings, "normalise": None, "frames_beyond": "drop"})
                if raw.std(axis=-1, ddof=1).min() < package.least_deviation:
                    raise NoReferenceError("a band hardly changes, and it divides rounding by its deviation")
            with asking(package.name):
                expected[package.name] = package.compute(y.astype(np.float32), settings["sample_rate_hz"])
        except NoReferenceError as error:
            self._told.add(("skipped", f"{name} ({preset.name}): {package.name}: {error}"))
        except ImportError:
            self._told.add(
                ("skipped", f"{name} ({preset.name}): {package.name}: it is not installed (pip install {package.name})")
            )

    def _transform(
        self, name: str, stored: Floats, y: Floats, settings: Mapping[str, Any]
    ) -> Iterator[tuple[str, Finding]]:
        try:
            check_expressible(settings)
            with asking("librosa"):
                magnitudes, phases = spectrogram(y, settings)
        except NoReferenceError as error:
            self._told.add(("left_out", f"{name}: no reference has its settings (librosa: {error})"))
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
