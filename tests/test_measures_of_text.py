"""Measures of texts, and rules that keep clips by them."""

from __future__ import annotations

import json
import pickle
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import run, shard_hashes, tone, write_audio
from hypothesis import given
from hypothesis import strategies as st

import clipmill
from clipmill.pipelines.plan.planning import make_plan
from clipmill.schemas.errors import ConfigError
from clipmill.stages.clips.measure import MeasureClips, MeasureNames
from clipmill.stages.measures.clip_text import LONGEST_PHRASE, measure_text, repeated_share

RATE = 8000


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0), ("...", 0), ("word", 0), ("that is that", 0), ("no no no", 2 / 3), ("No, no. NO!", 2 / 3),
        ("thank you thank you", 1 / 2), ("thank you thank you thank", 2 / 5), ("so a b a b and a b", 2 / 8),
        ("a b c a b c a b", 3 / 8), ("very very good good", 1 / 2), ("don't don’t", 0), ("don't don't", 1 / 2),
        ("谢谢谢谢", 3 / 4), ("ご視聴ありがとうご視聴ありがとう", 1 / 2), ("안녕 안녕", 1 / 2), ("안녕안녕", 0), ("hahaha", 0),
        ("a a b a a b", 4 / 6), ("GPT谢谢 GPT谢谢", 4 / 6),
    ],
)  # fmt: skip
def test_repeated_shares(text: str, share: float) -> None:
    assert repeated_share(text) == pytest.approx(share)


def defined(words: list[str]) -> float:
    """The definition, word by word."""
    repeated = set()
    for n in range(1, LONGEST_PHRASE + 1):
        start = 0
        while start + 2 * n <= len(words):
            m = 1
            while words[start + m * n : start + (m + 1) * n] == words[start : start + n] and start + (m + 1) * n <= len(
                words
            ):
                m += 1
            repeated |= set(range(start + n, start + m * n))
            start += max(1, (m - 1) * n)
    return len(repeated) / len(words) if words else 0.0


@given(st.lists(st.sampled_from("abc"), max_size=60))
def test_the_share_is_the_definitions(words: list[str]) -> None:
    share = repeated_share(" ".join(words))
    assert share == pytest.approx(defined(words))
    assert 0 <= share < 1
    assert repeated_share(", ".join(words).upper()) == share


@given(st.lists(st.text("xyz", min_size=1, max_size=3), min_size=1, max_size=LONGEST_PHRASE), st.integers(2, 9))
def test_a_phrase_again_and_again_is_repeated_but_for_its_first_time(phrase: list[str], n: int) -> None:
    assert repeated_share(" ".join(phrase * n)) >= 1 - 1 / n - 1e-9


def test_a_phrase_that_is_too_long_is_no_repetition() -> None:
    words = [f"w{i}" for i in range(LONGEST_PHRASE + 1)]
    assert repeated_share(" ".join(words * 2)) == 0
    assert repeated_share(" ".join(words[:-1] * 2)) == 0.5


def test_characters_are_counted_composed_and_with_spaces() -> None:
    assert measure_text(" e\u0301t\u00e9 a ", 2.0) == (5, 2.5, 0.0)
    assert measure_text("\u1112\u1161\u11ab", 0.5)[:2] == (1, 2.0), "a syllable is one character however it is spelled"
    assert measure_text("", 1.0) == (0, 0.0, 0.0)


def test_long_texts_take_no_time_by_character() -> None:
    text = "谢" * 100_000 + " word" * 100_000
    start_s = time.process_time()
    assert repeated_share(text) > 0.99
    assert time.process_time() - start_s < 2


def test_a_clip_without_a_text_has_no_values() -> None:
    table = pa.table(
        {
            "status": ["clip", "account", "clip", "clip"],
            "fields": pa.array([["x", "say so"], None, ["y", None], ["z"]], pa.list_(pa.string())),
            "duration_s": [2.0, None, 1.0, 1.0],
            "sample_rate_hz": [RATE] * 4,
        }
    )
    stage = pickle.loads(pickle.dumps(MeasureClips(MeasureNames(["text"]), text_at=1)))
    assert stage(table)["n_characters"].to_pylist() == [6, None, None, None]
    assert stage(table)["characters_per_s"].to_pylist() == [3.0, None, None, None]
    assert MeasureClips(MeasureNames(["text"]))(table)["repeated_share"].to_pylist() == [None] * 4


