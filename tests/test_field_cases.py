"""Recordings of kinds that people reported: every second of them is used, or something true is said. `odd_audio` makes them.

As a program it prints a table of what is expected and what is found: `python tests/test_field_cases.py [--wrong] [NAME ...]`.
"""

from __future__ import annotations

import argparse
import csv
import functools
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import CORPORA
from odd_judge import RATE, Outcome, judge, outcome_of, run_chain, run_items
from odd_signal import Case, Part, signal

FIELD_CASES = CORPORA.parent / "field-cases"
TRUE_REASONS = {
    "empty_data_then_LIST.wav": {"empty"},
    "cut_behind_two_tags.mp3": {"truncated"},
    "pages_lost.ogg": {"timeline_gap", "corrupt"},
    "flac_of_0_hz.flac": {"bad_format", "undecodable", "corrupt", "empty"},
}
"""What may be said of those that are rejected: truth.csv does not name reasons."""
PARTS = {
    "second_track_is_default.mka": (Part(0, 3, first_tone=5),),
    "joined.mp3": (Part(0, 4), Part(4, 3, first_tone=4)),
    "chained.ogg": (Part(0, 4), Part(4, 3, first_tone=4)),
    "pages_lost.ogg": (Part(0, 2.04), Part(4.12, 3.88, 4.12)),
}


