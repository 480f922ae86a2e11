"""The first row and the roles of columns: what a table says is what is read, or it is told that it is not."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from annotated_corpora import RANGES, join, ranges, read
from click.testing import CliRunner
from conftest import build_here, clips_of, write_audio

from clipmill.pipelines.chain import known_reasons
from clipmill.pipelines.cli.main import main
from clipmill.pipelines.config_file import load
from clipmill.pipelines.plan.planning import make_plan
from clipmill.schemas.annotation_notes import ANNOTATION_NOTES
from clipmill.schemas.config import Source
from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.config.annotation_roles import ROLES, near_miss
from clipmill.schemas.errors import ConfigError
from clipmill.stages.annotations.rows import HeaderError, UnreadableError

MakeConfig = Callable[..., Path]
CELLS_BY_NAME = {"start": "start", "end": "end", "label": "label"}
SIDECAR = {"sidecar": "{stem}.csv"}
TABLE = {"table": "t.csv", "recording": 0}
ROWS = "0,1,dog\n2,3,cat\n"


def corpus(folder: Path, names: str, channels: int = 1, **files: str) -> Path:
    """Recordings of 5 s whose channel k has a tone of (k + 1) tenths of full scale, and files beside them."""
    t = np.arange(5 * 8000) / 8000
    y = np.stack([0.1 * (c + 1) * np.sin(2 * np.pi * 200 * (c + 1) * t) for c in range(channels)], axis=1)
    for name in names:
        write_audio(folder / f"{name}.wav", y, 8000)
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text, newline="")
    return folder


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, list(arguments))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


# The first row


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        (ROWS, RANGES),
        ("0.5\t2.25\tdog\n", RANGES),
        ("0,5;1,25;dog\n1,5;2;cat\n", RANGES),
        ("1.5,x\n", {"start": 0}),
        ("0.5,,dog\n1,2,cat\n", RANGES),
        ("1,0.25,x\n", {"start": 0, "duration": 1}),
        ("00:00:01.5,00:00:02,x\n", RANGES),
    ],
)
def test_a_first_row_with_times_is_no_header(text: str, columns: dict[str, int]) -> None:
    with pytest.raises(HeaderError, match="header: false"):
        read(text, header=True, columns=columns)


@pytest.mark.parametrize("header", ["start,end,label", "Begin (s),End (s),x", "t0,t1,2"])
def test_words_are_a_header(header: str) -> None:
    assert ranges(read(f"{header}\n{ROWS}", header=True)) == [(0, 1, "dog"), (2, 3, "cat")]


def test_columns_that_are_given_by_their_names_are_there_even_if_these_are_numbers() -> None:
    columns = {"start": "0", "end": "1", "label": "2"}
    assert ranges(read(f"0,1,2\n{ROWS}", header=True, columns=columns)) == [(0, 1, "dog"), (2, 3, "cat")]


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("command", ["plan", "build"])
@pytest.mark.parametrize(
    ("annotations", "file"),
    [
        ({**SIDECAR, "columns": RANGES}, "a.csv"),
        ({**SIDECAR, "columns": CELLS_BY_NAME}, "a.csv"),
        ({**TABLE, "columns": {"start": 1, "end": 2}}, "t.csv"),
        ({**TABLE, "columns": {"label": 1}}, "t.csv"),
        ({**TABLE, "recording": "file", "columns": {"start": "start"}}, "t.csv"),
    ],
)
def test_a_forgotten_header_false_ends_the_command(
    annotations: dict[str, Any], file: str, command: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    place = corpus(tmp_path / "in", "ab", a=ROWS, b=ROWS, t="a.wav,0,1\nb.wav,0.5,1\n")
    config = make_config({"name": "s", "root": place, "annotations": annotations, "segment": {"mode": "annotation"}})
    code, said = run(command, str(config))
    assert code == 2 and f"sources.s.annotations.header: {file}: " in said and "header: false" in said


def test_a_few_sidecars_without_their_header_are_rejected_alone(tmp_path: Path) -> None:
    good = {f"{c}.csv": f"start,end,label\n{ROWS}" for c in "bcd"}
    found = join(tmp_path, [f"{c}.wav" for c in "abcd"], {"a.csv": ROWS, **good}, **SIDECAR, columns=RANGES)
    ((_, row),) = found.by_path.pop("a.wav")
    assert row.reason == "annotation_unreadable" and "header: false" in str(row.detail)
    assert {path: len(rows) for path, rows in found.by_path.items()} == {f"{c}.wav": 2 for c in "bcd"}


def test_a_header_that_is_read_as_a_row_is_told_as_one(tmp_path: Path) -> None:
    text = f"start,end,label\n{ROWS}"
    found = join(tmp_path, ["a.wav"], {"a.csv": text}, **SIDECAR, header=False, columns=RANGES)
    assert [row.reason for _, row in found.by_path["a.wav"]] == ["annotation_is_header", None, None]
    assert "header: true" in str(found.by_path["a.wav"][0][1].detail) + known_reasons()["annotation_is_header"].remedy
    assert read("x,2,a\n")[0].reason == read("nan,inf,a\n")[0].reason == "annotation_not_a_number"


@pytest.mark.parametrize(
    ("text", "header", "code"),
    [
        ("dog\ncat\ndog\n", True, "headers_like_rows"),
        ("label\ncat\ndog\n", False, "rows_like_headers"),
        ("label\ncat\ndog\n", True, None),
        ("dog\ncat\ndog\n", False, None),
    ],
)
def test_what_no_time_decides_is_noted(text: str, header: bool, code: str | None, tmp_path: Path) -> None:
    found = join(tmp_path, ["a.wav"], {"a.csv": text}, **SIDECAR, header=header, columns={"label": 0})
    assert {k: n for k, n in found.noted.items() if n} == ({code: 1} if code else {})


@pytest.mark.usefixtures("in_process")
def test_an_empty_sidecar_counts_apart_from_a_missing_one(make_config: MakeConfig, tmp_path: Path) -> None:
    place = corpus(tmp_path / "in", "abcd", a=f"start,end,label\n{ROWS}", b="start,end,label\n", c="")
    annotations = {**SIDECAR, "columns": CELLS_BY_NAME}
    config = make_config({"root": place, "annotations": annotations, "segment": {"mode": "annotation"}})
    plan = make_plan(load(config).config)
    assert (plan.recordings_without_annotations, plan.noted) == (3, {"empty_sidecars": 2})
    for command in ("plan", "build"):
        code, said = run(command, str(config))
        assert code == 0 and "3 without annotations" in said
        assert "noted        2 recordings have an annotation file without rows" in said
    assert json.loads(run("plan", str(config), "--json")[1])["noted"] == {"empty_sidecars": 2}
    unchanged = json.loads(run("build", str(config), "--json")[1])
    assert unchanged["status"] == "unchanged" and unchanged["snapshot"]["noted"] == {"empty_sidecars": 2}


# Roles


@pytest.mark.parametrize(
    ("name", "role"),
    [
        *(
            (name, "start")
            for name in "begin onset Start START start_s strat starts tmin Begin_Time begin-time".split()
        ),
        *((name, "end") for name in "ends stop offset END end_s edn xmax".split()),
        *((name, "duration") for name in "dur durration Duration duration_s length".split()),
        *((name, "label") for name in "lable labels Label tag class lbl".split()),
        *((name, "channel") for name in "channels chanel Channel".split()),
    ],
)
def test_near_misses_of_roles_are_errors(name: str, role: str) -> None:
    assert near_miss(name, [name]) == role
    with pytest.raises(ValueError, match=f"did you mean '{role}'.*annotations.fields"):
        Annotations.model_validate({**SIDECAR, "columns": {name: 0}})
    assert Annotations.model_validate({**SIDECAR, "fields": {name: 0}}).field_columns == {name: 0}


@pytest.mark.parametrize(
    "name",
    "speaker text type salience fold tags state stats status take filename category species gender id notes name".split(),
)
def test_names_of_fields_stay_fields(name: str) -> None:
    assert near_miss(name, [name]) is None


@pytest.mark.parametrize("name", ["onset", "offset", "class", "tag", "start_s", "dur", "label_2", *ROLES])
def test_another_word_for_a_role_is_a_field_beside_it(name: str) -> None:
    assert near_miss(name, [*ROLES, name]) is None


def test_a_near_miss_ends_the_command_with_its_line(make_config: MakeConfig, tmp_path: Path) -> None:
    place = corpus(tmp_path / "in", "a", a=ROWS)
    annotations = {**SIDECAR, "header": False, "columns": {"start": 0, "ends": 1}}
    code, said = run("plan", str(make_config({"root": place, "annotations": annotations})))
    assert code == 2 and "annotations.columns: 'ends'" in said and "did you mean 'end'?" in said


@pytest.mark.parametrize(
    "spec",
    [
        {"columns": {**CELLS_BY_NAME, "salience": 3, "who": "speaker"}},
        {"columns": CELLS_BY_NAME, "fields": {"salience": 3, "who": "speaker"}},
        {"columns": {**CELLS_BY_NAME, "salience": 3}, "fields": {"who": "speaker"}},
    ],
)
def test_fields_are_the_same_under_either_key(spec: dict[str, Any]) -> None:
    text = "start,end,label,salience,speaker,left\n0,1,dog,2,ann,x\n"
    (row,) = read(text, header=True, **spec)
    assert row.fields == {"salience": "2", "who": "ann", "left": "x"}


def test_fields_can_be_a_list_of_names_and_can_be_called_as_a_role_is() -> None:
    text = "onset,offset,label,end\n0,1,dog,word\n"
    (row,) = read(
        text, header=True, columns={"start": "onset", "end": "offset"}, fields=["label", "end"], extra_columns="drop"
    )
    assert (row.end, row.label, row.fields) == (1, None, {"annotation_label": "dog", "end": "word"})


@pytest.mark.parametrize("where", ["speaker", 9])
def test_a_field_s_column_that_is_missing_is_named(where: str | int) -> None:
    with pytest.raises(UnreadableError, match=r"^fields\.who: the file has no column"):
        read(f"start,end,label\n{ROWS}", header=True, columns=CELLS_BY_NAME, fields={"who": where})


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"fields": "salience"}, "expected a map of fields to columns"),
        ({"fields": ["a", "a"]}, "twice"),
        ({"fields": {"a": 1}, "columns": {"a": 2}}, "remove one of them"),
        ({"fields": ["a"], "header": False}, "by index"),
        ({"fields": {"a": -1}}, "index must be 0 or more"),
    ],
)
def test_what_fields_cannot_be_is_told(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Annotations.model_validate({**SIDECAR, **spec})


def test_rows_to_the_end_are_counted_where_they_are_used(make_config: MakeConfig, tmp_path: Path) -> None:
    place = corpus(tmp_path / "in", "ab", a="0\n2\nx\n", b="1\n")
    source = {"root": place, "annotations": {**SIDECAR, "header": False, "columns": {"start": 0}}}
    assert make_plan(load(make_config(source)).config).noted == {"rows_to_the_end": 3}
    assert (
        "noted        3 rows have no end and extend to the end of their recording"
        in run("plan", str(make_config(source)))[1]
    )
    # A row that gives no start is about its whole recording.
    source["annotations"] = {**SIDECAR, "header": False, "columns": {"label": 0}}
    assert make_plan(load(make_config(source)).config).noted == {}


# The channel of a row


def channels_of(config: Path) -> dict[tuple[str, int], float]:
    rows = clips_of(Path(load(config).config.output.root), build_here(config))
    assert {row["n_channels"] for row in rows} == {1}
    assert all(row["clip_id"].endswith(f"-c{row['channel']}") for row in rows)
    peaks = [float(np.abs(sf.read(io.BytesIO(row["audio"]["bytes"]))[0]).max()) for row in rows]
    return {(row["label"], row["channel"]): round(peak, 2) for row, peak in zip(rows, peaks, strict=True)}


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("channels", ["mono", "each", "keep", "left"])
def test_a_row_takes_the_channel_that_it_names_counted_from_1(
    channels: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    place = corpus(tmp_path / "in", "a", 3, a="0,1,dog,1\n0,1,cat,3\n2,3,cow,2.0\n3,4,x,4\n3,4,y,0\n3,4,z,L\n")
    source = {
        "root": place, "segment": {"mode": "annotation"},
        "annotations": {**SIDECAR, "header": False, "columns": {**RANGES, "channel": 3}},
    }  # fmt: skip
    config = make_config(source, audio={"channels": channels, "sample_rate_hz": 8000})
    assert channels_of(config) == {("dog", 0): 0.1, ("cat", 2): 0.3, ("cow", 1): 0.2}
    code, said = run("build", str(config), "--accept")
    assert code == 0 and "6 read = 3 used + 3 rejected" in said
    assert "1  annotation_channel_missing" in said and "2  annotation_not_a_channel" in said
    assert "4 rows use one channel of their recording" in said


def test_windows_of_a_row_are_of_its_channel(make_config: MakeConfig, tmp_path: Path) -> None:
    place = corpus(tmp_path / "in", "a", 2, a="0,2,dog,2\n0,5,cat,3\n")
    source = {
        "root": place, "segment": {"mode": "window", "length_s": 0.5, "keep_every": 2},
        "annotations": {**SIDECAR, "header": False, "columns": {**RANGES, "channel": 3}},
    }  # fmt: skip
    config = make_config(source, audio={"sample_rate_hz": 8000})
    assert channels_of(config) == {("dog", 1): 0.2}
    (commit,) = build_here(config)
    assert (commit.counts.clips_candidates, commit.counts.clips_kept, commit.counts.dropped) == (
        4,
        2,
        {"keep_every": 2},
    )
    assert commit.counts.rejected == {"annotation_channel_missing": 1}


def test_a_row_s_channel_moves_its_own_key_alone(make_config: MakeConfig, tmp_path: Path) -> None:
    def digests(**columns: int) -> list[str]:
        annotations = {**SIDECAR, "header": False, "columns": {**RANGES, **columns}}
        config = load(make_config({"root": tmp_path / "in", "annotations": annotations})).config
        return sorted(make_plan(config).table["item_digest"].to_pylist())

    corpus(tmp_path / "in", "ab", 2, a="0,1,dog,1\n", b="0,1,dog,1\n")
    without, first = digests(), digests(channel=3)
    (tmp_path / "in/a.csv").write_text("0,1,dog,2\n")
    assert digests() == without
    (tmp_path / "in/b.csv").write_text("0,1,dog,2\n0,1,dog,1\n")
    annotations = {**SIDECAR, "header": False, "columns": {**RANGES, "channel": 3}}
    plan = make_plan(load(make_config({"root": tmp_path / "in", "annotations": annotations})).config)
    rows = [row for item in plan.table["annotations"].to_pylist() for row in item]
    assert sorted((row["channel"], row["ordinal"]) for row in rows) == [(1, 0), (2, 0), (2, 0)]
    (tmp_path / "in/b.csv").write_text("0,1,dog,1\n")
    assert len(set(first) & set(digests(channel=3))) == 1 and not set(first) & set(without)


def test_a_source_s_channels_and_its_rows_channels_exclude_each_other(make_config: MakeConfig, tmp_path: Path) -> None:
    annotations = {**SIDECAR, "columns": {**RANGES, "channel": 3}}
    with pytest.raises(ConfigError, match="leave `channels` out"):
        load(make_config({"root": tmp_path, "annotations": annotations, "channels": "left"}))
    source = Source.model_validate({"name": "s", "root": "x", "annotations": annotations})
    assert source.channel_by_row
    corpus(tmp_path / "in", "a", a="start,end,label,ch,x\n0,1,dog,1,2\n")
    config = make_config({"root": tmp_path / "in", "annotations": {**annotations, "fields": {"channel": "x"}}})
    with pytest.raises(ConfigError, match="field 'channel'") as refused:
        make_plan(load(config).config)
    assert refused.value.key == "sources[0].annotations.columns.channel"


def test_all_that_is_noted_can_be_said() -> None:
    assert all(one and several for one, several in ANNOTATION_NOTES.values())


# What is likely a mistake


@pytest.mark.parametrize("sidecar", ["labels.csv", "meta/labels.csv"])
def test_a_sidecar_of_several_recordings_is_an_error(sidecar: str, make_config: MakeConfig, tmp_path: Path) -> None:
    place = corpus(tmp_path / "in" / "one", "a") and corpus(tmp_path / "in" / "two", "b")
    for folder in ("one", "two"):
        (place.parent / folder / sidecar).parent.mkdir(exist_ok=True)
        (place.parent / folder / sidecar).write_text(ROWS)
    annotations = {"sidecar": sidecar, "header": False, "columns": RANGES}
    config = make_config({"name": "s", "root": place.parent, "annotations": annotations})
    assert make_plan(load(config).config).annotations_read == 4  # one recording a folder
    corpus(place, "c")
    code, said = run("plan", str(config))
    assert code == 2 and f"two/{sidecar}" in said and "two/b.wav and two/c.wav" in said
    assert "`table`" in said and "{stem}" in said and "sources.s.annotations.sidecar" in said
    assert f"{config}:{config.read_text().splitlines().index('    sidecar: ' + sidecar) + 1}: " in said


@pytest.mark.parametrize("key", ["columns", "fields"])
@pytest.mark.parametrize("names", ["start end label", "Start End Label", "onset offset label"])
def test_columns_the_wrong_way_round_are_an_error(key: str, names: str) -> None:
    turned = {str(k): name for k, name in enumerate(names.split())}
    with pytest.raises(ValueError, match=r"write \{start: 0, end: 1, label: 2\}"):
        Annotations.model_validate({**SIDECAR, key: turned})
    assert Annotations.model_validate({**SIDECAR, "fields": {"0": "speaker", "who": "start"}}).fields


@pytest.mark.parametrize("name", ["event_label", "category", "species", "target", "Category"])
def test_a_column_of_labels_is_a_field_only_where_labels_come_from_elsewhere(
    name: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    def source(columns: dict[str, str], **more: Any) -> dict[str, Any]:
        return {"root": tmp_path, "annotations": {**SIDECAR, "columns": {"start": "s", **columns}, **more}}

    for label in ({}, {"label": {"map": {"a": "b"}}}):
        with pytest.raises(ConfigError, match=r"did you mean `label: x`.*annotations\.fields") as refused:
            load(make_config({**source({name: "x"}), **label}))
        assert refused.value.key == f"sources[0].annotations.columns.{name}"
    load(make_config({**source({name: "x"}), "label": {"from": "folder"}}))
    load(make_config(source({name: "x", "label": "y"})))
    load(make_config(source({}, fields={name: "x"})))


@pytest.mark.parametrize(
    ("header", "columns", "paste"),
    [
        ("start,end,label", {}, "{start: start, end: end, label: label}"),
        ("onset,offset,event_label", {}, "{start: onset, end: offset, label: event_label}"),
        ("Begin Time (s),End Time (s),x", {}, "{start: 'Begin Time (s)', end: 'End Time (s)'}"),
        ("start,duration,text", {"start": "start"}, "{start: start, duration: duration}"),
        ("start,end,label", {"start": 0, "end": 1}, "{start: 0, end: 1, label: label}"),
    ],
)
@pytest.mark.parametrize("way", ["sidecar", "table"])
def test_columns_that_are_called_as_roles_and_not_named_are_told_with_what_to_paste(
    header: str, columns: dict[str, Any], paste: str, way: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    place = corpus(tmp_path / "in", "a", a=f"{header}\n0,1,dog\n", t=f"{header},f\n0,1,dog,a\n")
    annotations = {**(SIDECAR if way == "sidecar" else {"table": "t.csv", "recording": "f"}), "columns": columns}
    code, said = run("plan", str(make_config({"name": "s", "root": place, "annotations": annotations})))
    assert code == 0 and f"write columns: {paste}" in said and "warning      source 's'" in said
    assert "noted        1 annotation file has a column named like a role" in said


@pytest.mark.parametrize(
    ("header", "spec"),
    [
        ("start,end,label", {"columns": {"start": "start", "end": "end", "label": "label"}}),
        ("start,end,label", {"fields": ["start", "end", "label"]}),
        ("duration,text,speaker", {}),  # of whole recordings
        ("start,end,duration", {"columns": {"start": "start", "end": "end"}}),
        ("x,y,channel", {}),
    ],
)
def test_columns_that_are_meant_as_fields_are_not_told(
    header: str, spec: dict[str, Any], make_config: MakeConfig, tmp_path: Path
) -> None:
    place = corpus(tmp_path / "in", "a", a=f"{header}\n0,1,2\n")
    plan = make_plan(load(make_config({"root": place, "annotations": {**SIDECAR, **spec}})).config)
    assert not plan.warnings and not plan.noted


def test_a_label_column_is_not_told_where_labels_come_from_elsewhere(make_config: MakeConfig, tmp_path: Path) -> None:
    place = corpus(tmp_path / "in", "a", a="label,text\nx,y\n")
    plan = make_plan(load(make_config({"root": place, "annotations": SIDECAR, "label": "dog"})).config)
    assert not plan.warnings and not plan.noted


def test_a_header_with_numbers_is_noted_where_no_name_was_found_in_it(tmp_path: Path) -> None:
    def noted(**spec: Any) -> dict[str, int]:
        found = join(tmp_path, ["a.wav"], {"a.csv": "0.5,1.0,dog\n1.0,2.0,cat\n"}, **SIDECAR, **spec)
        return {code: n for code, n in found.noted.items() if n}

    assert noted() == noted(columns={"label": 2}) == {"headers_with_numbers": 1}
    assert noted(columns={"label": "dog"}) == noted(header=False, columns={"label": 2}) == {}
