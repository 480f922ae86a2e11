"""Clips have several labels: from cells, from columns, from rows of equal times and from rows that overlap them, and all rows are counted."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import build_here, clips_of, tone, write_audio
from hypothesis import given
from hypothesis import strategies as st

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.published import open_dataset
from clipmill.pipelines.exports.csv import list_text
from clipmill.pipelines.plan.label_rows import events_of, merged
from clipmill.pipelines.plan.label_texts import texts_of
from clipmill.pipelines.plan.planning import make_plan
from clipmill.pipelines.plan.refused import RefusedError
from clipmill.schemas.config.label_config import ByOverlap
from clipmill.stages.clip_labels import ClipLabels, Labelling

pytestmark = pytest.mark.usefixtures("in_process")
RATE = 8000
ANY = {"limits": {"max_rejected_share": 1.0}, "audio": {"sample_rate_hz": RATE}}


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def recordings(folder: Path, **seconds: float) -> Path:
    for i, (name, length_s) in enumerate(seconds.items()):
        write_audio(folder / f"{name}.wav", tone(length_s, RATE, seed=i), RATE)
    return folder


def clips(config: Path) -> dict[tuple[str, float], dict[str, Any]]:
    """Build, and return the clips by the name of their recording and their start."""
    root = config.parent / "out"
    rows = clips_of(root, build_here(config))
    found = {(Path(r["recording_id"]).stem, round(r["start_s"], 6)): r for r in rows}
    assert len(found) == len(rows)
    return found


def test_rows_with_equal_times_are_one_clip(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    folder = recordings(tmp_path / "in", a=4.0)
    (folder / "a.csv").write_text(
        'start,end,label,by\n1,2,dog,x\n0,1,rain,x\n1,2,"cat, dog",y\n1.5,3,bird,x\n3,4,,\n1,2.0000001,dog,x\n'
    )
    source = {
        "root": folder,
        "annotations": {"sidecar": "{stem}.csv", "columns": {"start": "start", "end": "end", "label": "label"}},
        "label": {"several": True},
    }
    config = make_config(source, **ANY)
    found = clips(config)
    labels = {start: (r["labels"], r["label"], r["by"]) for (_, start), r in found.items()}
    assert labels == {
        0.0: (["rain"], None, "x"),
        1.0: (["bird", "cat", "dog"], None, "x,y"),
        1.5: (["bird", "cat", "dog"], None, "x"),
        3.0: ([], None, ""),
    }
    assert found["a", 1.5]["events"] == [
        {"label": "cat", "onset_s": 0.0, "offset_s": 0.5},
        {"label": "dog", "onset_s": 0.0, "offset_s": 0.5},
        {"label": "bird", "onset_s": 0.0, "offset_s": 1.5},
    ]
    done = run("build", config)
    assert done.exit_code == 0, done.output
    assert "6 read = 4 used + 0 rejected + 2 merged" in done.output
    assert "6 read, 0 rejected, 2 merged" in run("plan", config).output
    assert run("verify", tmp_path / "out").exit_code == 0
    snapshot = open_dataset(tmp_path / "out").snapshot
    assert snapshot.seconds.clips_by_label == {"": 1, "bird": 2, "cat": 2, "dog": 2, "rain": 1}
    assert snapshot.classes == ["bird", "cat", "dog", "rain"]


def test_windows_have_the_labels_that_overlap_them_enough(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    folder = recordings(tmp_path / "in", a=6.0, b=2.0)
    (folder / "rows.csv").write_text(
        "file,start,end,label\na,0.5,1.5,dog\na,1.6,1.8,cat\na,1.2,1.9,dog\na,3,4,edge\na,4.9,5.05,split\nb,0,0,bad\n"
    )
    source = {
        "root": folder,
        "annotations": {
            "table": "rows.csv", "recording": "file",
            "columns": {"start": "start", "end": "end", "label": "label"},
        },
        "segment": {"mode": "window", "length_s": 1.0},
        "label": {"by_overlap": {"min_s": 0.5}, "none": "background"},
    }  # fmt: skip
    found = clips(make_config(source, **ANY))
    labels = {place: r["labels"] for place, r in found.items()}
    assert labels == {
        ("a", 0.0): ["dog"],
        ("a", 1.0): ["dog"],
        ("a", 2.0): ["background"],
        ("a", 3.0): ["edge"],
        ("a", 4.0): ["background"],
        ("a", 5.0): ["background"],
        ("b", 0.0): ["background"],
        ("b", 1.0): ["background"],
    }
    assert found["a", 1.0]["events"] == [
        {"label": "dog", "onset_s": 0.0, "offset_s": 0.5},
        {"label": "dog", "onset_s": 0.2, "offset_s": 0.9},
        {"label": "cat", "onset_s": 0.6, "offset_s": 0.8},
    ]
    assert found["a", 4.0]["events"] == [{"label": "split", "onset_s": 0.9, "offset_s": 1.0}]
    source["label"] = {"by_overlap": {"min_s": 0.5, "min_share": 0.6}}
    labels = {place: r["labels"] for place, r in clips(make_config(source, **ANY)).items()}
    assert labels["a", 1.0] == ["cat", "dog"]
    assert labels["a", 4.0] == ["split"]
    assert labels["a", 5.0] == []
    plan = make_plan(load(make_config(source, **ANY)).config)
    assert plan.annotations_read == 6


@pytest.mark.parametrize(
    ("text", "separator", "expected"),
    [
        ("dog,cat", ",", ["dog", "cat"]),
        (" dog ; cat;;dog ", ";", ["dog", "cat"]),
        ('["dog", "cat, black", 3]', ",", ["dog", "cat, black", "3"]),
        ("['redwin', \"it's\"]", ",", ["redwin", "it's"]),
        ("[]", ",", []),
        ("[noise],dog", ",", ["[noise]", "dog"]),
        ("[noise]", ",", ["[noise]"]),
        ("", ",", []),
        ("a b", " ", ["a", "b"]),
    ],
)
def test_texts_of_a_cell(text: str, separator: str, expected: list[str]) -> None:
    assert texts_of(text, separator) == expected


@given(st.lists(st.text(), max_size=5))
def test_arrays_of_texts_are_read_as_they_are(labels: list[str]) -> None:
    expected = list(dict.fromkeys(label.strip() for label in labels if label.strip()))
    assert texts_of(json.dumps(labels)) == expected
    assert texts_of(list_text("labels", expected) or "") == expected


@given(st.text(alphabet="[]\"'\\, a1{}", max_size=40))
def test_any_cell_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(RefusedError):
        assert all(part and part == part.strip() for part in texts_of(text))


def test_an_array_in_which_arrays_lie_deep_is_no_array() -> None:
    assert texts_of("[" * 100_000 + "]" * 100_000, ";")
    with pytest.raises(RefusedError):
        texts_of('[["dog"]]')


TIMES = st.integers(0, 40).map(lambda n: n / 8)


@st.composite
def rows(draw: Any) -> list[dict[str, Any]]:
    found = []
    for _ in range(draw(st.integers(0, 8))):
        start, length = draw(TIMES), draw(st.integers(1, 24)) / 8
        kind = draw(st.sampled_from(["timed", "open", "whole"]))
        found.append(
            {
                "labels": draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=2, unique=True)),
                "start": start if kind != "whole" else None,
                "end": start + length if kind == "timed" else None,
                "channel": draw(st.sampled_from([None, 1, 2])),
            }
        )
    return found


@given(rows(), st.integers(0, 39), st.integers(1, 16), st.sampled_from([None, 0, 1]), st.randoms(),
       st.sampled_from([None, 0.25, 0.5, 1.125]), st.sampled_from([None, 0.2, 0.5, 1.0]))  # fmt: skip
def test_labels_of_a_clip_are_those_of_a_count_sample_by_sample(
    events: list[dict[str, Any]], first: int, n: int, lane: int | None, random: Any, min_s: float | None, min_share: float | None
) -> None:  # fmt: skip
    rate, total = 16, 16 * 5
    start = first * 2
    stop = min(total, start + n * 2)
    by = ByOverlap(min_s=min_s, min_share=min_share)
    random.shuffle(events)
    found, heard = ClipLabels(Labelling(True, True, by, "none"), events, rate, total, 10.0).of(start, stop, lane)

    def samples(event: dict[str, Any]) -> set[int]:
        begin = round((event["start"] or 0) * rate)
        end = round(event["end"] * rate) if event["end"] is not None else total
        return set(range(begin, end))

    clip = set(range(start, stop))
    fitting = [
        e for e in events if (lane is None or e["channel"] in (None, lane + 1)) and (e["start"] or 0) * rate < total
    ]
    expected = []
    for label in "abc":
        own = [samples(e) for e in fitting if label in e["labels"]]
        own = [o for o in own if o & clip]
        together = len(set().union(*own) & clip)
        enough = min_s is not None and together >= min_s * rate
        enough |= min_share is not None and any(len(o & clip) >= min_share * len(o) for o in own)
        if enough or (min_s is None and min_share is None and together):
            expected.append(label)
    assert found == (expected or ["none"])
    assert heard is not None
    assert heard == sorted(heard, key=lambda e: (e["onset_s"], e["offset_s"], e["label"]))
    for label in "abc":
        inside = {
            start + k
            for e in heard
            if e["label"] == label
            for k in range(round(e["onset_s"] * rate), round(e["offset_s"] * rate))
        }
        timed = [e for e in fitting if label in e["labels"] and e["start"] is not None]
        assert inside == set().union(*map(samples, timed)) & clip


@dataclass
class LabelledEntry:
    start: float | None
    end: float | None
    labels: list[str]
    fields: dict[str, str]
    file: str
    line: int
    channel: int | None = None
    noted: tuple[str, ...] = ()


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.lists(st.sampled_from("abc"), max_size=2, unique=True).map(sorted),
            st.dictionaries(st.sampled_from("xy"), st.sampled_from(["", "1", "2"])),
        ),
        max_size=12,
    ),
    st.randoms(),
)
def test_rows_of_equal_times_become_one_whatever_their_order(given_rows: list[Any], random: Any) -> None:
    def entries() -> list[LabelledEntry]:
        return [LabelledEntry(s, s + 1, list(ls), dict(fs), "f", i) for i, (s, ls, fs) in enumerate(given_rows)]

    one, n_one = merged(entries(), lambda e: (e.start, e.end))
    shuffled = entries()
    random.shuffle(shuffled)
    other, n_other = merged(shuffled, lambda e: (e.start, e.end))
    by_start = [sorted(each, key=lambda e: e.start or 0) for each in (one, other)]
    assert by_start[0] == by_start[1]
    assert n_one == n_other == len(given_rows) - len(one)
    assert events_of(one) == events_of(other)
    for entry in one:
        group = [(ls, fs) for s, ls, fs in given_rows if s == entry.start]
        assert entry.labels == sorted({label for ls, _ in group for label in ls})
        for name, value in entry.fields.items():
            assert value == ",".join(sorted({fs[name] for _, fs in group if fs.get(name)}))


def test_windows_within_rows_have_the_labels_of_all_rows_that_overlap_them(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    folder = recordings(tmp_path / "in", a=5.0)
    (folder / "a.csv").write_text("0,2.5,dog;cat,x\n0,2.5,cow,y\n1.5,4,owl,z\n")
    source = {
        "root": folder,
        "annotations": {
            "sidecar": "{stem}.csv", "header": False, "columns": {"start": 0, "end": 1, "label": 2}, "fields": {"by": 3},
        },
        "segment": {"mode": "window", "length_s": 1.0, "tail": "pad_zero"},
        "label": {"several": True, "separator": ";", "map": {"dog": "Dog", "cow": "Cow"}, "default": "other"},
    }  # fmt: skip
    rows = clips_of(tmp_path / "out", build_here(make_config(source, **ANY)))
    found = sorted((r["by"], r["start_s"], r["labels"], r["n_samples"]) for r in rows)
    assert found == [
        ("x;y", 0.0, ["Cow", "Dog", "other"], RATE),
        ("x;y", 1.0, ["Cow", "Dog", "other"], RATE),
        ("x;y", 2.0, ["Cow", "Dog", "other"], RATE),
        ("z", 1.5, ["Cow", "Dog", "other"], RATE),
        ("z", 2.5, ["other"], RATE),
        ("z", 3.5, ["other"], RATE),
    ]
    last = next(r for r in rows if r["start_s"] == 3.5)
    assert last["events"] == [{"label": "other", "onset_s": 0.0, "offset_s": 0.5}], (
        "padding is no part of what is heard"
    )
