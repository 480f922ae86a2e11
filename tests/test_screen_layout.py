"""What commands print: lines are broken for a screen, and the summary of a build fits one, whatever it has to say."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from clipmill.pipelines.cli.build_summary import describe_build, summary
from clipmill.pipelines.cli.measured_wording import describe_measured
from clipmill.pipelines.cli.screen_layout import Section, fit, wrap
from clipmill.pipelines.cli.wording import describe_labels
from clipmill.pipelines.dataset.sides import SideChanges
from clipmill.pipelines.run.report import Report
from clipmill.schemas.findings import Finding
from clipmill.schemas.records import Counts, Seconds, Snapshot

ROOT = "/data/sets/dogs-dataset"
COUNTS = st.integers(0, 10**10)
NAMES = st.text(st.characters(categories=["L", "N"], include_characters="-_ "), min_size=1, max_size=60)
SENTENCES = st.lists(NAMES, min_size=1, max_size=30).map(" ".join)


def counts_of(names: st.SearchStrategy[str], most: int = 60) -> st.SearchStrategy[dict[str, int]]:
    return st.dictionaries(names, COUNTS.filter(bool), max_size=most)


MOVES = st.sampled_from(["train to test", "train to val", "val to test"])
FINDINGS = st.lists(SENTENCES.map(lambda text: Finding("limit", 1.0, 0.0, text)), max_size=20)
SIDES = st.fixed_dictionaries({"clips": COUNTS, "seconds": st.floats(0, 1e9), "shards": st.integers(0, 10**6)})


@st.composite
def reports(draw: st.DrawFn) -> Report:
    """Draw a report with whatever names and numbers, as long as its parts go together."""
    status = draw(st.sampled_from(["published", "unchanged", "not_published", "failed"]))
    counts = Counts(
        *draw(st.tuples(*[COUNTS] * 8)),
        dropped=draw(counts_of(NAMES, 12)),
        rejected=draw(counts_of(NAMES)),
        clips_augmented=draw(COUNTS),
    )
    snapshot = Snapshot(
        draw(st.integers(1, 10**6)), draw(st.from_regex("[a-z]{1,40}", fullmatch=True)), None, "2026-01-01T00:00:00+00:00", [], counts,
        Seconds(), draw(st.dictionaries(NAMES, SIDES, max_size=40)), draw(COUNTS), draw(COUNTS), draw(COUNTS), "",
        {"sources": [{}] * draw(st.integers(1, 99)), "features": draw(st.dictionaries(NAMES, st.just({}), max_size=9))}, [], draw(COUNTS),
        duplicates=draw(st.fixed_dictionaries({"clips": COUNTS, "across_splits": COUNTS, "labels": COUNTS, "unknown": COUNTS})),
    )  # fmt: skip
    failed = status == "failed"
    about = {"unknown": draw(COUNTS), "dropped": draw(COUNTS), "values": draw(st.lists(st.floats(), max_size=40))}
    group = {
        "code": "c",
        "count": 3,
        "meaning": draw(SENTENCES),
        "examples": [{"source_uri": draw(NAMES), "detail": draw(SENTENCES)}] * 3,
    }
    return Report(
        status, ROOT, draw(COUNTS), draw(COUNTS), draw(COUNTS), draw(st.floats(0, 1e7)), draw(COUNTS), work_s=draw(st.floats(0, 1e7)),
        startup_s=draw(st.floats(0, 1e4)), decoded_s=draw(st.floats(0, 1e9)), features_busy=draw(st.none() | st.floats(0, 1)),
        snapshot=None if failed else snapshot, failures=draw(st.lists(SENTENCES, min_size=1, max_size=20)) if failed else [],
        limits=draw(FINDINGS) if status != "failed" else [], accepted=status == "published", warnings=draw(FINDINGS),
        remarks=[group] * draw(st.integers(0, 9)), classes=draw(st.lists(SENTENCES, max_size=5)),
        passed_over=draw(st.dictionaries(NAMES, st.just({".csv": 18}), max_size=30)),
        side_changes=SideChanges(draw(counts_of(MOVES))), measured=draw(st.dictionaries(NAMES, st.just(about), max_size=30)),
        storage_weaknesses=draw(st.lists(SENTENCES, max_size=3)), shards_renewed=draw(COUNTS),
        verified=draw(st.none() | st.just({"shards": 1, "of_shards": 9, "problems": ["a b"] * 40, "unrepaired": ["a b"] * 40})),
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(reports())
def test_the_summary_of_any_build_fits_a_screen(report: Report) -> None:
    laid_out = [line for _, lines in fit(summary(report), 80, 23) for line in lines]
    assert len(laid_out) <= 24, "\n".join(laid_out)
    assert max(map(cell_len, laid_out)) <= 80, "\n".join(laid_out)
    text = " ".join(" ".join(laid_out).split())
    outcome = {
        "published": "published ",
        "unchanged": "nothing to do",
        "not_published": "not published: ",
        "failed": "error: ",
    }
    assert outcome[report.status] in text or (report.status == "not_published" and not report.limits)
    assert report.status in ("not_published", "failed") or ROOT in text
    assert f"{report.shards_planned:,} planned" in text


def a_report(n: int, **more: Any) -> Report:
    counts = Counts(12_000, 3, 0, 0, 0, 50_000, 48_000, 2_000, rejected={f"reason_{i:02}": 100 - i for i in range(n)})
    splits = {f"split{i:02}": {"clips": 1.0, "seconds": 2.0, "shards": 1.0} for i in range(n)}
    snapshot = Snapshot(
        7,
        "dogs",
        None,
        "2026-01-01T00:00:00+00:00",
        [],
        counts,
        Seconds(),
        splits,
        12_003,
        0,
        0,
        "",
        {"sources": [{}]},
        [],
        5 * 10**9,
    )
    return Report("published", ROOT, 40, 40, 0, 90.0, snapshot=snapshot, work_s=80.0, decoded_s=9e4, **more)


def test_what_does_not_fit_is_counted_and_said_where_it_is() -> None:
    report = a_report(40)
    lines = [line for _, lines in fit(summary(report), 80, 23) for line in lines]
    assert len(lines) <= 23
    text = " ".join(" ".join(lines).split())
    n_shown = sum("reason_" in line for line in lines)
    assert n_shown >= 1 and f"... and {40 - n_shown} more reasons: `clipmill failures {ROOT}`" in text
    assert "  reason_00: " in " ".join(lines), "the most frequent ones stay"
    assert any(f"more splits: `clipmill show {ROOT}`" in line for line in lines)
    assert len(describe_build(report)) > 80, "a log has them all"


def test_an_ordinary_summary_is_whole() -> None:
    sections = summary(a_report(3))
    laid_out = fit(sections, 80, 23)
    assert [section.name for section, _ in laid_out] == [s.name for s in sections if s.lines]
    assert not any("more" in line for _, lines in laid_out for line in lines)


def test_what_is_left_out_is_named() -> None:
    sections = [
        Section("first", ["a"] * 3, keep=3),
        Section("second", ["b"] * 3),
        Section("third", ["e"], keep=1, err=True),
    ]
    lines = [line for _, lines in fit(sections, 80, 5) for line in lines]
    assert lines == ["a", "a", "a", "not shown    second: see --json, or a log of the same command", "e"]


@given(st.text(st.characters(categories=["L", "N", "Zs", "P"]), max_size=300), st.integers(40, 100))
@example("time         " + "word " * 40, 40)
def test_breaking_a_line_loses_no_word(line: str, width: int) -> None:
    parts = wrap(line, width)
    assert " ".join(parts).split() == line.split()
    for part in parts:
        assert cell_len(part) <= width or "`" in part or len(part.split()) == 1, part


def test_a_line_goes_on_under_its_text() -> None:
    told = wrap("time         187.5 s: plan 5.0 s, starting and stopping Ray 107.6 s", 40)
    assert told == [
        "time         187.5 s: plan 5.0 s,",
        "             starting and stopping Ray",
        "             107.6 s",
    ]
    assert wrap(f"  clips of {'x' * 99} y", 40) == ["  clips of", f"{'x' * 99}", "y"] or wrap("a b", 40) == ["a b"]


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.text(max_size=40), st.fixed_dictionaries({"clips": COUNTS, "seconds": st.floats(0, 1e9)}), max_size=50
    )
)
def test_the_labels_with_the_most_clips_are_listed(totals: dict[str, Any]) -> None:
    lines = describe_labels(totals, {"train": totals}, 10)
    assert len(lines) == min(len(totals), 11)
    if len(totals) > 10:
        assert lines[-1] == f"  ... and {len(totals) - 10:,} more: --labels {len(totals)}, or --json"
        shown = [int(re.findall(r"([\d,]+) clip", line)[-1].replace(",", "")) for line in lines[:-1]]
        assert shown == sorted((int(t["clips"]) for t in totals.values()), reverse=True)[:10]


@pytest.mark.parametrize("value", [1e-9, -123456.0, float("inf")])
def test_tables_of_measured_columns_are_no_wider_than_a_screen(value: float) -> None:
    from clipmill.pipelines.dataset.measured import SHARES

    about = {"unknown": 0, "dropped": 0, "values": [value] * len(SHARES)}
    assert max(map(len, describe_measured({"bandwidth_hz": about}))) <= 80
