"""What the times of annotation files say: decimal signs, clocks, samples at a stated rate, and what no recording can hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from annotated_corpora import RANGES, annotate_source, join, ranges, read
from conftest import build_here, clips_of, tone, write_audio
from hypothesis import given
from hypothesis import strategies as st

from clipmill.pipelines.config_file import load
from clipmill.pipelines.plan.fingerprints import item_digest
from clipmill.pipelines.plan.items import Entry, Item
from clipmill.pipelines.plan.planning import make_plan
from clipmill.pipelines.plan.recording_list import Recording
from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.units import to_samples
from clipmill.stages.annotations.rows import AmbiguousError
from clipmill.stages.annotations.times import EITHER, clock_seconds, decimal_of, number

GROUPED = re.compile(r"[1-9]\d{0,2}([.,]\d{3})+")
NUMBERS = st.from_regex(r"\A[0-9]{1,7}([.,][0-9]{1,4}){0,3}\Z")


def times(text: str, **spec: Any) -> list[tuple[float | None, float | None]]:
    return [(start, end) for start, end, _ in ranges(read(text, columns={"start": 0, "end": 1}, **spec))]


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ('"16,000","32,000"\n', {"time_unit": "samples"}),
        ('"16,000","32,000"\n', {"time_unit": {"samples_at_hz": 16000}}),
        ("1.000;2.500\n", {"time_unit": "ms"}),
        ("0;2.500\n3.000;4.125\n", {"time_unit": "ms"}),
        ("1,000\t2,500\n", {}),
        ("1.000.000\t2.500.000\n", {"time_unit": "samples"}),
    ],
)
def test_what_can_be_thousands_or_thousandths_is_refused(text: str, spec: dict[str, Any]) -> None:
    with pytest.raises(AmbiguousError):
        times(text, **spec)
    for decimal in (".", ","):
        rows = read(text, columns={"start": 0, "end": 1}, decimal=decimal, **spec)
        assert all(r.reason in (None, "annotation_fraction_of_sample", "annotation_not_a_number") for r in rows)


@pytest.mark.parametrize(
    ("text", "spec", "expected"),
    [
        ("2.000,3.500\n", {}, (2, 3.5)),  # a point in seconds is always decimal
        ("1,234567\t12,500000\n", {}, (1.234567, 12.5)),  # Audacity in a country with decimal commas
        ("1,5\t1,750\n", {}, (1.5, 1.75)),
        ("1,234.5\t2,000\n", {}, (1234.5, 2000)),
        ("0.5;1.000\n", {"time_unit": "ms"}, (0.5, 1)),
        ("0,5;1.000\n", {"time_unit": "ms"}, (0.5, 1000)),
        ("1.234,5;2.345,75\n", {"time_unit": "ms"}, (1234.5, 2345.75)),
        ("16000.0,32000.0\n", {"time_unit": "samples"}, (16000, 32000)),
        ('"16,000","32,000"\n', {"time_unit": "samples", "decimal": "."}, (16000, 32000)),
        ("1.000;2.500\n", {"time_unit": "ms", "decimal": "."}, (1, 2.5)),
        ("1.000;2.500\n", {"time_unit": "ms", "decimal": ","}, (1000, 2500)),
        ("1.234,5;2.000\n", {"decimal": ","}, (1234.5, 2000)),
        ('"1,234.5","2,000"\n', {"decimal": "."}, (1234.5, 2000)),
    ],
)
def test_decimal_signs(text: str, spec: dict[str, Any], expected: tuple[float, float]) -> None:
    assert times(text, **spec) == [expected]


def test_a_value_against_the_sign_that_a_file_shows_is_rejected() -> None:
    rows = read("0.5;1000\n1,5;2000\n1,500;2500\n", columns={"start": 0, "end": 1}, time_unit="ms")
    assert [r.reason for r in rows] == [None, "annotation_not_a_number", None]
    assert rows[2].start == 1500 and "'.'" in str(rows[1].detail)


def test_fractions_of_samples_are_rejected() -> None:
    rows = read("0.5,16000\n0,16000.25\n1.0,16000.0\n", time_unit="samples", columns={"start": 0, "end": 1})
    assert [r.reason for r in rows] == ["annotation_fraction_of_sample"] * 2 + [None]


def test_an_ambiguous_sidecar_is_rejected_alone_and_a_table_is_an_error(tmp_path: Path) -> None:
    files = {"a.csv": "1.000;2.500\n1.500;2.500\n", "b.csv": "0.5;2.500\n"}
    spec = {"header": False, "columns": {"start": 0, "end": 1}, "time_unit": "ms"}
    found = join(tmp_path, ["a.wav", "b.wav"], files, sidecar="{stem}.csv", **spec)
    ((file, row),) = found.by_path["a.wav"]
    assert (file, row.reason) == ("a.csv", "annotation_ambiguous_number") and "'1.000'" in str(row.detail)
    assert ranges([row for _, row in found.by_path["b.wav"]]) == [(0.5, 2.5, None)]
    (tmp_path / "t.csv").write_text("file;start;end\na.wav;1.000;2.500\n")
    table = {"table": "t.csv", "recording": "file", "columns": {"start": "start", "end": "end"}, "time_unit": "ms"}
    with pytest.raises(ConfigError, match=r"t\.csv: '1\.000'") as refused:
        annotate_source(tmp_path, annotations=table)
    assert refused.value.key == "sources.s.annotations.decimal"
    assert annotate_source(tmp_path, annotations={**table, "decimal": ","}).by_path["a.wav"][0][1].end == 2500


@given(NUMBERS)
def test_a_number_is_read_by_its_sign_or_not_at_all(text: str) -> None:
    for decimal, other in ((".", ","), (",", ".")):
        value = number(text, decimal)
        whole, _, fraction = text.partition(decimal)
        parts = whole.split(other)
        is_one = decimal not in fraction and other not in fraction
        is_one &= len(parts) == 1 or (parts[0][0] != "0" and len(parts[0]) <= 3 and all(len(p) == 3 for p in parts[1:]))
        assert value == (float(Fraction("".join(parts) + "." + (fraction or "0"))) if is_one else None)


@given(st.lists(NUMBERS, min_size=1, max_size=5), st.sampled_from(["s", "ms", "samples"]))
def test_a_file_is_ambiguous_when_each_separated_value_is_grouped(values: list[str], unit: str) -> None:
    separated = [v for v in values if "." in v or "," in v]
    read = [v for v in separated if len([s for s in ".," if number(v, s) is not None]) == 1 or GROUPED.fullmatch(v)]
    sure = [v for v in read if not GROUPED.fullmatch(v) or (unit == "s" and number(v, ".") is not None and "." in v)]
    grouped = [v for v in separated if GROUPED.fullmatch(v)]
    if grouped and not sure:
        with pytest.raises(AmbiguousError):
            decimal_of(separated, unit)
    elif not any(GROUPED.fullmatch(v) for v in separated):
        assert decimal_of(separated, unit) in (".", ",", EITHER)


@given(
    st.integers(0, 10**13), st.sampled_from([8000, 16000, 22050, 44100, 48000]), st.booleans(), st.sampled_from(",.")
)
def test_a_clock_is_exact_to_the_sample(us: int, rate_hz: int, hours: bool, sign: str) -> None:
    seconds, fraction = divmod(us, 10**6)
    minutes = seconds // 60
    text = f"{minutes // 60:02d}:{minutes % 60:02d}" if hours else f"{minutes:02d}"
    found = clock_seconds(f"{text}:{seconds % 60:02d}{sign}{fraction:06d}")
    assert found == us / 1e6
    exact = Fraction(us, 10**6) * rate_hz
    if abs(exact - round(exact)) < Fraction(49, 100):
        assert to_samples(found, rate_hz) == round(exact)


@pytest.mark.parametrize("text", ["1:60", "1:60:00", "60:5", "1:5:00", "12", "12.5", "-1:00", "1:00:", "1:00.", "a:00", "1:2:3:4", ""])  # fmt: skip
def test_no_clock(text: str) -> None:
    assert clock_seconds(text) is None


def test_clocks_in_a_file() -> None:
    assert times("0:01,1:01.5\n90:00,01:30:00.25\n", time_unit="clock") == [(1, 61.5), (5400, 5400.25)]
    assert times("00:00:01,5\t00:01:01,500\n", time_unit="clock") == [(1.5, 61.5)]
    rows = read("0:01,0:02\n1.5,2.5\n", time_unit="clock", columns={"start": 0, "end": 1})
    assert rows[1].reason == "annotation_not_a_number" and "hh:mm:ss" in str(rows[1].detail)
    (row,) = read("1:00,0:02.5\n", time_unit="clock", columns={"start": 0, "duration": 1})
    assert (row.start, row.end) == (60, 62.5)


@given(st.integers(0, 10**12), st.integers(1, 10**9), st.sampled_from([8000, 16000, 44100, 48000, 192000]))
def test_samples_at_a_stated_rate_are_exact(start: int, n: int, rate_hz: int) -> None:
    ((start_s, end_s),) = times(f"{start},{start + n}\n", time_unit={"samples_at_hz": rate_hz})
    assert start_s is not None and end_s is not None
    assert (to_samples(start_s, rate_hz), to_samples(end_s, rate_hz)) == (start, start + n)


def test_units_and_decimal_are_checked() -> None:
    for bad in (
        {"time_unit": "minutes"},
        {"time_unit": {"samples_at_hz": 0}},
        {"time_unit": {"hz": 1}},
        {"decimal": ";"},
    ):
        with pytest.raises(ValueError, match=r"time_unit|decimal"):
            Annotations.model_validate({"sidecar": "{stem}.csv", "columns": RANGES, **bad})


# Rows at the edges of a recording


def corpus(root: Path, rows: str, *, seconds: float = 2.0) -> Path:
    write_audio(root / "in" / "a.wav", tone(seconds, 8000), 8000)
    (root / "in" / "a.csv").write_text(rows)
    return root / "in"


SOURCE: dict[str, Any] = {
    "annotations": {"sidecar": "{stem}.csv", "header": False, "columns": RANGES},
    "segment": {"mode": "annotation"},
}


@pytest.mark.parametrize("end", ["1e16", "1e308", "-1e308", "1e-320", "nan", "inf", "-0.0", "1e999", "9e8"])
@pytest.mark.parametrize("unit", ["s", "ms", "samples"])
@pytest.mark.parametrize("mode", ["annotation", "window"])
def test_an_end_that_no_recording_has_is_a_rejected_row(
    end: str, unit: str, mode: str, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    root = corpus(tmp_path, f"0,{end},dog\n0,1000,cat\n" if unit != "s" else f"0,{end},dog\n0,1,cat\n")
    segment = {"mode": mode, **({"length_s": 0.02, "tail": "keep"} if mode == "window" else {})}
    source = {**SOURCE, "root": root, "segment": segment, "annotations": {**SOURCE["annotations"], "time_unit": unit}}
    (commit,) = build_here(make_config(source))
    assert sum(commit.counts.rejected.values()) == 1 and commit.counts.clips_kept > 0
    assert commit.counts.problems() == []


def test_a_sum_of_start_and_duration_that_is_no_number_is_a_rejected_row(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    annotations = {**SOURCE["annotations"], "columns": {"start": 0, "duration": 1, "label": 2}}
    root = corpus(tmp_path, "1e308,1e308,a\n0,1,a\n")
    (commit,) = build_here(make_config({**SOURCE, "root": root, "annotations": annotations}))
    assert commit.counts.rejected == {"annotation_out_of_range": 1} and commit.counts.clips_kept == 1


@pytest.mark.parametrize("unit", ["s", "ms", "samples", {"samples_at_hz": 1_000_000_000}])
def test_rows_less_than_a_microsecond_apart_are_two_clips(
    unit: Any, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    rows = {
        "s": "0.1000001,1,a\n0.1000002,0.9999999,b\n0.1000003,1,c\n0.1000003,1,d\n",
        "ms": "100.0001,1000,a\n100.0002,999.9999,b\n100.0003,1000,c\n100.0003,1000,d\n",
        "samples": "800,8000,a\n800,8000,b\n801,8000,c\n800,8000,d\n",
    }
    text = rows.get(
        str(unit), "100000100,1000000000,a\n100000200,999999900,b\n100000300,1000000000,c\n100000300,1000000000,d\n"
    )
    source = {**SOURCE, "root": corpus(tmp_path, text), "annotations": {**SOURCE["annotations"], "time_unit": unit}}
    clips = clips_of(tmp_path / "out", build_here(make_config(source)))
    assert sorted(clip["label"] for clip in clips) == ["a", "b", "c", "d"]
    assert len({clip["clip_id"] for clip in clips}) == 4


def test_equal_rows_in_two_splits_are_two_clips(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    root = corpus(tmp_path, "0,1,a\n0,1,b\n0,1,a\n")
    split = {"from": "kind", "map": {"a": "train", "b": "test"}, "disjoint": []}
    annotations = {**SOURCE["annotations"], "fields": {"kind": 2}}
    path = make_config({**SOURCE, "root": root, "annotations": annotations}, split=split)
    clips = clips_of(tmp_path / "out", build_here(path))
    assert len({clip["clip_id"] for clip in clips}) == 3


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("-0.05,1,a\n-0.051,1,a\n-0.02,-0.01,a\n", "s"),
        ("-50,1000,a\n-51,1000,a\n-20,-10,a\n", "ms"),
        ("-400,8000,a\n-401,8000,a\n-20,-10,a\n", "samples"),
        ("-800,16000,a\n-801,16000,a\n-20,-10,a\n", {"samples_at_hz": 16000}),
    ],
)
def test_small_starts_before_0_are_cut_and_counted(text: str, unit: Any, tmp_path: Path) -> None:
    found = join(tmp_path, ["a.wav"], {"a.csv": text}, **SOURCE["annotations"], time_unit=unit)
    rows = [row for _, row in found.by_path["a.wav"]]
    assert [row.reason for row in rows] == [None, "annotation_negative", "annotation_negative"]
    assert rows[0].start == 0
    assert [row.noted for row in rows] == [("starts_cut",), (), ()]
    (row,) = read("-0.04,1,a\n", end_tolerance_s=0.01)
    assert row.reason == "annotation_negative"
    (row,) = read("-0.04,1\n", columns={"start": 0, "duration": 1})
    assert (row.start, row.end) == (0, 0.96)


@pytest.mark.parametrize("missing", ["reject", "ignore"])
def test_starts_that_were_cut_are_counted_of_used_rows_alone(
    missing: str, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    root = corpus(tmp_path, "")
    (root / "t.csv").write_text("file,start,end\na.wav,-0.01,1\ngone.wav,-0.01,1\na.wav,-0.01,1e12\na.wav,0,1\n")
    table = {"table": "t.csv", "recording": "file", "columns": {"start": "start", "end": "end"}}
    source = {"root": root, "annotations": {**table, "missing_recordings": missing}}
    assert make_plan(load(make_config(source)).config).noted == {"starts_cut": 1}


@pytest.mark.parametrize("ignored", [False, True])
def test_rows_of_recordings_that_are_not_there(ignored: bool, tmp_path: Path, make_config: Callable[..., Path]) -> None:
    root = corpus(tmp_path, "")
    (root / "t.csv").write_text("file,start,end\na.wav,0,1\nb.wav,0,1\nc.wav,x,1\na.wav,1,1.5\n")
    table = {"table": "t.csv", "recording": "file", "columns": {"start": "start", "end": "end"}}
    source = {"root": root, "annotations": {**table, **({"missing_recordings": "ignore"} if ignored else {})}}
    plan = make_plan(load(make_config(source)).config)
    assert (plan.annotations_read, plan.annotations_ignored, plan.annotations_rejected) == (
        4,
        2 if ignored else 0,
        0 if ignored else 2,
    )
    with pytest.raises(ValueError, match="missing_recordings"):
        Annotations.model_validate({"sidecar": "{stem}.csv", "missing_recordings": "ignore"})


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("1,500,2,500,cat", "annotation_split_number"),
        ("900,1,500,cat", "annotation_split_number"),
        ("1,500,000,2,500,000,cat", "annotation_split_number"),
        ("0,5,1,5,cat", "annotation_split_number"),
        ("12,25,12,5,cat", "annotation_split_number"),
        ("100,500,Dog, bark", (100, 500, "Dog")),
        ("100,500,cat,7", (100, 500, "cat")),
        ("0,1,2,3", (0, 1, "2")),
        ("100,500,cat,,", (100, 500, "cat")),
    ],
)
def test_a_row_wider_than_its_header_is_told_or_rejected(
    tmp_path: Path, row: str, expected: str | tuple[float, float, str], make_config: Callable[..., Path]
) -> None:
    """Thousands without quotes in a file with commas: 1,500,2,500,cat is not samples 1 to 500 with the label 2."""
    spec = {"header": True, "columns": {"start": "start", "end": "end", "label": "label"}, "time_unit": "samples"}
    found = read(f"start,end,label\n0,4000,dog\n{row}\n", **spec)[1]
    if isinstance(expected, str):
        assert found.reason == expected and f"or {row[:3]}" in str(found.detail)
        return
    assert (found.reason, found.start, found.end, found.label) == (None, *expected)
    root = corpus(tmp_path, f"start,end,label\n0,4000,dog\n{row}\n")
    annotations = {"sidecar": "{stem}.csv", **spec}
    plan = make_plan(load(make_config({**SOURCE, "root": root, "annotations": annotations})).config)
    assert plan.noted == ({} if row.endswith(",,") else {"rows_too_wide": 1})


def test_an_estimate_is_no_longer_than_a_file_of_that_size_can_be(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    root = corpus(tmp_path, "0,900000000,a\n" * 3 + "0,1.5,a\n")
    size_bytes = (root / "a.wav").stat().st_size
    assert make_plan(load(make_config({**SOURCE, "root": root})).config).estimated_s <= 3 * size_bytes / 500 + 1.501


@pytest.mark.parametrize("unit", ["s", "ms", "samples"])
def test_a_clock_time_among_seconds_is_told_as_one(unit: str) -> None:
    (row,) = read("0:01.5,0:02,dog\n", time_unit=unit)
    assert row.reason == "annotation_not_a_number" and "set annotations.time_unit: clock" in str(row.detail)
    (row,) = read("x,0:02,dog\n", time_unit=unit)
    assert "clock" not in str(row.detail)


def test_a_hint_in_a_detail_moves_no_key(tmp_path: Path) -> None:
    def digest_of(detail: str) -> str:
        entry = Entry(None, None, 0, "dog", {}, "a.csv", 1, "annotation_not_a_number", detail)
        recording = Recording("s", "a.wav", 1, "v")
        return item_digest(Item(recording, "s/a.wav", "train", None, {}, True, (0, None), [entry], 1, 0), "", {})

    (row,) = read("0:01,0:02,dog\n")
    assert digest_of("start is '0:01'") == digest_of(str(row.detail)) != digest_of("start is '0:02'")
