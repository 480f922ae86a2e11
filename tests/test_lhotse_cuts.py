"""Lhotse without a copy of the audio: cuts straight from the shards, and a Shar of features alone; and how large the copy is."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_corpora import export, labelled, rows_of, several_labels

from clipmill.pipelines.dataset.published import open_dataset
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.stages.write.encode import decode_clip

lhotse = pytest.importorskip("lhotse", reason="lhotse is not installed: pip install 'clipmill[lhotse]'")
from clipmill.pipelines.exports.lhotse import StoredCuts  # noqa: E402

FEATURES = {"log_mel": {"n_mels": 16}}


@pytest.fixture(scope="module", params=["parquet", "webdataset"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("cuts")
    more = {"features": FEATURES, "split": {"train": 0.5, "test": 0.5}}
    return labelled(place, ["a", "b", "c"], n_each=4, output={"formats": [request.param]}, **more)


def features_of(cut: Any) -> np.ndarray:
    return np.moveaxis(cut.load_custom("log_mel"), 0, -1)


def test_cuts_straight_from_the_shards(dataset: Path) -> None:
    published = open_dataset(dataset)
    before = {p: p.stat().st_mtime_ns for p in dataset.rglob("*")}
    seen = {}
    for split in published.splits:
        cuts = lhotse.CutSet(pickle.loads(pickle.dumps(StoredCuts(published, split))))
        assert cuts.is_lazy
        sampler = lhotse.dataset.SimpleCutSampler(cuts, max_cuts=2, shuffle=True)
        drawn = [cut for batch in sampler for cut in batch]
        assert {cut.id for cut in drawn} == {cut.id for cut in cuts}  # it is read as often as needed
        seen |= {cut.id: cut for cut in drawn}
    rows = {row["clip_id"]: row for row in published.manifest().to_pylist()}
    assert seen.keys() == rows.keys()
    for name, cut in seen.items():
        lhotse.validate(cut)
        assert cut.supervisions[0].custom["label"] == rows[name]["label"]
        assert cut.load_audio().shape == (1, rows[name]["n_samples"]) and features_of(cut).shape[0] == 16
    if stored := rows_of(dataset):
        for name, cut in seen.items():
            np.testing.assert_array_equal(cut.load_audio() * 32768, decode_clip(stored[name]["audio"]["bytes"])[0].T)
            np.testing.assert_array_equal(features_of(cut).ravel(), np.array(stored[name]["log_mel"], np.float32))
    assert {p: p.stat().st_mtime_ns for p in dataset.rglob("*")} == before


def test_a_shar_of_features_alone(dataset: Path, tmp_path: Path) -> None:
    export(dataset, "lhotse", "--to", tmp_path / "with")
    told = export(dataset, "lhotse", "--to", tmp_path / "with", "--option", "audio=none", code=2).output
    assert "holds this export as it was asked for differently" in told  # whose recordings would stay
    export(dataset, "lhotse", "--to", tmp_path / "l", "--option", "audio=none")
    assert not [*(tmp_path / "l").rglob("recording*")]
    for split in ("train", "test"):
        stored = {cut.id: cut for cut in StoredCuts(open_dataset(dataset), split)}
        cuts = list(lhotse.CutSet.from_shar(in_dir=tmp_path / "l" / split))
        assert {cut.id for cut in cuts} == stored.keys()
        for cut in cuts:
            assert not cut.has_recording and cut.duration == stored[cut.id].duration
            assert cut.supervisions[0].custom["label"] == stored[cut.id].supervisions[0].custom["label"]
            np.testing.assert_array_equal(features_of(cut), features_of(stored[cut.id]))


def test_parts_of_cuts_have_the_frames_of_their_time(tmp_path: Path) -> None:
    """Kaldi's frames without snip_edges are one each hop, however long the clip is."""
    root = labelled(tmp_path, ["a"], n_each=2, seconds=(0.4, 0.5036), features={"log_mel": {"preset": "icefall"}})
    cuts = list(StoredCuts(open_dataset(root), "train"))
    assert cuts
    for cut in cuts:
        assert cut.log_mel.frame_shift == 0.01
        part = cut.truncate(offset=0.1, duration=0.2)
        np.testing.assert_array_equal(part.load_custom("log_mel"), cut.load_custom("log_mel")[10:30])


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    root = several_labels(tmp_path)
    published = open_dataset(root)
    told = export(root, "lhotse", "--option", "audio=none", code=1).output
    assert "there are no features, so --option audio=none would leave nothing to train on" in told
    assert [cut.supervisions[0].custom["labels"] for cut in StoredCuts(published, "train")]
    assert len([*StoredCuts(published, "train", where={"start_s": {"min": 1}})]) == 2
    with pytest.raises(ClipmillError, match="did you mean 'train'"):
        StoredCuts(published, "trian")
    with pytest.raises(ConfigError, match="no field 'words'"):
        StoredCuts(published, "train", text="words")
