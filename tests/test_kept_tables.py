"""What tables gave is kept by their versions: a plan with it is the plan without it, and an unchanged night reads no table."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_kept_annotations import LABELS, SPLITS, config, kept_at, outcome, planned, write

from clipmill.pipelines.dataset.kept_parts import kept_files
from clipmill.pipelines.plan import inventory, kept_source
from clipmill.pipelines.plan.annotations import table_rows
from clipmill.schemas.config import Config
from clipmill.schemas.forgotten import Forgotten
from clipmill.schemas.layout import KEPT_LIST
from clipmill.stages.storage.root import Root

COLUMNS = {"start": "start", "end": "end", "label": "label"}
TABLE = {"table": "rows.csv", "recording": "file", "columns": COLUMNS}
FACTS = {"table": "facts.csv", "recording": "file"}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks and parts, and files that count as settled at once."""
    monkeypatch.setattr(kept_source, "_BLOCK", 2)
    monkeypatch.setattr(kept_source, "_PART", 4)
    monkeypatch.setattr(inventory, "UNSETTLED_NS", 0)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the tables that are read."""
    paths: list[str] = []
    plain = table_rows._content_of
    monkeypatch.setattr(table_rows, "_content_of", lambda *given: (paths.append(given[2]), plain(*given))[1])
    return paths


def rows_of(rng: random.Random, n: int, width: int = 5) -> str:
    """Rows of recordings that exist, do not exist, are refused or ambiguous; some of them are wrong."""
    lines = ["file,start,end,label,speaker,fold"]
    for _ in range(rng.randint(0, 4 * n)):
        name = rng.choice(
            [f"r{rng.randrange(n + 2):02d}", "link.wav", "gone.wav", "", f"a/r{rng.randrange(n):02d}.wav"]
        )
        start = rng.choice(["0", "0.5", "x", "1"])
        lines.append(
            f"{name},{start},{rng.choice(['1', '2', '0.2'])},{rng.choice(['dog', 'cat', 'rain', ''])},{rng.choice('ab')},{rng.choice('12')}"
        )
    return "\n".join(lines) + "\n"


def corpus(root: Path, n: int = 12) -> None:
    for i in range(n):
        write(root, f"{'ab'[i % 2]}/r{i:02d}.wav", "x" * (100 + i))
    write(
        root,
        "rows.csv",
        "file,start,end,label\n" + "".join(f"r{i:02d},0,0.5,dog\nr{i:02d},0.5,1,cat\n" for i in range(n)),
    )
    write(root, "facts.csv", "file,room\n" + "".join(f"r{i:02d},hall\n" for i in range(n)))


def with_tables(root: Path, annotations: Any = TABLE, **more: Any) -> Config:
    first, *joins = annotations if isinstance(annotations, list) else [annotations]
    return config(root, {"annotations": first, "joins": joins, **more})


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 20),
    kind=st.sampled_from(["table", "joined", "mixed"]),
    split=st.integers(0, 3),
    label=st.integers(0, 3),
)
def test_a_plan_is_the_same_with_what_was_kept(seed: int, n: int, kind: str, split: int, label: int) -> None:
    """Tables alone, joined tables, and tables joined to sidecars; then files change, come and go, and so does the configuration."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sidecar = {"sidecar": "{stem}.csv", "columns": {"start": "start", "end": "end"}}
        annotations = {"table": TABLE, "joined": [TABLE, FACTS], "mixed": [TABLE, sidecar]}[kind]

        def change(i: int) -> None:
            write(root, f"{'ab'[i % 2]}/r{i:02d}.wav", None if rng.random() < 0.1 else "x" * rng.randint(0, 3000))
            write(root, f"{'ab'[i % 2]}/r{i:02d}.csv", "start,end,mood\n0,1,glad\n")

        def change_tables() -> None:
            write(root, "rows.csv", rows_of(rng, n))
            write(
                root,
                "facts.csv",
                "file,room\n" + "".join(f"r{i:02d},{rng.choice(['hall', 'attic'])}\n" for i in range(n)),
            )

        for i in range(n):
            change(i)
        change_tables()
        write(root, "a/first.wav", "x")
        (root / "in" / "a" / "link.wav").symlink_to("/etc/hostname")  # refused, with rows
        made = config(
            root,
            {"annotations": annotations if kind == "table" else annotations[0],
             "joins": [] if kind == "table" else annotations[1:], "label": LABELS[label]},
            split=SPLITS[split],
        )  # fmt: skip
        forgotten, retries = None, {}
        for night in range(4):
            cold = outcome(made, None, retries=retries, forgotten=forgotten)
            assert planned(root, made, retries=retries, forgotten=forgotten) == cold
            assert planned(root, made, retries=retries, forgotten=forgotten) == cold
            if night == 0:
                for i in rng.sample(range(n + 3), rng.randint(1, 3)):
                    change(i)
            elif night == 1:
                items = [row["item_id"] for row in cold["table"]] if not isinstance(cold, str) else []
                retries = dict.fromkeys(items[:2], ("1", 1))
                forgotten = Forgotten().with_more([f"s/{'ab'[i % 2]}/r{i:02d}.wav" for i in range(0, n, 4)])
            else:
                forgotten = None
                change_tables()


