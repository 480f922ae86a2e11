"""`clipmill audit`: what other programs make of the recordings and of the stored clips, on good datasets and on those of a broken build."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import run, tone, upload_source, write_audio
from test_layers import MODULES, imported

from clipmill import open_dataset
from clipmill.pipelines.audits.audit import Audit, audit
from clipmill.pipelines.audits.audit_kinds import RESAMPLED, Finding, KindTotal
from clipmill.pipelines.audits.clip_sample import choose_clips
from clipmill.pipelines.chain import same_chain
from clipmill.pipelines.run.sandbox import Sandbox
from clipmill.pipelines.run.shard_work import apply_stages
from clipmill.stages import canonical, downmix, resample, segment, spans
from clipmill.stages.features.kernels import spectral
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")
RATE = 16000
FEATURES = {
    "log_mel": {"preset": "whisper-80"},
    "mfcc": {"n_mfcc": 13, "n_fft": 512, "hop_length": 160},
    "spectrogram": {"n_fft": 512, "hop_length": 160, "phase": True},
}


def recordings(place: Path) -> Path:
    """Write recordings of other rates, channels and codecs, with noise in all of their bands."""
    for i, (name, rate, channels, subtype) in enumerate(
        (("a.wav", RATE, 1, None), ("b.flac", 44100, 2, None), ("c.ogg", 22050, 1, None), ("d.wav", 8000, 2, "PCM_24"))
    ):
        y = tone(1.3 + i / 10, rate, channels, hz=300 + 70 * i, seed=i)
        y += 0.05 * np.random.default_rng(i).standard_normal(y.shape) * np.linspace(0.2, 1, channels)
        write_audio(place / "in" / name, y, rate, subtype)
    return place / "in"


def configured(place: Path, name: str = "out", **more: Any) -> Path:
    source = {
        "name": "s",
        "root": str(place / "in"),
        "segment": {"mode": "window", "length_s": 0.5, "hop_s": 0.30003, "tail": "pad_zero"},
    }
    plain = {
        "name": "d", "sources": [source], "audio": {"sample_rate_hz": RATE}, "clips": [{"measure": ["peak"]}], "features": FEATURES,
        "split": {"train": 0.5, "test": 0.5}, "output": {"root": str(place / name)}, "limits": {"allow_empty_splits": True},
        **more,
    }  # fmt: skip
    path = place / f"{name}.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


def built(place: Path, name: str = "out", **more: Any) -> Path:
    run("build", configured(place, name, **more))
    return place / name


def audited(root: Path | str, n: int = 100, **options: Any) -> Audit:
    return audit(open_dataset(root), n, **options)


def beyond(result: Audit) -> set[str]:
    return {clip.finding.kind.name for clip in result.beyond}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, and a dataset of it that no test changes."""
    place = tmp_path_factory.mktemp("audit")
    recordings(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clipmill.pipelines.run.build._ray_is_at_hand", lambda: False)
        built(place, output={"root": str(place / "out"), "formats": ["parquet", "webdataset"]})
    return place


def test_a_good_dataset_is_within_all_tolerances(place: Path) -> None:
    said = run("audit", place / "out", "--clips", 5)
    assert said.rstrip().endswith("all that was compared is within the tolerances, 5 clips")
    assert "5 cut again from their recordings" in said
    printed = json.loads(run("audit", place / "out.yaml", "--clips", 100, "--json").splitlines()[-1])
    kinds = {kind["kind"]: kind for kind in printed["kinds"]}
    assert kinds.keys() == {
        "start", "length", "samples", "samples, resampled", "samples, lossy codec", "padding", "level_dbfs vs pydub",
        "peak_dbfs vs pydub", "spectrogram vs librosa", "phase vs librosa", "log_mel_pad vs librosa",
        "log_mel (whisper-80) vs librosa", "log_mel (whisper-80) vs openai-whisper", "mfcc vs librosa",
        "log_mel (whisper-80) settings",
    }  # fmt: skip
    assert all(kind["beyond"] == 0 and kind["worst"] for kind in kinds.values())
    assert (
        kinds["samples"]["clips"] + kinds["samples, resampled"]["clips"] + kinds["samples, lossy codec"]["clips"] == 18
    )
    assert printed["within"] is True
    assert set(printed["readers"]) == {"librosa", "pydub"}
    assert {"librosa", "pydub"} <= printed["versions"].keys()


def test_clips_are_the_same_for_a_seed_and_spread_over_recordings(place: Path) -> None:
    published = open_dataset(place / "out")
    ids = [row["clip_id"] for row in choose_clips(published, 6, 0)]
    assert [row["clip_id"] for row in choose_clips(published, 6, 0)] == ids
    assert [row["clip_id"] for row in choose_clips(published, 6, 1)] != ids
    for seed in range(5):
        chosen = choose_clips(published, 6, seed)
        assert len(chosen) == 6 and len({row["recording_id"] for row in chosen}) == 4
        assert {row["split"] for row in chosen} == set(published.splits)
    assert len(choose_clips(published, 1000, 0)) == 18


# Each break is one that a change of the build could bring: `name` is patched in `module`, and the audit must notice it by `kinds`.
def _shifted(init: Callable[..., None]) -> Callable[..., None]:
    def broken(self: Any, *arguments: Any) -> None:
        init(self, *arguments)
        self.samples = np.roll(self.samples, 1, axis=0)
        self.pcm = np.roll(self.pcm, 1, axis=0) if self.pcm is not None else None

    return broken


def _linear(x: np.ndarray, lead: int, core: int, source_rate_hz: int, rate_hz: int, quality: str) -> np.ndarray:
    n = round(core * rate_hz / source_rate_hz)
    if not n:
        return np.empty((0, x.shape[1]), np.float32)
    at = lead + np.arange(n) * source_rate_hz / rate_hz
    return np.stack([np.interp(at, np.arange(len(x)), x[:, c]) for c in range(x.shape[1])], axis=1).astype(np.float32)


BREAKS: dict[str, tuple[Any, str, Callable[[Any], Any], set[str]]] = {
    "cut one sample late": (segment._Cutter, "__init__", _shifted, {"samples", "samples, resampled", "samples, lossy codec"}),
    "starts are not rounded": (spans, "to_samples", lambda _: lambda s, rate: int(s * rate), {"start"}),
    "gain": (segment, "to_pcm16", lambda f: lambda y: f(y * np.float32(1.001)), {"samples", "samples, resampled", "samples, lossy codec"}),
    "one channel for the mix": (downmix, "mono", lambda _: lambda y: np.ascontiguousarray(y[:, 0]), {"samples, resampled"}),
    "linear resampling": (resample, "resample_cells", lambda _: _linear, {"samples, resampled", "samples, lossy codec"}),
    "padding": (segment._Cutter, "_padding", lambda _: lambda s, i, n, y: np.full((n, y.shape[1]), 1e-3, np.float32), {"padding"}),
    "level": (canonical, "level_dbfs", lambda f: lambda y: f(y) + 0.02, {"level_dbfs vs pydub"}),
    "mel scale": (
        spectral, "mel_filters", lambda f: lambda *a: f(*a[:5], "htk", a[6]),
        {"log_mel (whisper-80) vs librosa", "log_mel (whisper-80) vs openai-whisper", "log_mel_pad vs librosa", "mfcc vs librosa"},
    ),
    "coefficients": (spectral, "dct_matrix", lambda f: lambda *a: f(*a) * np.float32(1.001), {"mfcc vs librosa"}),
}  # fmt: skip


@pytest.fixture
def without_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have clips cut in this process, whose code the test changes."""

    def here(self: Sandbox, table: Any) -> Iterator[Any]:
        chain = same_chain(self.config, self.origins, self.sources, self.noises, self.field_names)
        yield from apply_stages(chain.to_clips, [table])

    monkeypatch.setattr(Sandbox, "__call__", here)


@pytest.mark.usefixtures("without_sandbox")
@pytest.mark.parametrize("name", BREAKS)
def test_what_a_broken_build_does_is_noticed(
    name: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, attribute, broken, kinds = BREAKS[name]
    (tmp_path / "in").symlink_to(place / "in")
    with monkeypatch.context() as patch:
        patch.setattr(module, attribute, broken(getattr(module, attribute)))
        root = built(tmp_path)
    result = audited(root)
    assert beyond(result) == kinds
    assert not result.is_within


def test_clips_beyond_are_listed_with_their_recording(place: Path, tmp_path: Path) -> None:
    """A recording with other samples, and the size and time of the one that was built from, stands for a build that read it wrongly."""
    path = write_audio(tmp_path / "in/a.wav", tone(1.3, RATE), RATE)
    root = built(tmp_path, features={})
    status = path.stat()
    write_audio(path, tone(1.3, RATE, hz=441), RATE)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    said = run("audit", root, "--clips", 2, code=1)
    assert f"of {path}: samples: " in said
    assert "2 clips of 2 beyond the tolerances" in said
    printed = json.loads(run("audit", root, "--json", code=1).splitlines()[-1])
    first = printed["beyond"][0]
    assert first["recording_id"] == "s/a.wav" and first["kind"] == "samples" and first["difference"] > 1
    assert printed["within"] is False and printed["problem"] is None


def test_recordings_that_are_gone_or_have_changed_are_told(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_audio(tmp_path / f"in/{name}.wav", tone(0.6, RATE, seed=ord(name)), RATE)
    root = built(tmp_path, features={})
    (tmp_path / "in/a.wav").unlink()
    write_audio(tmp_path / "in/b.wav", tone(0.7, RATE), RATE)
    said = run("audit", root)
    assert "not compared with the recording: 2 clips: the recording is missing" in said
    assert "not compared with the recording: 2 clips: the recording has changed since it was built from" in said
    assert "6 clips, 2 cut again" in said
    (tmp_path / "in/c.wav").unlink()
    assert "no clip could be compared with its recording" in run("audit", root, code=1)


def test_what_cannot_be_cut_again_is_told_and_the_rest_is_compared(tmp_path: Path) -> None:
    write_audio(tmp_path / "in/a.wav", tone(1.3, RATE), RATE)
    steps = [{"level": {"to": "peak", "target": -3}}, {"augment": {"copies": 1, "speed": [0.9, 1.1]}}]
    root = built(tmp_path, clips=steps, features={"log_mel": {"n_mels": 40}})
    result = audited(root)
    assert result.not_compared == {
        "the clip stage level changes samples": 4, "the clip is a copy that `augment` changed": 4,
    }  # fmt: skip
    assert result.recut == 0
    assert {total.kind.name: total.clips for total in result.kinds} == {
        "level_dbfs vs pydub": 8, "log_mel vs librosa": 8, "log_mel vs torchaudio": 8,
    }  # fmt: skip
    assert result.is_within


def test_trimmed_clips_rows_noise_and_channels_are_cut_again(tmp_path: Path) -> None:
    y = tone(2.0, RATE, 2)
    y[: RATE // 2] *= 1e-4
    y[:, 1] *= 0.25
    for name in ("a", "b"):
        write_audio(tmp_path / f"in/{name}.wav", y, RATE)
        (tmp_path / f"in/{name}.csv").write_text("0.0001,1.30003\n1.2,1.7\n")
    sidecar = {"sidecar": "{stem}.csv", "header": False, "columns": {"start": 0, "end": 1}}
    source = {"root": str(tmp_path / "in"), "annotations": sidecar}
    sources = [
        {"name": "noise", **source, "segment": {"mode": "window", "length_s": 0.5, "tail": "pad_noise"}, "channels": "right"},
        {"name": "each", **source, "segment": {"mode": "fixed", "length_s": 0.8, "pad": "repeat"}, "channels": "each"},
        {"name": "edge", **source, "segment": {"mode": "fixed", "length_s": 0.8, "pad": "edge", "crop": "center"}, "channels": [0, 1]},
        {"name": "trimmed", **source, "segment": {"mode": "annotation"}, "clips": [{"trim": {"below_dbfs": -40}}], "channels": "keep"},
    ]  # fmt: skip
    more = {
        "features": {"log_mel": {"n_mels": 40}, "dtype": "float16"},
        "clips": None,
        "split": {"train": 1, "disjoint": []},
    }
    root = built(tmp_path, sources=sources, **more)
    result = audited(root)
    assert beyond(result) == set()
    assert result.recut == result.clips == 8 + 8 + 4 + 4
    found = {total.kind.name: total.clips for total in result.kinds}
    assert found["padding noise"] == 2 and found["padding"] == 2 * 2 + 2


def test_float_clips_of_a_tar_are_compared(place: Path, tmp_path: Path) -> None:
    (tmp_path / "in").symlink_to(place / "in")
    output = {"root": str(tmp_path / "out"), "formats": ["webdataset"], "audio_codec": "wav"}
    audio = {"sample_rate_hz": RATE, "sample_format": "float32"}
    root = built(tmp_path, audio=audio, output=output, features={"log_mel": {"preset": "kaldi-fbank-80"}})
    result = audited(root)
    assert beyond(result) == set() and result.recut == result.clips == 18
    found = {total.kind.name: total for total in result.kinds}
    assert found["samples, float32"].clips + found["samples, float32, lossy codec"].clips == 18
    assert {"log_mel (kaldi-fbank-80) vs torchaudio", "log_mel (kaldi-fbank-80) vs kaldi-native-fbank"} <= found.keys()


def test_features_beside_are_compared(place: Path, tmp_path: Path) -> None:
    (tmp_path / "in").symlink_to(place / "in")
    output = {"root": str(tmp_path / "out"), "features": "beside"}
    result = audited(built(tmp_path, output=output, features={"log_mel": {"n_mels": 40}}), 5)
    assert beyond(result) == set()
    assert "log_mel vs torchaudio" in {total.kind.name for total in result.kinds}


def test_a_key_beside_a_preset_makes_the_presets_package_no_reference(place: Path, tmp_path: Path) -> None:
    (tmp_path / "in").symlink_to(place / "in")
    root = built(tmp_path, features={"log_mel": {"preset": "whisper-80", "top_db": 60}})
    result = audited(root, 5)
    assert beyond(result) == set()
    assert "log_mel (whisper-80) vs openai-whisper" not in {total.kind.name for total in result.kinds}
    reason = "log_mel (whisper-80): openai-whisper: the configuration replaces the preset's top_db"
    assert result.to_dict()["skipped"] == {reason: 5}
    said = run("audit", root, "--clips", 5)
    assert f"not compared with the preset's package: 5 clips: {reason}" in said
    assert said.rstrip().endswith("5 clips; packages of presets that were left out: openai-whisper")


def test_recordings_on_a_store_are_copied(tmp_path: Path, bucket: str, endpoint: str) -> None:
    write_audio(tmp_path / "in/r0.wav", tone(1.0, RATE), RATE)
    source = upload_source(
        {"name": "s", "root": str(tmp_path / "in"), "segment": {"mode": "window", "length_s": 0.5}}, bucket, endpoint
    )
    config = configured(tmp_path, sources=[source], features={})
    run("build", config)
    assert "2 cut again from their recordings (2 by pydub)" in run("audit", config)
    Root(f"s3://{bucket}/in", {"endpoint_url": endpoint}).write_bytes("r0.wav", b"other")
    assert "2 clips: the recording has changed" in run("audit", config, code=1)


def test_real_recordings_are_within(corpora: Path, tmp_path: Path) -> None:
    place = corpora / "coqui-tts/tests/data/ljspeech"
    source = {"root": str(place), "segment": {"mode": "window", "length_s": 0.7}}
    sources = [{"name": kind, "include": [f"**/LJ001-000*.{kind}"], **source} for kind in ("wav", "flac", "mp3")]
    features = {"log_mel": {"n_fft": 512, "hop_length": 160, "n_mels": 64}, "mfcc": True}
    result = audited(built(tmp_path, sources=sources, features=features), 24)
    assert beyond(result) == set() and result.recut == 24
    assert {total.kind.name: total.clips for total in result.kinds}[RESAMPLED.name] == 16


def test_a_difference_that_is_no_number_is_beyond() -> None:
    total = KindTotal(RESAMPLED)
    for difference in (0.5, float("nan"), 0.7):
        total.add("c", Finding(RESAMPLED, difference))
    assert (total.clips, total.beyond, total.to_dict()["largest"]) == (3, 1, None)


def test_a_package_that_is_missing_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "librosa", None)
    assert "an audit needs librosa, which is not installed: pip install 'clipmill[reference]'" in run(
        "audit", place / "out", code=1
    )


def test_an_audit_uses_none_of_the_code_that_it_checks() -> None:
    """Of the stages, only those that open files: nothing that decodes, mixes, cuts, resamples, rounds, measures or computes features."""
    waiting = [name for name in MODULES if name.startswith("clipmill.pipelines.audits")]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += [other for other in imported(MODULES[name]) if other in MODULES]
    of_stages = {name for name in seen if name.startswith("clipmill.stages.")}
    assert {name for name in of_stages if not name.startswith("clipmill.stages.storage.")} <= {
        "clipmill.stages.meter", "clipmill.stages.write.ledger",
    }  # fmt: skip
    assert "clipmill.schemas.units" not in seen
    assert not [name for name in seen if name.startswith(("clipmill.pipelines.plan", "clipmill.pipelines.run"))]