TEXTS = ["a usual text", "x", "", "thank you thank you thank you", "a very long text " * 5, "usual again"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spoken")
    rows = ["file,said"]
    for i, text in enumerate(TEXTS):
        write_audio(folder / f"r{i}.wav", tone(1.0, RATE, hz=200 + 50 * i), RATE)
        rows.append(f"r{i}.wav,{text}")
    (folder / "t.csv").write_text("\n".join(rows) + "\n")
    return folder


def configured(corpus: Path, root: Path, clips: list[Any], **more: Any) -> dict[str, Any]:
    source = {
        "name": "s", "root": str(corpus), "annotations": {"table": "t.csv", "recording": "file"},
        "segment": {"mode": "annotation"}, "text": {"from": "said"}, **more.pop("source", {}),
    }  # fmt: skip
    return {
        "name": "k",
        "sources": [source],
        "audio": {"sample_rate_hz": RATE},
        "clips": clips,
        "output": {"root": str(root)},
        **more,
    }


RULES = {"n_characters": {"min": 1}, "characters_per_s": {"min": 3, "max": 40}, "repeated_share": {"max": 0.5}}


def test_clips_are_kept_by_their_text_without_a_recording(corpus: Path, tmp_path: Path) -> None:
    measured = [{"measure": ["text", "peak"]}]
    clipmill.build(configured(corpus, tmp_path / "a", measured), quiet=True).raise_for_status()
    rows = {row["text"]: row for row in clipmill.open_dataset(tmp_path / "a").manifest().to_pylist()}
    assert {text: row["n_characters"] for text, row in rows.items()} == {t.strip(): len(t.strip()) for t in TEXTS}
    assert rows["a usual text"]["characters_per_s"] == 12 and rows["x"]["peak_dbfs"] is not None
    told = json.loads(run("show", tmp_path / "a", "--keep", json.dumps(RULES), "--json"))
    report = clipmill.build(configured(corpus, tmp_path / "a", [*measured, {"keep": RULES}]), quiet=True)
    report.raise_for_status()
    assert (report.shards_from_clips, report.decoded_s) == (report.shards_built, 0.0), "no recording is opened"
    dropped = {
        "n_characters_below_min": 1,
        "characters_per_s_below_min": 1,
        "characters_per_s_above_max": 1,
        "repeated_share_above_max": 1,
    }
    assert report.snapshot is not None and report.snapshot.counts.dropped == told["dropped"] == dropped
    clipmill.build(configured(corpus, tmp_path / "b", [*measured, {"keep": RULES}]), quiet=True).raise_for_status()
    assert shard_hashes(tmp_path / "b").items() <= shard_hashes(tmp_path / "a").items()
    kept = clipmill.open_dataset(tmp_path / "a").manifest()["text"].to_pylist()
    assert sorted(kept) == ["a usual text", "usual again"]


def test_texts_are_measured_before_samples_are_stored_too(corpus: Path, tmp_path: Path) -> None:
    """Where a stage that changes samples follows, measures are taken in the decoding process."""
    clips = [{"measure": ["text"]}, {"keep": {"n_characters": {"min": 5}}}, {"augment": {"copies": 1, "speed": 2.0}}]
    clipmill.build(configured(corpus, tmp_path, clips), quiet=True).raise_for_status()
    rows = clipmill.open_dataset(tmp_path).manifest().to_pylist()
    assert len(rows) == 2 * 4
    for row in rows:
        assert row["characters_per_s"] == row["n_characters"] == len(row["text"]), "a copy has its clip's values"
        assert row["duration_s"] == (0.5 if row["augmented_from"] else 1.0)


def test_a_source_without_texts_has_no_values(corpus: Path, tmp_path: Path) -> None:
    config = configured(corpus, tmp_path, [{"measure": ["text"]}, {"keep": {"n_characters": {"min": 0}}}])
    noise = {"name": "noise", "root": str(corpus), "include": ["r0.wav"]}
    config["sources"].append(noise)
    config["split"] = {"train": 1.0, "disjoint": []}
    report = clipmill.build(config, quiet=True).raise_for_status()
    assert report.snapshot is not None and report.snapshot.counts.dropped == {"n_characters_unknown": 1}


def test_a_measure_of_texts_needs_texts(corpus: Path, tmp_path: Path) -> None:
    config = configured(corpus, tmp_path, [{"measure": ["text"]}], source={"text": None})
    with pytest.raises(
        ConfigError, match=r"clips\[0\].measure: clips have no text to measure: none of .* there are said; say in"
    ):
        make_plan(clipmill.load_config(config).config)
    with pytest.raises(ConfigError, match=r"put `- measure: \[text\]` before it, which adds n_characters"):
        make_plan(clipmill.load_config({**config, "clips": [{"keep": {"n_characters": {"min": 1}}}]}).config)


def test_windows_of_a_row_are_told(corpus: Path, tmp_path: Path) -> None:
    for mode, n in (({"mode": "window", "length_s": 0.5}, 1), ({"mode": "annotation"}, 0)):
        config = configured(corpus, tmp_path, [{"measure": ["text"]}], source={"segment": mode})
        warnings = make_plan(clipmill.load_config(config).config).warnings
        assert sum("makes several clips of a row" in finding.message for finding in warnings) == n