@pytest.mark.parametrize("annotations", [TABLE, [TABLE, FACTS]], ids=["one", "joined"])
def test_an_unchanged_night_reads_no_table_and_writes_nothing(
    tmp_path: Path, read: list[str], annotations: Any
) -> None:
    corpus(tmp_path)
    first = planned(tmp_path, with_tables(tmp_path, annotations))
    assert sorted(read) == (["facts.csv", "rows.csv"] if isinstance(annotations, list) else ["rows.csv"])
    root = Root(str(tmp_path / "out"))
    before = {path: (tmp_path / "out" / path).stat().st_mtime_ns for path in kept_files(root)}
    assert len(before) > 2 and KEPT_LIST in before
    read.clear()
    assert planned(tmp_path, with_tables(tmp_path, annotations)) == first and not read
    assert {path: (tmp_path / "out" / path).stat().st_mtime_ns for path in kept_files(root)} == before


def test_a_table_is_read_once_after_a_change(tmp_path: Path, read: list[str]) -> None:
    corpus(tmp_path)
    made = with_tables(tmp_path)
    planned(tmp_path, made)
    for change in (
        lambda: write(tmp_path, "a/r02.wav", "other"),
        lambda: write(tmp_path, "a/r90.wav", "new"),
        lambda: write(tmp_path, "rows.csv", "file,start,end,label\nr01,0,1,dog\n"),
    ):
        change()
        read.clear()
        assert planned(tmp_path, made) == outcome(made, None)
        assert read == ["rows.csv"] * 2  # once each
        read.clear()
        planned(tmp_path, made)
        assert not read


def test_rows_that_fit_nothing_are_rejected_every_night(tmp_path: Path) -> None:
    corpus(tmp_path)
    write(tmp_path, "rows.csv", "file,start,end,label\nr01,0,1,dog\nnobody,0,1,cat\nr02,x,1,cat\n")
    made = with_tables(tmp_path)
    nights = [planned(tmp_path, made) for _ in range(3)]
    assert nights[0]["rejections"][0]["reason"] == "recording_not_found"
    assert nights[0] == nights[1] == nights[2]


def test_damaged_parts_are_made_again(tmp_path: Path, read: list[str]) -> None:
    corpus(tmp_path)
    made = with_tables(tmp_path)
    first = planned(tmp_path, made)
    kept = [path for path in kept_files(Root(str(tmp_path / "out"))) if "/table-" in path]
    assert len(kept) == 1
    (tmp_path / "out" / kept[0]).write_bytes(b"damaged")
    read.clear()
    parts = kept_at(tmp_path)
    assert outcome(made, parts) == first and read == ["rows.csv"]
    assert parts.damaged == 1 and parts.findings


def test_settings_of_joined_tables_count_as_well(tmp_path: Path) -> None:
    corpus(tmp_path)
    write(tmp_path, "facts.csv", "file,room\nr01,hall\nnobody,attic\n")
    refusing, ignoring = (
        with_tables(tmp_path, [TABLE, {**FACTS, "missing_recordings": what}]) for what in ("reject", "ignore")
    )
    assert len(planned(tmp_path, refusing)["rejections"]) == 1
    assert planned(tmp_path, ignoring) == outcome(ignoring, None)
    assert planned(tmp_path, ignoring)["rejections"] == []


def test_a_table_that_is_reached_by_a_link_is_refused_once_links_are_not_followed(tmp_path: Path) -> None:
    corpus(tmp_path)
    (tmp_path / "in/rows.csv").rename(tmp_path / "rows.csv")
    (tmp_path / "in/rows.csv").symlink_to(tmp_path / "rows.csv")
    assert not isinstance(planned(tmp_path, with_tables(tmp_path, follow_links=True)), str)
    assert "set follow_links: true" in planned(tmp_path, with_tables(tmp_path, follow_links=False))
