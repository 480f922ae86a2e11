"""The export to the Hub: the real client against a stand-in for the server; what is uploaded, what is not, and what is never told."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from export_corpora import export, labelled, rows_of, windows
from fake_hub import TOKEN, Hub, Repo, Running

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install 'clipmill[hub]'")

FEATURES = {"log_mel": {"n_mels": 16}}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    import huggingface_hub.constants as constants

    with Running() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
        yield server


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a dataset of one snapshot; tests that build again have copies."""
    place = tmp_path_factory.mktemp("hub")
    recordings = {f"c{i % 3}/r{i}.wav": 1.0 for i in range(6)}
    windows(place, recordings, features=FEATURES, split={"train": 0.5, "test": 0.5, "method": "rendezvous"})
    return place


def read(repo: Repo) -> dict[str, dict[str, Any]]:
    shards = [content for path, content in repo.files.items() if path.startswith("shards/")]
    return {row["clip_id"]: row for content in shards for row in pq.read_table(io.BytesIO(content)).to_pylist()}


def test_a_dry_run_writes_nothing(first: Path, hub: Hub) -> None:
    done = export(first / "out", "hub", "--to", "me/clips").output
    assert f"would commit to {hub.address}/datasets/me/clips: " in done and " 0 shards removed" in done
    assert "add     shards/train/train-" in done and "MB" in done and "add     README.md" in done
    assert "the repository does not exist, or not for this token; --push makes it, private" in done
    assert "nothing was uploaded; --push does it" in done and "the card names no license" in done
    assert not hub.repos and not hub.puts and not any("POST" in request for request in hub.requests)
    plain = json.loads(export(first / "out", "hub", "--to", "me/clips", "--json").output)
    assert plain["written"] == [] and plain["to"] == "me/clips" and len(plain["planned"]) > 3


def test_pushed_and_read_by_datasets(first: Path, hub: Hub, tmp_path: Path) -> None:
    from datasets import load_dataset

    done = export(first / "out", "hub", "--to", "me/clips", "--push", "--option", "license=cc-by-4.0")
    assert f"{hub.address}/datasets/me/clips" in done.output
    repo = hub.repos["me/clips"]
    assert repo.private and len(repo.commits) == 2 and repo.messages == ["Snapshot 1 of exported"]
    rows, found = rows_of(first / "out"), read(repo)
    assert found.keys() == rows.keys()
    for name, row in found.items():
        assert row["source_uri"] is None
        assert {**row, "source_uri": rows[name]["source_uri"]} == rows[name]
    head = yaml.safe_load(repo.files["README.md"].decode().split("---")[1])
    assert head["license"] == "cc-by-4.0"
    everything = b"".join(content for content in repo.files.values())
    for secret in (str(first), TOKEN):
        assert secret.encode() not in everything and secret not in done.output.replace(hub.address, "")
    there = tmp_path / "clone"
    for path, content in repo.files.items():
        (there / path).parent.mkdir(parents=True, exist_ok=True)
        (there / path).write_bytes(content)
    splits = load_dataset(str(there), cache_dir=str(tmp_path / "cache"))
    assert {s: len(of) for s, of in splits.items()} == {s: sum(r["split"] == s for r in rows.values()) for s in splits}
    assert splits["train"].features["label"].names == ["c0", "c1", "c2"]
    assert (
        "has this snapshot already, so there is no new commit"
        in export(first / "out", "hub", "--to", "me/clips", "--push", "--option", "license=cc-by-4.0").output
    )
    assert len(repo.commits) == 2


def test_the_next_snapshot_uploads_and_removes_what_changed(tmp_path: Path, hub: Hub) -> None:
    root = windows(tmp_path, {f"c{i % 3}/r{i}.wav": 1.0 for i in range(6)}, features=FEATURES)
    export(root, "hub", "--to", "me/clips", "--push")
    repo, n_puts = hub.repos["me/clips"], len(hub.puts)
    repo.commits.append({**repo.files, "notes.txt": b"mine", "more/shards.parquet": b"mine too"})
    (tmp_path / "in/c0/r0.wav").unlink()
    windows(tmp_path, {"c1/new.wav": 1.0}, features=FEATURES)
    told = export(root, "hub", "--to", "me/clips").output
    assert (
        "remove  shards/train/train-" in told
        and "change  README.md" in told
        and "are in the repository already" in told
    )
    export(root, "hub", "--to", "me/clips", "--push")
    # One commit adds and removes files, and only the new shard is uploaded.
    assert (len(repo.commits), len(hub.puts) - n_puts) == (4, 1)
    assert {n for n in read(repo) if n.startswith("new")} and not {n for n in read(repo) if n.startswith("r0")}
    assert repo.files["notes.txt"] == b"mine" and repo.files["more/shards.parquet"] == b"mine too"
    assert {*json.loads(repo.files["clipmill.json"])["shards"]} == {p for p in repo.files if p.startswith("shards/")}


