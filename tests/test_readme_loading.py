"""The README's section "Load it", run as it stands, on a root that holds shards of an older snapshot, too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import tone, write_audio

from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.published import open_dataset
from clipmill.pipelines.run.build import build

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("readme")
    for i in range(3):
        write_audio(place / f"in/r{i}.wav", tone(1, 16000, seed=i), 16000)
    config = place / "dogs.yaml"
    config.write_text(
        f"""
name: dogs
sources: [{{name: s, root: {place}/in, label: dog, segment: {{mode: window, length_s: 0.25}}}}]
features: {{log_mel: {{n_mels: 20}}, mfcc: {{n_mfcc: 7}}}}
output: {{root: {place}/out/dogs, formats: [parquet, webdataset], shard_seconds: 2}}
"""
    )
    assert build(load(config), quiet=True).status == "published"
    write_audio(place / "in/r3.wav", tone(1, 16000, seed=3), 16000)
    assert build(load(config), quiet=True).status == "published"
    return place / "out/dogs"


def test_the_examples_read_the_snapshot_and_no_stale_shard(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    own = set(open_dataset(dataset).uris("train"))
    assert own < {str(p) for p in (dataset / "shards").rglob("*.parquet")}, (
        "there is a stale shard to be read by mistake"
    )
    wanted = sorted(clip for uri in own for clip in pq.read_table(uri)["clip_id"].to_pylist())
    section = README.read_text().split("## Load it")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 4
    known: dict[str, Any] = {}
    config = dataset.parents[1] / "dogs.yaml"
    exec(blocks[1].replace("out/dogs", str(dataset)).replace("dogs.yaml", str(config)), known)
    assert sorted(known["clips"]["clip_id"]) == wanted and known["rejected"].empty
    exec(blocks[2].replace("out/dogs", str(dataset)), known)
    seen = 0
    for part in re.split(r"\n\n(?=import|from)", blocks[3]):
        exec(part, known)
        clips = known["clips"]
        if "load_dataset" in part:
            assert sorted(clips["clip_id"]) == wanted
        elif "webdataset" in part:
            samples = list(clips)
            assert sorted(s["__key__"] for s in samples) == wanted
            assert {"flac", "json", "log_mel.npy", "mfcc.npy"} <= samples[0].keys()
        else:
            assert clips.num_rows == len(wanted) and known["log_mel"].shape[0] == 20
        seen += 1
    assert seen == 3


def test_the_training_example_gives_every_clip(dataset: Path) -> None:
    section = README.read_text().split("## Load it")[1].split("\n## ")[0]
    code = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]
    for written, here in (
        ('"out/dogs"', repr(str(dataset))),
        ("num_workers=4", "num_workers=0"),
        ("range(30)", "range(2)"),
        ("...  #", "seen.append(batch)  #"),
    ):
        assert code.count(written) == 1
        code = code.replace(written, here)
    known: dict[str, Any] = {"seen": []}
    exec(code, known)
    n_clips = sum(pq.read_metadata(uri).num_rows for uri in open_dataset(dataset).uris("train"))
    assert sum(len(batch["label_id"]) for batch in known["seen"]) == 2 * n_clips > 0
    for batch in known["seen"]:
        assert batch["log_mel"].ndim == 3 and batch["log_mel"].shape[1] == 20
        assert len(batch["log_mel_length"]) == len(batch["label_id"])


def test_the_manifest_names_the_files(dataset: Path) -> None:
    rows = pq.read_table(dataset / "snapshots/000002/manifest.parquet").to_pylist()
    assert {str(dataset / row["shard"]) for row in rows} == set(open_dataset(dataset).uris("train"))