def field_cases() -> list[Case]:
    """Return the cases of truth.csv; none where it is missing."""
    if not (FIELD_CASES / "truth.csv").exists():
        return []
    found = []
    with (FIELD_CASES / "truth.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            path, seconds = FIELD_CASES / row["path"], float(row["seconds"])
            hole = row["outcome"] == "hole told"
            found.append(
                Case(
                    path.name, "field", path.read_bytes, row["outcome"], row["what"], seconds, float(row["tolerance_s"]),
                    PARTS.get(path.name, (Part(0, seconds),)), frozenset(TRUE_REASONS.get(path.name, ())),
                    remarks=frozenset({"timeline_gap"}) if hole else frozenset(), loose_s=0.3 if hole else 0,
                    shift_s=max(0.045, float(row["tolerance_s"])),
                )
            )  # fmt: skip
    return found


def all_cases() -> list[Case]:
    from odd_audio import CASES

    return [*field_cases(), *CASES]


def named(case: Case) -> str:
    return f"{case.kind}/{case.name}"


def grouped(cases: list[Case], folder: Path) -> Iterator[tuple[Path, dict[str, Case]]]:
    """Write the cases into folders, those of one configuration into one; yield each folder with its cases by file name."""
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        groups[repr((case.kind == "field", case.audio, case.source))].append(case)
    for i, group in enumerate(groups.values()):
        there = folder / str(i)
        there.mkdir()
        by_name = {case.name: case for case in group}
        assert len(by_name) == len(group), "two cases of one name"
        for case in group:
            (there / case.name).write_bytes(case.make())
        yield there, by_name


def decide(cases: list[Case], folder: Path) -> dict[str, tuple[Case, Outcome, list[str]]]:
    """Write the cases, run them through the chain and judge them; by kind and name."""
    decided = {}
    for there, by_name in grouped(cases, folder):
        any_case = next(iter(by_name.values()))
        for name, found in run_chain(there, by_name, any_case.audio, any_case.source):
            decided[named(by_name[name])] = (by_name[name], found, judge(by_name[name], found))
    return decided


@functools.cache
def decided() -> dict[str, tuple[Case, Outcome, list[str]]]:
    """Decide all cases once."""
    with tempfile.TemporaryDirectory() as folder:
        return decide(all_cases(), Path(folder))


def test_field_cases_are_there() -> None:
    if not (FIELD_CASES / "truth.csv").exists():
        pytest.skip(f"field cases are not at {FIELD_CASES}; they lie beside the corpora of CLIPMILL_TEST_CORPORA")
    assert len(field_cases()) >= 17


@pytest.mark.parametrize("name", [named(case) for case in all_cases()])
def test_recording_of_a_reported_kind_is_used_whole_or_refused_truly(name: str) -> None:
    case, found, wrong = decided()[name]
    assert not wrong, f"{name} ({case.what}): {'; '.join(wrong)}. Found: {found}"


def damaged(y: npt.NDArray[np.int16], how: str) -> npt.NDArray[np.int16]:
    a, b, c = round(2.2 * RATE), round(2.4 * RATE), round(1.5 * RATE)
    return {
        "whole": y,
        "lost": np.concatenate([y[:a], y[b:]]),
        "lost and padded": np.concatenate([y[:a], y[b:], np.zeros_like(y[a:b])]),
        "silent": np.concatenate([y[:a], np.zeros_like(y[a:b]), y[b:]]),
        "shifted": np.concatenate([np.zeros_like(y[: RATE // 8]), y[: -RATE // 8]]),
        "swapped": np.concatenate([y[c : 2 * c], y[:c], y[2 * c :]]),
        "other": np.rint(32767 * signal(4, RATE, first_tone=5)).astype(np.int16),
        "cut": y[: -RATE // 10],
        "longer": np.concatenate([y, y[-RATE // 10 :]]),
    }[how]


@pytest.mark.parametrize(
    "how", ["whole", "lost", "lost and padded", "silent", "shifted", "swapped", "other", "cut", "longer"]
)
def test_judge_sees_what_is_lost_or_stands_elsewhere(how: str) -> None:
    case = Case("x", "test", bytes, "used", "a test of the judge", 4.0, parts=(Part(0, 4),))
    y = damaged(np.rint(32767 * signal(4, RATE)).astype(np.int16), how)
    assert bool(judge(case, Outcome(((0.0, y),)))) == (how != "whole")


def test_judge_wants_a_hole_told_and_a_true_reason() -> None:
    case = next(c for c in all_cases() if c.name == "hole.mka")
    y = np.rint(32767 * signal(6, RATE)).astype(np.int16)
    y[2 * RATE : 3 * RATE] = 0
    assert judge(case, Outcome(((0.0, y),)))
    assert not judge(case, Outcome(((0.0, y),), remarks=(("timeline_gap", "1 s at 2 s"),)))
    assert not judge(case, Outcome(reason="timeline_gap", detail="1 s at 2 s"))
    assert judge(case, Outcome(reason="timeline_gap", detail="somewhere"))
    assert judge(case, Outcome(reason="not_audio", detail="at 2 s"))


# The same clip comes of a recording whether all of it is decoded, or only the clip's surroundings.

SPAN_S = 16
"""A plan cuts no shorter spans, so only longer recordings are tried in them."""
PIECEWISE = [
    case for case in all_cases() if case.outcome != "rejected" and case.seconds > 2 and not (case.audio or case.source)
]
TABLE = {"header": False, "columns": {"start": 0, "end": 1}, "sidecar": "{name}.csv"}


def ranges(seconds: float) -> list[tuple[float, float]]:
    """Return what is cut: at the start, around the middle, behind it and near the end."""
    wanted = [(0.1, 0.6), (0.5 * seconds - 0.3, 0.5 * seconds + 0.3), (0.7 * seconds, 0.75 * seconds)]
    return [(round(a, 3), round(b, 3)) for a, b in [*wanted, (seconds - 0.7, seconds - 0.2)]]


@functools.cache
def pieces() -> dict[str, tuple[dict[str, list[tuple[float, npt.NDArray[np.int16]]]], list[str]]]:
    """Cut each recording that can be used by annotations, one a time and all at once, and by windows in spans; by case.

    Gives the clips of each way of cutting, and what went wrong.
    """
    found: dict[str, tuple[dict[str, list[tuple[float, npt.NDArray[np.int16]]]], list[str]]] = {}
    usable = [c for c in PIECEWISE if decided()[named(c)][1].clips]
    windows = {"segment": {"mode": "window", "length_s": 0.5, "tail": "keep"}, "bytes_per_second": 500}
    with tempfile.TemporaryDirectory() as folder:
        for there, by_name in grouped(usable, Path(folder)):
            long = {name for name, case in by_name.items() if case.seconds > SPAN_S}
            ways: list[tuple[str, set[str], dict[str, Any], dict[str, Any]]] = [
                ("spans", long, windows, {"shard_seconds": 2})
            ]
            for name, case in by_name.items():
                seconds = decided()[named(case)][1].seconds
                found[named(case)] = ({}, [])
                for i, (a, b) in enumerate(ranges(seconds)):
                    (there / f"{name}.{i}.csv").write_text(f"{a},{b}\n")
                (there / f"{name}.all.csv").write_text("".join(f"{a},{b}\n" for a, b in ranges(seconds)))
            for i in [*range(4), "all"]:
                cut = {"annotations": {**TABLE, "sidecar": f"{{name}}.{i}.csv"}, "segment": {"mode": "annotation"}}
                ways.append((f"annotations {i}", set(by_name), cut, {}))
            for way, names, source, output in ways:
                for name, rows in run_items(there, names, {}, source, **output):
                    clips, wrong = found[named(by_name[name])]
                    one = rows if isinstance(rows, Outcome) else outcome_of(rows)
                    if one.reason:
                        wrong.append(f"{way}: {one}")
                    clips.setdefault(way, []).extend(one.clips)
    return found


@pytest.mark.parametrize("name", [named(case) for case in PIECEWISE])
def test_clip_is_the_same_whether_all_of_the_recording_is_decoded_or_a_part(name: str) -> None:
    _, whole, _ = decided()[name]
    if not whole.clips:
        return  # it is rejected, which the test above judges
    y = whole.clips[0][1].astype(int)
    ways, wrong = pieces()[name]
    assert not wrong, f"{name}: used as a whole, but {wrong[0]}"
    for way, clips in ways.items():
        assert clips, f"{name}: no clip by {way}"
        for start_s, piece in clips:
            there = y[round(start_s * RATE) :][: len(piece)]
            assert len(there) == len(piece), f"{name}, {way}: the clip at {start_s:.3f} s goes beyond the recording"
            differ = np.abs(there - piece).max()
            assert differ == 0, (
                f"{name}, {way}: the clip at {start_s:.3f} s is not that of the whole recording: {differ}"
            )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Table of the cases: expected, found, and whether it is right.")
    parser.add_argument("names", nargs="*", help="parts of names or kinds; default: all")
    parser.add_argument("--wrong", action="store_true", help="only those that are not right")
    parser.add_argument("--write", type=Path, help="write the files there too, to look at them")
    options = parser.parse_args(arguments)
    cases = [c for c in all_cases() if not options.names or any(n in f"{c.kind}/{c.name}" for n in options.names)]
    if options.write:
        options.write.mkdir(parents=True, exist_ok=True)
        for case in cases:
            (options.write / case.name).write_bytes(case.make())
    with tempfile.TemporaryDirectory() as folder:
        results = decide(cases, Path(folder))
    right = 0
    for case in cases:
        _, found, wrong = results[named(case)]
        right += not wrong
        if wrong or not options.wrong:
            print(f"{'ok   ' if not wrong else 'WRONG'} {case.kind:8} {case.name:40} {expected(case)}")
            print(f"{'':14} found {str(found)[:170]}")
            for line in wrong:
                print(f"{'':14}     - {line}")
            if wrong:
                print(f"{'':14}     ({case.what}{'; debatable: ' + case.debatable if case.debatable else ''})")
    print(f"{right} of {len(cases)} are right")
    return right < len(cases)


def expected(case: Case) -> str:
    told = f", told {'|'.join(sorted(case.remarks))}" if case.remarks else ""
    used = f"{case.seconds:g} s +- {case.tolerance_s:g}{told}"
    reasons = "|".join(sorted(case.reasons))
    return {"used": used, "rejected": reasons}.get(case.outcome, f"{used}, or {reasons}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
