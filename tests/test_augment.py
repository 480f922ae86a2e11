"""Copies of clips: how many, on which side, beside which sums, and the same bytes whenever they are made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import run, shard_hashes, write_audio

import clipmill
from clipmill.pipelines.plan.planning import make_plan

RATE = 8000
GAIN = {"copies": 2, "gain_db": [-6, 6]}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six recordings of 2 s in two folders, two noises, and a room."""
    folder = tmp_path_factory.mktemp("augment")
    for i in range(6):
        y = np.random.default_rng(i).standard_normal((2 * RATE, 1)) * 0.05
        write_audio(folder / f"in/{'train' if i < 4 else 'test'}/r{i}.wav", y, RATE, "PCM_16")
    for i, rate in enumerate((RATE, 22050)):
        y = np.random.default_rng(90 + i).standard_normal((round(1.5 * rate), 1 + i)) * 0.1
        write_audio(folder / f"noises/n{i}.wav", y, rate, "PCM_16")
    decay = np.exp(-np.arange(RATE // 4) / 400)
    write_audio(
        folder / "rooms/hall.wav",
        (np.random.default_rng(99).standard_normal(RATE // 4) * decay * 0.3)[:, None],
        RATE,
        "PCM_16",
    )
    return folder


def configured(corpus: Path, out: Path, augment: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    source = {
        "name": "s",
        "root": str(corpus / "in"),
        "segment": {"mode": "window", "length_s": 1.0},
        "fields": r"(?P<side>\w+)/",
        "bytes_per_second": 2 * RATE,
    }
    return {
        "name": "a", "sources": [{**source, **more.pop("source", {})}], "audio": {"sample_rate_hz": RATE},
        "split": {"from": "side", "map": {"train": "train", "test": "test"}},
        "clips": more.pop("clips", [{"augment": augment}] if augment else []),
        "noises": [{"name": name, "root": str(corpus / name)} for name in ("noises", "rooms")],
        "output": {"root": str(out), "shard_seconds": 3}, **more,
    }  # fmt: skip


def built(corpus: Path, out: Path, augment: dict[str, Any] | None, **more: Any) -> clipmill.Report:
    return clipmill.build(configured(corpus, out, augment, **more), quiet=True).raise_for_status()


def rows(out: Path) -> list[dict[str, Any]]:
    return clipmill.open_dataset(out).manifest().to_pylist()


def test_copies_follow_their_clips_on_the_training_side(corpus: Path, tmp_path: Path) -> None:
    report = built(corpus, tmp_path / "a", GAIN)
    plain = built(corpus, tmp_path / "b", None)
    counts = report.snapshot.counts
    assert (counts.clips_candidates, counts.clips_kept, counts.clips_augmented) == (12, 12, 16)
    assert report.snapshot.by_split["train"]["augmented"] == 16 and "augmented" not in report.snapshot.by_split["test"]
    found = rows(tmp_path / "a")
    originals = [r for r in found if r["augmented_from"] is None]
    assert [r["clip_id"] for r in originals] == [r["clip_id"] for r in rows(tmp_path / "b")]
    for place, row in enumerate(found):
        if row["augmented_from"] is not None:
            k = int(row["clip_id"].rsplit("-a", 1)[1])
            assert found[place - k]["clip_id"] == row["augmented_from"] and row["split"] == "train"
            drawn = json.loads(row["augmentation"])["gain_db"]["gain_db"]
            assert row["level_dbfs"] == pytest.approx(found[place - k]["level_dbfs"] + drawn, abs=0.01)
    assert len({r["clip_id"] for r in found}) == len(found) == 28
    assert plain.snapshot.statistics == report.snapshot.statistics, "of originals alone"
    assert (plain.snapshot.seconds.kept_s, plain.snapshot.labels) == (
        report.snapshot.seconds.kept_s,
        report.snapshot.labels,
    )
    clips = clipmill.ClipDataset(tmp_path / "a", "train", ["clip_id", "audio"])
    assert len(clips) == len(list(clips)) == 24
    run("verify", tmp_path / "a")
    assert "16 copies of kept clips" in run("build", configured_file(corpus, tmp_path / "a", GAIN))


def configured_file(corpus: Path, out: Path, augment: dict[str, Any], **more: Any) -> Path:
    path = out.parent / "config.yaml"
    path.write_text(json.dumps(configured(corpus, out, augment, **more)))
    return path


@pytest.mark.parametrize("splits", [["test"], ["train", "test"]])
def test_other_splits_can_be_named(splits: list[str], corpus: Path, tmp_path: Path) -> None:
    built(corpus, tmp_path, {**GAIN, "copies": 1, "splits": splits})
    assert {r["split"] for r in rows(tmp_path) if r["augmented_from"] is not None} == set(splits)


EVERY = {
    "copies": 2, "speed": [0.9, 1.1], "pitch": [-1, 1], "noise": {"from": "noises", "snr_db": [5, 20]},
    "reverb": {"from": "rooms", "wet": 0.5}, "filter": {"lowpass_hz": [2000, 3000]}, "codec": {"name": ["mp3", "mulaw"], "probability": 0.5},
    "gain_db": 3, "shift_s": [-0.1, 0.1], "fade_s": [0, 0.1],
}  # fmt: skip


def test_the_same_bytes_in_one_process_and_on_ray(corpus: Path, tmp_path: Path, ray_session: None) -> None:
    clips = [{"measure": ["peak"]}, {"augment": EVERY}, {"level": {"to": "rms", "target": -25}}]
    for out, workers in (("one", None), ("two", 2)):
        config = configured(
            corpus, tmp_path / out, None, clips=clips, features={"log_mel": {"n_fft": 256, "n_mels": 8}}
        )
        clipmill.build(config, workers=workers, quiet=True).raise_for_status()
    assert shard_hashes(tmp_path / "one") == shard_hashes(tmp_path / "two")
    found = rows(tmp_path / "one")
    assert all(r["level_dbfs"] == pytest.approx(-25, abs=0.1) for r in found)
    drawn = [json.loads(r["augmentation"]) for r in found if r["augmented_from"] is not None]
    assert {"speed", "pitch", "noise", "reverb", "gain_db"} <= set(drawn[0]) and 0 < sum(
        "codec" in d for d in drawn
    ) < len(drawn)
    peaks = {r["clip_id"]: r["peak_dbfs"] for r in found}
    assert all(r["peak_dbfs"] == peaks[r["augmented_from"]] for r in found if r["augmented_from"]), "measured before"


def test_a_feature_is_added_without_reading_a_recording(corpus: Path, tmp_path: Path) -> None:
    features = {"features": {"log_mel": {"n_fft": 256, "n_mels": 8}}}
    built(corpus, tmp_path / "a", GAIN)
    report = built(corpus, tmp_path / "a", GAIN, **features)
    assert report.shards_from_clips == report.shards_built > 1
    built(corpus, tmp_path / "b", GAIN, **features)
    assert shard_hashes(tmp_path / "b").items() <= shard_hashes(tmp_path / "a").items()
    assert clipmill.open_dataset(tmp_path / "b").snapshot.statistics == report.snapshot.statistics


def test_another_recipe_makes_other_copies_and_the_same_originals(corpus: Path, tmp_path: Path) -> None:
    built(corpus, tmp_path / "a", GAIN)
    before = {r["clip_id"]: r["pcm_sha256"] for r in rows(tmp_path / "a")}
    built(corpus, tmp_path / "b", {**GAIN, "copies": 3, "shift_s": [0.01, 0.02]})
    after = {r["clip_id"]: r["pcm_sha256"] for r in rows(tmp_path / "b")}
    drawn = {
        r["clip_id"]: json.loads(r["augmentation"])["gain_db"] for r in rows(tmp_path / "b") if r["augmented_from"]
    }
    assert len(after) == 12 + 24 and all(after[i] == h for i, h in before.items() if i not in drawn)
    of_a = {r["clip_id"]: json.loads(r["augmentation"])["gain_db"] for r in rows(tmp_path / "a") if r["augmented_from"]}
    assert of_a.items() <= drawn.items(), "another effect and a third copy change no draw"


def test_another_recipe_touches_the_shards_that_have_copies_alone(corpus: Path, tmp_path: Path) -> None:
    built(corpus, tmp_path / "a", GAIN)
    before = shard_hashes(tmp_path / "a")
    for changed in ({**GAIN, "gain_db": [-3, 3]}, {"copies": 1, "noise": {"from": "noises", "snr_db": 10}}):
        report = built(corpus, tmp_path / "a", changed)
        published = clipmill.open_dataset(tmp_path / "a")
        of_test = [o.path for o in published.shards("test")]
        assert report.shards_reused == len(of_test) > 0 and set(of_test) <= set(before)
        assert not {o.path for o in published.shards("train")} & set(before)
    built(corpus, tmp_path / "b", changed)
    assert shard_hashes(tmp_path / "b").items() <= shard_hashes(tmp_path / "a").items()
    run("forget", tmp_path / "a", "s/test/r4.wav", "--yes")
    run("verify", tmp_path / "a")


def test_copies_are_no_duplicates_and_do_not_count_for_limits(corpus: Path, tmp_path: Path) -> None:
    report = built(corpus, tmp_path, {"copies": 2, "gain_db": 0})
    assert report.snapshot.duplicates == {}
    config = configured(corpus, tmp_path / "few", {"copies": 9, "gain_db": 0}, limits={"min_clips": 13})
    assert clipmill.build(config, quiet=True).status == "not_published"


def test_a_forgotten_recording_takes_its_copies_along(corpus: Path, tmp_path: Path) -> None:
    more = {"output": {"root": str(tmp_path / "a"), "shard_seconds": 60}}
    built(corpus, tmp_path / "a", GAIN, **more)
    run("forget", tmp_path / "a", "s/train/r1.wav", "--yes")
    assert not any("r1" in r["clip_id"] for r in rows(tmp_path / "a"))
    shutil.copytree(corpus / "in", tmp_path / "in")
    (tmp_path / "in/train/r1.wav").unlink()
    for path in (tmp_path / "in").rglob("*.wav"):
        shutil.copystat(corpus / "in" / path.relative_to(tmp_path / "in"), path)
    done = clipmill.open_dataset(tmp_path / "a").snapshot
    assert (done.counts.clips_kept, done.counts.clips_augmented) == (10, 12)
    run("verify", tmp_path / "a")


def plan(config: dict[str, Any]) -> Any:
    return make_plan(clipmill.load_config(config).config)


def test_keys_follow_what_copies_depend_on(corpus: Path, tmp_path: Path) -> None:
    for name in ("in", "noises", "rooms"):
        shutil.copytree(corpus / name, tmp_path / name)
    noisy = {"copies": 1, "noise": {"from": "noises", "snr_db": 10}}
    before, plain = plan(configured(tmp_path, tmp_path / "o", noisy)), plan(configured(tmp_path, tmp_path / "o", None))
    write_audio(tmp_path / "rooms/other.wav", np.ones((100, 1)) * 0.1, RATE, "PCM_16")
    assert plan(configured(tmp_path, tmp_path / "o", noisy)).keys == before.keys, "rooms are not used"
    write_audio(tmp_path / "noises/n0.wav", np.ones((RATE, 1)) * 0.1, RATE, "PCM_16")
    after = plan(configured(tmp_path, tmp_path / "o", noisy))
    same = {key for key in before.keys if key in after.keys}
    splits = dict(zip(*(before.table[name].to_pylist() for name in ("key", "split")), strict=True))
    assert same == {key for key, split in splits.items() if split == "test"} != set(), "the others have copies"
    assert plan(configured(tmp_path, tmp_path / "o", None)).keys == plain.keys, "nor are noises without augment"
    assert before.recordings_listed == 6, "noises make no clips"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"clips": [{"augment": GAIN}, {"silence": {"min_dbfs": -60}}]},
            r"clips\[1\].silence: only `level` can follow `augment`",
        ),
        ({"clips": [{"augment": GAIN}, {"augment": GAIN}]}, "only `level` can follow"),
        (
            {"clips": [{"augment": {"noise": {"from": "noise", "snr_db": 3}}}]},
            "no entry of `noises` is named 'noise'; did you mean 'noises'",
        ),
        ({"clips": [{"augment": {**GAIN, "splits": ["tran"]}}]}, "no split is named 'tran'; did you mean 'train'"),
        ({"clips": [{"augment": {"copies": 1}}]}, "needs at least one effect"),
        ({"noises": [{"name": "a", "root": "/x"}, {"name": "a", "root": "/y"}]}, "two trees of noises are named 'a'"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], message: str, corpus: Path, tmp_path: Path) -> None:
    from clipmill.pipelines.chain import chain_of

    with pytest.raises(clipmill.ClipmillError, match=message):
        chain_of(clipmill.load_config({**configured(corpus, tmp_path, GAIN), **change}).config)


def test_noises_that_cannot_be_used_are_named(corpus: Path, tmp_path: Path) -> None:
    noisy = {"copies": 1, "noise": {"from": "noises", "snr_db": 10}}
    (tmp_path / "noises").mkdir()
    shutil.copytree(corpus / "in", tmp_path / "in")
    with pytest.raises(clipmill.ClipmillError, match="has no audio file"):
        plan(configured(tmp_path, tmp_path / "o", noisy))
    (tmp_path / "noises/broken.wav").write_bytes(b"RIFF" + b"x" * 100)
    with pytest.raises(clipmill.ClipmillError, match=r"broken.wav of noises 'noises' cannot be used"):
        built(tmp_path, tmp_path / "o", noisy)
