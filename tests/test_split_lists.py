"""Splits by files that list recordings: what a line may be, what is told, and what is rejected."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from conftest import run, tone, write_audio
from hypothesis import given
from hypothesis import strategies as st
from split_corpora import edited, on

from clipmill.pipelines.config_file import load, loads
from clipmill.pipelines.plan.planning import Plan, make_plan
from clipmill.schemas.errors import ClipmillError, ConfigError

pytestmark = pytest.mark.usefixtures("in_process")

SPLIT: dict[str, Any] = {"from_files": {"test": "testing_list.txt", "val": "validation_list.txt"}, "default": "train"}


def corpus(folder: Path, names: list[str], **lists: str) -> Path:
    """Make empty files, which a plan does not open, and lists: ``testing_list="yes/a.wav"``."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * 1000)
    for name, text in lists.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def planned(config: Path) -> Plan:
    return make_plan(load(config).config)


def sides(plan: Plan) -> dict[str, str]:
    return dict(zip(plan.table["path"].to_pylist(), plan.table["split"].to_pylist(), strict=True))


def warned(plan: Plan) -> list[str]:
    return [finding.message for finding in plan.warnings]


def test_a_line_is_a_path_a_name_or_a_stem(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    names = ["yes/a.wav", "yes/b.wav", "no/c.wav", "no/d.wav", "no/e.flac"]
    place = corpus(
        tmp_path / "in", names, testing_list="yes/a.wav\r\n\n ./no/c.wav \n", validation_list="\ufeffb.wav\ne"
    )
    plan = planned(make_config({"root": place}, split=SPLIT))
    assert sides(plan) == {
        "yes/a.wav": "test",
        "yes/b.wav": "val",
        "no/c.wav": "test",
        "no/d.wav": "train",
        "no/e.flac": "val",
    }
    assert warned(plan) == []
    assert plan.passed_over == {}, "the lists are not strangers among the recordings"


def test_lists_are_no_recordings_where_any_name_is_one(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    place = corpus(tmp_path / "in", ["a", "b"], testing_list="a")
    split = {"from_files": {"test": "testing_list.txt"}, "default": "train"}
    assert sides(planned(make_config({"root": place, "any_name": True}, split=split))) == {"a": "test", "b": "train"}


def test_lines_that_fit_no_recording_are_counted_and_told(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    place = corpus(
        tmp_path / "in",
        ["yes/a.wav", "no/a.wav", "no/b.wav"],
        testing_list="no/b.wav\nyes/gone.wav\nlost\n",
        validation_list="yes/a.wav\na\nyes/a.wav\n",
    )
    plan = planned(make_config({"root": place}, split=SPLIT))
    assert sides(plan) == {"yes/a.wav": "val", "no/a.wav": "train", "no/b.wav": "test"}
    assert warned(plan) == [
        "testing_list.txt (split.from_files.test): 2 lines fit no single recording, such as 'yes/gone.wav' on line 2, which fits no"
        " recording",
        "validation_list.txt (split.from_files.val): 1 line fits no single recording, such as 'a' on line 2, which fits several"
        " recordings",
        "validation_list.txt (split.from_files.val): 1 line names a recording that the split has already",
    ]


def test_sources_of_one_folder_with_a_table_for_each_split(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    """As in Common Voice. One of the tables may be empty, where a split has no speaker."""
    place = corpus(tmp_path / "in", [f"{c}.wav" for c in "abcd"])
    for name, lines in {"train": "a.wav\ta\nb.wav\tb\n", "dev": "", "test": "c.wav\tc\n"}.items():
        (place / f"{name}.tsv").write_text(f"path\ttext\n{lines}")
    annotations = {"recording": "path", "fields": {"text": "text"}}
    sources = [
        {
            "name": name, "root": place, "include": ["*.wav"], "segment": {"mode": "annotation"},
            "annotations": {**annotations, "table": f"{name}.tsv"},
        }
        for name in ("train", "dev", "test")
    ]  # fmt: skip
    lists = {name: {"file": f"{name}.tsv", "column": "path"} for name in ("train", "dev", "test")}
    plan = planned(make_config(sources, split={"from_files": lists}))
    assert sides(plan) == {"a.wav": "train", "b.wav": "train", "c.wav": "test"}
    assert plan.noted == {"sources_of_one_tree": 3, "tables_without_rows": 1}
    assert (plan.recordings_listed, plan.recordings_without_annotations) == (12, 9)
    assert planned(make_config(sources[0], split={"from_files": {"train": lists["train"]}})).noted == {}


def test_recordings_in_no_list_or_in_two_are_rejected(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    place = corpus(
        tmp_path / "in", [f"{c}.wav" for c in "abcd"], testing_list="a.wav\nb.wav\n", validation_list="b.wav\nc\n"
    )
    config = make_config({"root": place}, split={"from_files": SPLIT["from_files"]})
    plan = planned(config)
    assert sides(plan) == {"a.wav": "test", "c.wav": "val"}
    assert {(r["recording_id"], r["reason"], r["detail"]) for r in plan.rejections} == {
        ("s0/b.wav", "split_in_two_lists", "test by testing_list.txt, val by validation_list.txt"),
        ("s0/d.wav", "split_not_listed", "it is in none of testing_list.txt, validation_list.txt"),
    }
    assert plan.recordings_rejected == 2
    assert planned(edited(config, split=SPLIT)).recordings_rejected == 1, (
        "a default is no side for what is in two lists"
    )


def test_rows_of_a_recording_go_where_its_list_says(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    place = corpus(tmp_path / "in", ["a.wav", "b.wav", "c.wav"], testing_list="a.wav", validation_list="b.wav")
    for name in "abc":
        (place / f"{name}.csv").write_text("start,end,label\n0,1,x\n1,2,y\n")
    source = {"root": place, "annotations": {"sidecar": "{stem}.csv", "columns": {"start": "start", "end": "end"}}}
    config = make_config(source, split={"from_files": SPLIT["from_files"]})
    plan = planned(config)
    rows = dict(zip(plan.table["path"].to_pylist(), plan.table["annotations"].to_pylist(), strict=True))
    assert [row["reason"] for row in rows["c.wav"]] == ["split_not_listed"] * 2
    assert [row["reason"] for row in rows["a.wav"] + rows["b.wav"]] == [None] * 4
    assert (sides(plan)["a.wav"], sides(plan)["b.wav"]) == ("test", "val")


def test_tables_and_several_lists(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    """As DCASE has them: a table with a header, one without, and a split in two files."""
    place = corpus(tmp_path / "in", [f"audio/{c}.wav" for c in "abcde"])
    (place / "setup").mkdir()
    (place / "setup/fold1_train.csv").write_text("filename\tscene_label\naudio/a.wav\tpark\naudio/b.wav\tbus\n")
    (place / "setup/street_test.txt").write_text("audio/c.wav\tstreet\n")
    (place / "setup/home_test.txt").write_text("audio/d.wav\thome\n")
    files = {
        "train": {"file": "setup/fold1_train.csv", "column": "filename"},
        "test": [{"file": f"setup/{name}_test.txt", "column": 0} for name in ("street", "home")],
    }
    plan = planned(make_config({"root": place}, split={"from_files": files, "default": "other"}))
    assert {path[6]: side for path, side in sides(plan).items()} == {
        "a": "train",
        "b": "train",
        "c": "test",
        "d": "test",
        "e": "other",
    }


def test_several_sources(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    """Each looks in its own root; of sources that share one, each takes its recordings; one without lists is told."""
    one = corpus(
        tmp_path / "one", ["dev/a.wav", "dev/b.wav", "eval/c.wav"], testing_list="a\nc\nlost", validation_list="b"
    )
    two = corpus(tmp_path / "two", ["c.wav"])
    sources = [
        {"root": one, "include": ["dev/*"]},
        {"root": one, "include": ["eval/*"]},
        {"root": two},
    ]
    plan = planned(make_config(sources, split=SPLIT))
    ids = dict(zip(plan.table["recording_id"].to_pylist(), plan.table["split"].to_pylist(), strict=True))
    assert ids == {"s0/dev/a.wav": "test", "s0/dev/b.wav": "val", "s1/eval/c.wav": "test", "s2/c.wav": "train"}
    assert warned(plan) == [
        "testing_list.txt (split.from_files.test): 1 line fits no single recording, such as 'lost' on line 3, which fits no recording",
        "source 's2' has none of the lists of split.from_files, so all its recordings are in 'train'",
    ]


@pytest.mark.parametrize(
    ("files", "lists", "message"),
    [
        ({"test": "gone.txt"}, {}, "split.from_files.test: gone.txt is in the root of no source; paths of lists are"),
        ({"test": "l.txt"}, {"l": "x\ny\n"}, "l.txt: no line fits a recording, such as 'x' on line 1, which fits no recording; give"),
        ({"test": "l.txt"}, {"l": "a.wav\tdog\n"}, "if the lines have several columns, write {file: l.txt, column: 0}"),
        ({"test": {"file": "l.txt", "column": "name"}}, {"l": "file\na.wav\n"}, "l.txt has no column 'name'; it has: file"),
        ({"test": {"file": "l.txt", "column": 3}}, {"l": "a.wav\n"}, "no line fits a recording"),
        ({"test": "../l.txt"}, {}, "'../l.txt' leads out of the source's root"),
        ({"test": "/etc/passwd"}, {}, "'/etc/passwd' leads out of the source's root"),
        ({"test": "s3://bucket/l.txt"}, {}, "leads out of the source's root"),
        ({"test": {"file": "l.txt", "colum": 0}}, {}, "did you mean 'column'?"),
        ({"test": []}, {}, "split.from_files.test"),
        ({}, {}, "split.from_files"),
        ({"te st": "l.txt"}, {}, "split.from_files"),
        ({"test": "l.txt"}, {"l": "\xff\xfe"}, None),
    ],
)  # fmt: skip
def test_lists_that_cannot_be_meant_are_errors(
    files: dict[str, Any], lists: dict[str, str], message: str | None, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    place = corpus(tmp_path / "in", ["a.wav"], **lists)
    if message is None:
        (place / "l.txt").write_bytes(b"\x81\x82")
        message = "cannot read l.txt: not utf-8 text"
    with pytest.raises(ConfigError) as told:
        planned(make_config({"root": place}, split={"from_files": files, "default": "train"}))
    assert message in str(told.value)
    assert "annotations." not in str(told.value)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"train": 1.0}, "give `from_files` with `default`, shares with `by`, or `from` with `map`"),
        ({"by": "speaker"}, "but only one of them"),
        ({"from": "fold", "map": {"1": "test"}}, "but only one of them"),
        ({"balance": True}, "`balance` needs shares; with `from_files` the lists alone decide"),
        ({"method": "rendezvous"}, "`method` needs shares"),
    ],
)
def test_lists_go_with_no_other_way_of_splitting(more: dict[str, Any], message: str) -> None:
    plain = {
        "name": "t",
        "sources": [{"name": "s", "root": "/in"}],
        "output": {"root": "/out"},
        "split": {**SPLIT, **more},
    }
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        loads(json.dumps(plain))


def test_a_list_behind_a_link_out_of_the_root(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    place = corpus(tmp_path / "in", ["a.wav", "b.wav"])
    (tmp_path / "list.txt").write_text("a.wav")
    (place / "testing_list.txt").symlink_to(tmp_path / "list.txt")
    split = {"from_files": {"test": "testing_list.txt"}, "default": "train"}
    with pytest.raises(ConfigError, match=r"is a link to .*, which is outside"):
        planned(make_config({"root": place}, split=split))
    assert sides(planned(make_config({"root": place, "follow_links": True}, split=split))) == {
        "a.wav": "test",
        "b.wav": "train",
    }


def test_a_list_that_changes_moves_recordings_at_the_next_build(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    """With sidecars, whose unchanged recordings a plan takes from the last one."""
    place = tmp_path / "in"
    for i in range(6):
        write_audio(place / f"r{i}.wav", tone(0.3, 8000, seed=i), 8000)
        (place / f"r{i}.csv").write_text("label\nx\n")
    for path in place.iterdir():  # old enough to be taken for settled
        os.utime(path, (1.6e9, 1.6e9))
    (place / "testing_list.txt").write_text("r0\nr1\n")
    source = {"root": place, "annotations": {"sidecar": "{stem}.csv", "columns": {"label": "label"}}}
    split = {"from_files": {"test": "testing_list.txt"}, "default": "train"}
    config = make_config(source, split=split, audio={"sample_rate_hz": 8000})
    run("build", config)
    assert on(tmp_path / "out") == {f"s0/r{i}.wav": "test" if i < 2 else "train" for i in range(6)}
    assert json.loads(run("build", config, "--json"))["status"] == "unchanged"
    (place / "testing_list.txt").write_text("r0\nr5\n")
    said = run("build", config, code=3)
    assert "max_side_changes" in said
    run("build", config, "--accept")
    assert on(tmp_path / "out") == {f"s0/r{i}.wav": "test" if i in (0, 5) else "train" for i in range(6)}


def test_lists_in_a_store(make_config: Callable[..., Path]) -> None:
    store = fsspec.filesystem("memory")
    for name, content in {"a.wav": b"x", "b.wav": b"x", "testing_list.txt": b"a.wav\n"}.items():
        store.pipe(f"/split-lists/{name}", content)
    split = {"from_files": {"test": "testing_list.txt"}, "default": "train"}
    config = make_config({"root": "memory://split-lists"}, split=split)
    assert sides(planned(config)) == {"a.wav": "test", "b.wav": "train"}
    with pytest.raises(ConfigError, match=r"gone\.txt is in the root of no source"):
        planned(edited(config, split={"from_files": {"test": "gone.txt"}, "default": "train"}))
    store.rm("/split-lists", recursive=True)


def test_an_empty_split_says_why(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    place = corpus(tmp_path / "in", ["a.wav"], testing_list="a.wav", validation_list="\n")
    said = run("plan", make_config({"root": place}, split=SPLIT))
    assert "split 'val', which `split` asks for, has no recordings: no list names a recording of it" in said
    assert "split 'train', which `split` asks for, has no recordings: every recording is in a list" in said


def test_a_forgotten_recording_is_not_told_again(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    place = tmp_path / "in"
    for i in range(4):
        write_audio(place / f"speaker{i}.wav", tone(0.3, 8000, seed=i), 8000)
    (place / "testing_list.txt").write_text("speaker0.wav\nspeaker1.wav\n")
    config = make_config({"root": place}, split={"from_files": {"test": "testing_list.txt"}, "default": "train"})
    run("build", config)
    run("forget", tmp_path / "out", "s0/speaker1.wav", "--yes")
    assert "speaker1" not in run("build", config)


@given(
    st.lists(st.sampled_from("a b c d e".split()), max_size=8),
    st.lists(st.sampled_from("a b c d e f".split()), max_size=8),
)
def test_every_recording_and_every_line_is_accounted_for(test: list[str], val: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = corpus(
            Path(folder), [f"{c}.wav" for c in "abcde"], testing_list="\n".join(test), validation_list="\n".join(val)
        )
        plain = {
            "name": "t",
            "sources": [{"name": "s", "root": str(place)}],
            "output": {"root": "/out"},
            "split": SPLIT,
        }
        try:
            plan = make_plan(loads(json.dumps(plain)).config)
        except ClipmillError as error:
            assert set(val) == {"f"} and "no line fits a recording" in str(error)
            return
        found, both = sides(plan), set(test) & set(val)
        assert {r["recording_id"] for r in plan.rejections} == {f"s/{c}.wav" for c in both}
        for c in set("abcde") - both:
            assert found[f"{c}.wav"] == ("test" if c in test else "val" if c in val else "train")
        told = sum(int(f.found) for f in plan.warnings)
        repeats = sum(len(x) - len(set(x)) for x in (test, [v for v in val if v not in both and v != "f"]))
        assert told == repeats + val.count("f")


@given(st.binary(max_size=60), st.sampled_from([None, 0, 1, "name"]))
def test_no_content_of_a_list_raises_anything_but_an_error_for_people(content: bytes, column: int | str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = corpus(Path(folder), ["a.wav"])
        (place / "l.txt").write_bytes(content)
        plain = {
            "name": "t",
            "sources": [{"name": "s", "root": str(place)}],
            "output": {"root": "/out"},
            "split": {"from_files": {"test": {"file": "l.txt", "column": column}}, "default": "train"},
        }
        try:
            make_plan(loads(json.dumps(plain)).config)
        except ConfigError as error:
            assert "l.txt" in str(error)
