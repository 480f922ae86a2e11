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
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest
from conftest import CORPORA
from odd_judge import Found, judge, run_chain
from odd_signal import Case, Part

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


def decide(cases: list[Case], folder: Path) -> dict[str, tuple[Case, Found, list[str]]]:
    """Write the cases, run them through the chain and judge them; by name."""
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        groups[repr((case.audio, case.source))].append(case)
    decided = {}
    for i, group in enumerate(groups.values()):
        there = folder / str(i)
        there.mkdir()
        by_name = {case.name: case for case in group}
        for case in group:
            (there / case.name).write_bytes(case.make())
        for name, found in run_chain(there, by_name, group[0].audio, group[0].source):
            case = by_name[name]
            decided[name] = (case, found, judge(case, found))
    return decided


@functools.cache
def decided() -> dict[str, tuple[Case, Found, list[str]]]:
    """Decide all cases once."""
    with tempfile.TemporaryDirectory() as folder:
        return decide(all_cases(), Path(folder))


def test_field_cases_are_there() -> None:
    if not (FIELD_CASES / "truth.csv").exists():
        pytest.skip(f"field cases are not at {FIELD_CASES}; they lie beside the corpora of CLIPMILL_TEST_CORPORA")
    assert len(field_cases()) >= 17


@pytest.mark.parametrize("name", [case.name for case in all_cases()])
def test_recording_of_a_reported_kind_is_used_whole_or_refused_truly(name: str) -> None:
    case, found, wrong = decided()[name]
    assert not wrong, f"{name} ({case.what}): {'; '.join(wrong)}. Found: {found}"


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
        _, found, wrong = results[case.name]
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
