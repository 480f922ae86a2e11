"""`clipmill audit`: which references there are, what they refuse, and what is said of all that has none."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import run, tone, write_audio
from test_audit import RATE, audited, beyond, built

from clipmill.pipelines.audits.audit_kinds import Finding, Kind, KindTotal
from clipmill.pipelines.audits.level_reference import compare_levels
from clipmill.pipelines.audits.preset_packages import PACKAGES
from clipmill.pipelines.audits.recutting import NOT_FINITE
from clipmill.schemas import feature_presets

pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings, and a dataset of them that no test changes."""
    place = tmp_path_factory.mktemp("audit")
    for name, rate in (("a.wav", RATE), ("b.flac", 44100)):
        y = tone(1.3, rate, 2, seed=rate)
        write_audio(place / "in" / name, y + 0.05 * np.random.default_rng(rate).standard_normal(y.shape), rate)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clipmill.pipelines.run.build._ray_is_at_hand", lambda: False)
        built(place, features={"log_mel": {"preset": "whisper-80"}})
    return place


def test_a_presets_package_that_is_missing_or_refuses_a_clip_is_named(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(y: np.ndarray, rate_hz: int) -> np.ndarray:
        raise RuntimeError("padding should be smaller\nthan the input")

    with monkeypatch.context() as patch:
        patch.setitem(PACKAGES, "whisper-80", replace(PACKAGES["whisper-80"], compute=refusing))  # type: ignore[arg-type]
        refused = audited(place / "out", 2)
    monkeypatch.setitem(sys.modules, "whisper", None)
    missing = audited(place / "out", 2)
    about = "log_mel (whisper-80): openai-whisper: "
    assert refused.skipped == {about + "openai-whisper cannot compute it: padding should be smaller than the input": 2}
    assert missing.skipped == {about + "it is not installed (pip install openai-whisper)": 2}
    assert refused.is_within and missing.is_within


@pytest.mark.parametrize("is_mended", [True, False])
def test_a_preset_that_a_build_took_for_another_is_noticed(
    is_mended: bool, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings and the values agree with each other. Where the audit takes it for another as well, the preset's package does not."""
    (tmp_path / "in").symlink_to(place / "in")
    wrong = {**feature_presets.MFCC, "kaldi-mfcc-13": {**feature_presets.MFCC["kaldi-mfcc-13"], "lifter": 21.0}}
    with monkeypatch.context() as patch:
        patch.setattr("clipmill.schemas.config.mel_config.MFCC", wrong)
        root = built(tmp_path, features={"mfcc": {"preset": "kaldi-mfcc-13"}})
        result = None if is_mended else audited(root, 3)
    if result is None:
        result = audited(root, 3)
        settings = next(c.finding for c in result.beyond if "settings" in c.finding.kind.name)
        assert settings.detail == "lifter 21.0, 22.0 expected"
    package = {"mfcc (kaldi-mfcc-13) vs kaldi-native-fbank"}
    assert beyond(result) == package | ({"mfcc (kaldi-mfcc-13) settings"} if is_mended else set())


DESCRIPTORS: dict[str, Any] = {
    "chroma": True, "zero_crossing_rate": True, "spectral_centroid": True, "spectral_rolloff": True,
    "spectral_contrast": {"n_bands": 5}, "tonnetz": {"n_octaves": 3}, "cqt": {"n_bins": 72},
    "mfcc": {"n_fft": 512, "hop_length": 160}, "deltas": {"of": "mfcc"},
}  # fmt: skip
OF_DESCRIPTORS = {
    f"{name} vs librosa" for name in ("mfcc_delta", "mfcc_delta2", *(DESCRIPTORS.keys() - {"mfcc", "deltas"}))
}


def test_what_librosa_describes_is_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    y = tone(0.8, RATE, 2)
    noise = np.random.default_rng(0).standard_normal(y.shape)
    write_audio(tmp_path / "in/a.wav", y * np.linspace(1, 0.2, len(y))[:, None] + 0.05 * noise, RATE)
    audio = {"sample_rate_hz": RATE, "channels": "keep"}
    result = audited(built(tmp_path, audio=audio, features=DESCRIPTORS), 5)
    assert beyond(result) == set() and result.left_out == {}
    assert {total.kind.name for total in result.kinds} >= OF_DESCRIPTORS
    module = importlib.import_module("clipmill.stages.features_by_clip")
    stacked = module.stacked

    def late(channels: list[np.ndarray]) -> np.ndarray:
        return np.asarray(np.roll(stacked(channels), 1, axis=-1))

    with monkeypatch.context() as patch:
        patch.setattr(module, "stacked", late)
        patch.setattr("clipmill.stages.features.deltas.stacked", late)
        root = built(tmp_path, "late", audio=audio, features=DESCRIPTORS)
    assert beyond(audited(root, 5)) == OF_DESCRIPTORS


def test_what_has_no_reference_is_named_at_the_end(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").symlink_to(place / "in")
    root = built(tmp_path, features={"zero_crossing_rate": True}, clips=[{"measure": ["snr"]}])
    assert "3 clips; 1 column without a reference: snr_db" in run("audit", root, "--clips", 3)

    def refusing(*arguments: Any, **options: Any) -> None:
        raise importlib.import_module("librosa").ParameterError("the clip is too short")

    monkeypatch.setattr("librosa.feature.zero_crossing_rate", refusing)
    said = run("audit", root, "--clips", 3)
    assert "no reference: 3 clips: zero_crossing_rate: librosa cannot compute it: the clip is too short" in said
    assert said.rstrip().endswith("3 clips; 2 columns without a reference: snr_db, zero_crossing_rate")


@pytest.mark.parametrize("rate", [RATE, 44100])
def test_samples_that_are_not_finite_cost_the_clips_beside_them(tmp_path: Path, rate: int) -> None:
    y = tone(9.0, rate)
    write_audio(tmp_path / "in/good.wav", y[: 2 * rate], rate)
    y[int(0.2 * rate)], y[int(5.97 * rate)] = np.nan, np.inf
    write_audio(tmp_path / "in/nan.wav", y, rate, "FLOAT")
    root = built(tmp_path, features={}, limits={"max_rejected_share": 1, "allow_empty_splits": True})
    printed = json.loads(run("audit", root, "--json").splitlines()[-1])
    assert printed["beyond"] == [] and printed["clips"] > 6
    assert set(printed["not_compared"]) == ({NOT_FINITE} if rate != RATE else set())
    assert printed["recut"] > printed["clips"] / 2


def test_a_recording_that_librosa_cannot_resample_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*arguments: Any, **options: Any) -> None:
        raise importlib.import_module("librosa").ParameterError("too short")

    monkeypatch.setattr("librosa.resample", refusing)
    result = audited(place / "out", 100)
    assert list(result.not_compared) == ["librosa cannot resample the recording: too short"]
    assert 0 < result.recut < result.clips


def test_the_tolerance_is_that_of_the_stored_precision() -> None:
    """What is printed does not contradict itself: the difference is beyond what is allowed if any is, and within otherwise."""
    kind = Kind("f", "dB", 0.03)
    total = KindTotal(kind)
    total.add("a", Finding(kind, 0.0312, slack=0.0156))
    total.add("b", Finding(kind, 0.0290, slack=0.0010))
    found = total.to_dict()
    assert (found["worst"], found["beyond"], found["largest"]) == ("b", 0, 0.029)
    assert found["tolerance"] == pytest.approx(0.031)
    total.add("c", Finding(kind, 0.0305, slack=0.0))
    total.add("d", Finding(kind, 0.0400, slack=0.0156))
    found = total.to_dict()
    assert (found["worst"], found["beyond"]) == ("c", 1) and found["largest"] > found["tolerance"]


@pytest.mark.parametrize("scale", [1e-3, 0.9, 1.0, 1.9995, 2.5, 700.0])
def test_levels_far_over_full_scale_are_compared_too(scale: float) -> None:
    samples = (scale * np.sin(np.arange(4000) / 7)).astype(np.float32)[:, None]
    wanted = 20 * np.log10(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
    peak = 20 * np.log10(float(np.abs(samples).max()))
    row = {"level_dbfs": float(wanted), "peak_dbfs": float(peak)}
    level, top = compare_levels(row, samples, 8000, True)
    assert level.difference < 1e-4 and top.difference < 1e-4
    assert next(compare_levels({"level_dbfs": float(wanted) + 0.1}, samples, 8000, False)).is_beyond
