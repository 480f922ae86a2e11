"""No recording, and no group that the user names, on two sides of a split; and none changes sides as the corpus grows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import tone, write_audio
from hypothesis import given
from hypothesis import strategies as st

from clipmill.pipelines.config_file import load
from clipmill.pipelines.plan.leaks import check_disjoint
from clipmill.pipelines.plan.planning import make_plan
from clipmill.schemas.config.split_config import Split
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.schemas.tables import ANNOTATION, PLAN

Row = tuple[str, str, list[tuple[str, str | None]] | None]
VALUES = st.sampled_from(["", "a", "b", "c", "d"])


def table(rows: list[Row]) -> pa.Table:
    plain = []
    for i, (split, value, of_rows) in enumerate(rows):
        parts = None
        if of_rows is not None:
            parts = [{"fields": ["x", v], "reason": reason} for v, reason in of_rows]
        plain.append(
            {"split": split, "recording_id": f"r{i}", "path": f"{i}.wav", "fields": ["y", value], "annotations": parts}
        )
    items = pa.Table.from_pylist(plain, schema=PLAN)
    return pa.concat_tables([items.slice(0, 2), items.slice(2)])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["train", "test"]),
            VALUES,
            st.none() | st.lists(st.tuples(VALUES, st.none() | st.just("negative_duration")), max_size=3),
        ),
        max_size=8,
    )
)
def test_a_group_on_two_sides_is_found_and_nothing_else(rows: list[Row]) -> None:
    sides: dict[str, set[str]] = {}
    for split, value, of_rows in rows:
        for group in [value, *(v for v, reason in of_rows or [] if reason is None)]:
            if group:
                sides.setdefault(group, set()).add(split)
    torn = sorted(group for group, on in sides.items() if len(on) > 1)
    split = Split.model_validate({"train": 0.5, "test": 0.5, "by": "recording", "disjoint": ["speaker"]})
    if not torn:
        check_disjoint(split, table(rows), ["other", "speaker"])
        return
    with pytest.raises(ClipmillError) as told:
        check_disjoint(split, table(rows), ["other", "speaker"])
    assert str(told.value).startswith(f"{len(torn)} values of 'speaker'")
    assert all(repr(group) in str(told.value) for group in torn[:3])
    assert " in test" in str(told.value) and " in train" in str(told.value)


def test_lists_that_are_shorter_or_not_there_have_no_value() -> None:
    items = pa.Table.from_pylist(
        [
            {"split": "train", "recording_id": "r", "path": "r", "fields": None, "annotations": None},
            {
                "split": "test",
                "recording_id": "s",
                "path": "s",
                "fields": ["a"],
                "annotations": [dict.fromkeys(ANNOTATION.names)],
            },
        ],
        schema=PLAN,
    )
    check_disjoint(Split.model_validate({"train": 1.0, "disjoint": ["b", "recording"]}), items, ["a", "b"])


def corpus(tmp_path: Path) -> Path:
    for speaker in ("ann", "bob", "cyd", "dee"):
        for take in range(4):
            write_audio(tmp_path / f"in/{take}_{speaker}.wav", tone(0.5, 8000, seed=take), 8000)
    return tmp_path / "in"


def configured(corpus: Path, make_config: Callable[..., Path], **split: object) -> Path:
    source = {
        "root": corpus,
        "fields": r"(?P<take>\d)_(?P<speaker>\w+)\.wav",
        "segment": {"mode": "window", "length_s": 0.25},
    }
    return make_config(source, split=split)


def test_a_split_by_take_leaks_speakers_and_one_by_speaker_does_not(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    by_take = {"from": "take", "map": {0: "test"}, "default": "train"}
    here = corpus(tmp_path)
    make_plan(load(configured(here, make_config, **by_take)).config)
    with pytest.raises(
        ClipmillError,
        match=r"4 values of 'speaker' .* decided by 'take': 'ann' \(0_ann.wav in test, 1_ann.wav in train\)",
    ):
        make_plan(load(configured(here, make_config, **by_take, disjoint=["speaker"])).config)
    make_plan(
        load(configured(here, make_config, train=0.5, test=0.5, by="speaker", disjoint=["speaker", "recording"])).config
    )
    with pytest.raises(ConfigError, match="has no field 'session'; it has recording, speaker, take"):
        make_plan(load(configured(here, make_config, train=1.0, disjoint=["session"])).config)


def test_rows_of_one_recording_on_two_sides_are_refused_unless_that_is_meant(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    write_audio(tmp_path / "in/long.wav", tone(4, 8000), 8000)
    (tmp_path / "in/rows.csv").write_text("file,start,end,fold\nlong.wav,0,1,1\nlong.wav,2,3,2\n")
    table = {"table": "rows.csv", "recording": "file", "columns": {"start": "start", "end": "end", "fold": "fold"}}
    source = {"root": tmp_path / "in", "annotations": table, "segment": {"mode": "annotation"}}
    split = {"from": "fold", "map": {1: "train", 2: "test"}}
    with pytest.raises(ClipmillError, match=r"by address: 1, such as '.*long.wav'"):
        make_plan(load(make_config(source, split=split)).config)
    plan = make_plan(load(make_config(source, split={**split, "disjoint": []})).config)
    assert set(plan.table["split"].to_pylist()) == {"train", "test"}


def test_nothing_changes_sides_as_the_corpus_grows(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    def sides() -> dict[str, str]:
        config = configured(
            tmp_path / "in", make_config, train=0.6, val=0.2, test=0.2, by="speaker", disjoint=["speaker"]
        )
        rows = make_plan(load(config).config).table.select(["path", "split"]).to_pylist()
        return {row["path"]: row["split"] for row in rows}

    corpus(tmp_path)
    before = sides()
    for i in range(60):
        write_audio(tmp_path / f"in/{i % 10}_new{i % 23}.wav", tone(0.3, 8000, seed=i), 8000)
    after = sides()
    assert {path: after[path] for path in before} == before
    assert set(after.values()) == {"train", "val", "test"}


@pytest.mark.parametrize("version", ["auto", "sha256"])
def test_the_same_recording_in_two_sources_or_under_two_names(
    version: str, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    for i in range(8):
        write_audio(tmp_path / f"in/a/r{i}.wav", tone(0.3, 16000, seed=i), 16000)
        (tmp_path / "in/b").mkdir(exist_ok=True)
        (tmp_path / f"in/b/other{i}.wav").write_bytes((tmp_path / f"in/a/r{i}.wav").read_bytes())
    halves = {"train": 0.5, "test": 0.5}
    whole = {"segment": {"mode": "whole"}, "version": version}
    twice = [{"name": n, "root": tmp_path / "in/a", **whole} for n in ("one", "two")]
    with pytest.raises(
        ClipmillError, match=r"by address: \d, such as '.*/in/a/r\d.wav' \(r\d.wav in test, r\d.wav in train\)"
    ):
        make_plan(load(make_config(twice, split=halves)).config)
    copies = {"name": "s", "root": tmp_path / "in", **whole}
    if version == "sha256":
        with pytest.raises(ClipmillError, match=r"by content: \d, such as 'sha256-.*other"):
            make_plan(load(make_config(copies, split=halves)).config)
    make_plan(load(make_config(copies, split={**halves, "disjoint": []})).config)


@pytest.mark.parametrize(
    ("split", "key"),
    [
        ({"train": 0.5, "test": 0.5, "by": "nosuch"}, "split.by"),
        ({"from": "nosuch", "map": {"a": "test"}, "default": "train"}, "split.from"),
    ],
)
def test_a_split_by_a_field_that_nothing_has_is_told_with_those_that_there_are(
    split: dict, key: str, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    write_audio(tmp_path / "in/a_1.wav", tone(0.3, 16000), 16000)
    source = {"root": tmp_path / "in", "fields": "(?P<speaker>[a-z]+)_"}
    known = "recording, label, speaker" if key == "split.from" else "recording, speaker"  # `by: label` is refused
    with pytest.raises(ConfigError, match=f"no field 'nosuch'; it has {known}") as told:
        make_plan(load(make_config(source, split=split)).config)
    assert told.value.key == key