def test_addresses_can_be_kept(first: Path, hub: Hub) -> None:
    told = export(first / "out", "hub", "--to", "me/clips", "--push", "--option", "source_uris=keep").output
    assert "shards keep the column source_uri" in told
    repo = hub.repos["me/clips"]
    for path, content in repo.files.items():
        if path.startswith("shards/"):
            assert content == (first / "out" / path).read_bytes()
    again = export(first / "out", "hub", "--to", "me/clips", "--push", "--option", "source_uris=keep").output
    assert "has this snapshot already, so there is no new commit" in again and len(repo.commits) == 2
    export(first / "out", "hub", "--to", "me/clips", "--push")
    assert {row["source_uri"] for row in read(repo).values()} == {None}


def test_an_interrupted_push_goes_on(first: Path, hub: Hub) -> None:
    hub.fail_after = 2
    told = export(first / "out", "hub", "--to", "me/clips", "--push", code=1).output
    assert "what was uploaded is kept there, so run it again" in told and "Traceback" not in told and TOKEN not in told
    assert len(hub.puts) == 2 and hub.repos["me/clips"].files == {}
    hub.fail_after = None
    export(first / "out", "hub", "--to", "me/clips", "--push")
    n_shards = sum(path.startswith("shards/") for path in hub.repos["me/clips"].files)
    assert len(hub.puts) == len({*hub.puts}) == n_shards


def test_a_card_of_somebody_elses_stays(first: Path, hub: Hub) -> None:
    hub.repos["me/clips"] = Repo(private=False, commits=[{"README.md": b"# Mine\n"}])
    told = export(first / "out", "hub", "--to", "me/clips", "--push", code=1).output
    assert "its README.md is not one that clipmill wrote: give --option card=keep" in told
    export(first / "out", "hub", "--to", "me/clips", "--push", "--option", "card=keep")
    assert hub.repos["me/clips"].files["README.md"] == b"# Mine\n" and read(hub.repos["me/clips"])


def test_what_is_wrong_is_told(first: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = first / "out"
    assert "hub needs --to USER/NAME" in export(root, "hub", code=2).output
    assert "expected USER/NAME" in export(root, "hub", "--to", "a/b/c", code=2).output
    assert "--option license: " in export(root, "hub", "--to", "a/b", "--option", "license=CC BY", code=2).output
    told = export(root, "hub", "--to", "a/b", "--where", "{start_s: {min: 1}}", code=2).output
    assert "hub names whole shards, so --where cannot apply to it" in told
    tars = labelled(tmp_path, ["a"], output={"formats": ["webdataset"]})
    assert "not as parquet; add parquet to output.formats" in export(tars, "hub", "--to", "a/b", code=1).output
    monkeypatch.setenv("HF_TOKEN", "hf_wrongAndSecretToken")
    told = export(root, "hub", "--to", "me/clips", "--push", code=1).output
    assert "`hf auth login` or HF_TOKEN gives a token" in told and "hf_wrong" not in told and "Traceback" not in told
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    told = export(root, "hub", "--to", "a/b", code=1).output
    assert "needs huggingface_hub, which is not installed: pip install 'clipmill[hub]'" in told


def test_a_damaged_shard_is_not_pushed(tmp_path: Path, hub: Hub) -> None:
    root = labelled(tmp_path, ["a", "b"])
    (shard,) = (root / "shards").rglob("*.parquet")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    for uris in ("keep", "remove"):
        told = export(root, "hub", "--to", "me/clips", "--push", "--option", f"source_uris={uris}", code=1).output
        assert shard.name in told and "Traceback" not in told
    assert not hub.puts
