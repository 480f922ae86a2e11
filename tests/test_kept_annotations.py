"""What annotation files gave is kept by their versions: a plan with it is the plan without it, and reads only what changed."""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import tone, write_audio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipmill.pipelines.dataset.forget import forget
from clipmill.pipelines.dataset.gc import find_garbage
from clipmill.pipelines.dataset.kept_parts import KeptParts, kept_files
from clipmill.pipelines.dataset.survey import survey
from clipmill.pipelines.plan import inventory, kept_source
from clipmill.pipelines.plan.annotations import sidecars
from clipmill.pipelines.plan.annotations.reading import read_content
from clipmill.pipelines.plan.planning import Plan, make_plan
from clipmill.pipelines.run.build import build
from clipmill.pipelines.run.preview import plan as preview
from clipmill.schemas.config import Config
from clipmill.schemas.config.annotation_config import Annotations
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.forgotten import Forgotten
from clipmill.schemas.layout import KEPT_LIST
from clipmill.stages.storage.root import Root

SIDECARS = [
    "start,end,label,speaker\n0,1,dog,a\n2,3.5,cat,b\n",
    "start,end,label,speaker\n0.5,1,rain,a\n",
    "start,end,label,place\n0,1,dog,\n1,x,cat,here\n",  # a row that is rejected, another field
    "start,end,label\n",  # no rows
    "",
    "start,end,label\n0,1,dog,more,cells\n2,1,cat\n",
    "onset;offset;label\n0,5;1;dog\n",  # lacks configured columns
    "start;end;label\n0,250;1,500;dog\n",  # which sign is decimal?
    "start,end,label\n0,1,dog\n" * 2,
    "PK\3\4 a workbook",
    'start,end,label\n0,1,"dog\n1,2,cat\n2,3,cow\n',
    "start,end,label,Channel\n0,1,\u00fcber \u72ac,2\n,,dog,1\n",
    "start,end,label\n0,1,\n3,,unknown\n",
    "0,1,dog\n1,2,cat\n",  # no header
    "start,end,label,fold\n0,1,dog,1\n1,2,dog,2\n",  # rows on two sides
    None,
]
SPECS: list[dict[str, Any]] = [
    {"columns": {"start": "start", "end": "end", "label": "label"}},
    {"columns": {"start": 0, "end": 1, "label": 2}},
    {"columns": {"start": "start", "end": "end"}, "extra_columns": "drop"},
    {"header": False, "columns": {"start": 0, "end": 1, "label": 2}},
    {"columns": {}},
]
SPLITS: list[dict[str, Any]] = [
    {"train": 0.7, "test": 0.3},
    {"from": "fold", "map": {"1": "test"}, "default": "train"},
    {"by": "speaker", "train": 0.5, "test": 0.5},
    {"balance": True, "train": 0.5, "test": 0.5},
]
LABELS: list[Any] = [
    {"from": "annotation"},
    {"from": "annotation", "drop": ["rain"], "map": {"dog": "animal", "cat": "animal", "rain": "rain", "moo": "cow"}},
    "fixed",
    {"from": "folder", "drop": ["b"]},
]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks and parts, and files that count as settled at once."""
    monkeypatch.setattr(kept_source, "_BLOCK", 2)
    monkeypatch.setattr(kept_source, "_PART", 4)
    monkeypatch.setattr(inventory, "UNSETTLED_NS", 0)


def config(root: Path, source: dict[str, Any] | None = None, **more: Any) -> Config:
    spec = {"annotations": {"sidecar": "{stem}.csv", **SPECS[0]}, "label": {"from": "annotation"}}
    plain = {
        "name": "kept", "split": SPLITS[0], "output": {"root": str(root / "out"), "shard_seconds": 5},
        "sources": [{"name": "s", "root": str(root / "in"), "bytes_per_second": 500, **spec, **(source or {})}], **more,
    }  # fmt: skip
    return Config.model_validate(plain)


def fitting(label: Any, spec: int) -> Any:
    """A label that the columns allow."""
    return label if "label" in SPECS[spec]["columns"] or LABELS.index(label) > 1 else "fixed"


def everything(plan: Plan) -> dict[str, Any]:
    names = [name for name in Plan.__dataclass_fields__ if name != "table"]
    return {"table": plan.table.to_pylist(), **{name: getattr(plan, name) for name in names}}


def outcome(made: Config, kept: KeptParts | None, **more: Any) -> dict[str, Any] | str:
    try:
        return everything(make_plan(made, more.get("retries"), more.get("forgotten"), kept=kept))
    except ClipmillError as error:
        return str(error)


def kept_at(root: Path) -> KeptParts:
    return KeptParts(Root(str(root / "out")))


def planned(root: Path, made: Config, **more: Any) -> Any:
    """Plan with what was kept, and keep what it gave, as a build does."""
    kept = kept_at(root)
    found = outcome(made, kept, **more)
    if not isinstance(found, str):
        kept.save()
        assert not kept.damaged and not kept.not_saved
    time.sleep(0.01)  # the clock of a file system is coarse
    return found


def write(root: Path, name: str, content: str | None) -> None:
    path = root / "in" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True) if content is None else path.write_text(content, newline="")


def corpus(root: Path, n: int = 12) -> None:
    for i in range(n):
        write(root, f"{'ab'[i % 2]}/r{i:02d}.wav", "x" * (100 + i))
        write(root, f"{'ab'[i % 2]}/r{i:02d}.csv", SIDECARS[i % 3])


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the sidecars that are read."""
    paths: list[str] = []
    plain = sidecars._content
    monkeypatch.setattr(sidecars, "_content", lambda root, path, n: (paths.append(path), plain(root, path, n))[1])
    return paths


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 30),
    spec=st.integers(0, 4),
    split=st.integers(0, 3),
    label=st.integers(0, 3),
)
def test_a_plan_is_the_same_with_what_was_kept(seed: int, n: int, spec: int, split: int, label: int) -> None:
    """Sidecars of many kinds; then files change, come and go, and so does the configuration."""
    rng = random.Random(seed)
    kinds = rng.sample(SIDECARS, rng.randint(1, len(SIDECARS)))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)

        def change(i: int) -> None:
            name = f"{'ab'[i % 2]}/{'r' * (1 + i % 3)}{i:02d}"
            write(root, f"{name}.wav", None if rng.random() < 0.1 else "x" * rng.randint(0, 3000))
            write(root, f"{name}.csv", rng.choice(kinds))

        for i in range(n):
            change(i)
        write(root, "a/first.wav", "x")
        (root / "in" / "a" / "link.wav").symlink_to("/etc/hostname")  # refused, with a sidecar
        write(root, "a/link.csv", rng.choice(kinds))
        chosen = {"annotations": {"sidecar": "{stem}.csv", **SPECS[spec]}, "label": fitting(LABELS[label], spec)}
        made = config(root, chosen, split=SPLITS[split])
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
                retries |= {row["item_id"]: (row["version"], 2) for row in cold["table"][2:4]} if items else {}
                forgotten = Forgotten().with_more([f"s/a/{'r' * (1 + i % 3)}{i:02d}.wav" for i in range(0, n, 4)])
            else:
                made = config(root, {**chosen, "label": fitting(rng.choice(LABELS), spec)}, split=rng.choice(SPLITS))


@pytest.mark.parametrize("content", [c for c in SIDECARS if c is not None])
@pytest.mark.parametrize("spec", SPECS)
def test_a_reading_comes_back_as_it_was(content: str, spec: dict[str, Any]) -> None:
    reading = read_content(content.encode(), Annotations.model_validate({"sidecar": "{stem}.csv", **spec}))
    assert type(reading).from_json(reading.to_json()) == reading


def test_an_unchanged_night_reads_no_sidecar_and_writes_nothing(tmp_path: Path, read: list[str]) -> None:
    corpus(tmp_path)
    first = planned(tmp_path, config(tmp_path))
    assert len(read) == 12
    before = {path: os.stat(tmp_path / "out" / path).st_mtime_ns for path in kept_files(Root(str(tmp_path / "out")))}
    assert len(before) > 3 and KEPT_LIST in before
    read.clear()
    assert planned(tmp_path, config(tmp_path)) == first and not read
    assert {p: os.stat(tmp_path / "out" / p).st_mtime_ns for p in kept_files(Root(str(tmp_path / "out")))} == before


def test_only_what_changed_is_read_and_only_its_parts_are_written(tmp_path: Path, read: list[str]) -> None:
    corpus(tmp_path, 40)
    planned(tmp_path, config(tmp_path))
    before = set(kept_files(Root(str(tmp_path / "out"))))
    read.clear()
    write(tmp_path, "b/r07.csv", SIDECARS[1])
    assert planned(tmp_path, config(tmp_path)) == outcome(config(tmp_path), None)
    assert read[0] == "b/r07.csv" and Counter(read)["b/r07.csv"] == 2 and len(read) == 41
    after = set(kept_files(Root(str(tmp_path / "out"))))
    assert len(after - before) == len(before - after) == 2, "one part of rows, one of items"


def test_another_split_reads_no_sidecar(tmp_path: Path, read: list[str]) -> None:
    corpus(tmp_path)
    planned(tmp_path, config(tmp_path))
    read.clear()
    for split in SPLITS:
        planned(tmp_path, config(tmp_path, split=split))
    assert not read
    planned(tmp_path, config(tmp_path, {"annotations": {"sidecar": "{stem}.csv", **SPECS[1]}}))
    assert len(read) == 12, "other columns, so other rows"


def test_a_change_that_hides_behind_the_old_time_and_size_is_seen(tmp_path: Path, read: list[str]) -> None:
    corpus(tmp_path)
    planned(tmp_path, config(tmp_path))
    path = tmp_path / "in" / "a" / "r00.csv"
    was = path.stat()
    path.write_text(SIDECARS[0].replace("dog", "cow"))
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert planned(tmp_path, config(tmp_path)) == outcome(config(tmp_path), None)


def test_a_file_that_was_changed_just_now_is_read_again(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "UNSETTLED_NS", 60_000_000_000)
    corpus(tmp_path)
    planned(tmp_path, config(tmp_path))
    planned(tmp_path, config(tmp_path))
    assert len(read) == 24


@pytest.mark.parametrize("harm", ["list", "part", "gone", "swapped", "empty"])
def test_what_is_damaged_is_counted_and_written_again(tmp_path: Path, harm: str, read: list[str]) -> None:
    corpus(tmp_path)
    first = planned(tmp_path, config(tmp_path))
    out = tmp_path / "out"
    parts = sorted((out / "annotations").glob("*.parquet"))
    if harm == "list":
        listed = json.loads((out / KEPT_LIST).read_text())
        listed["sections"]["rows/s"]["parts"].pop()
        (out / KEPT_LIST).write_text(json.dumps(listed))
    elif harm == "swapped":
        parts[0].write_bytes(parts[1].read_bytes())
    for path in parts if harm in ("part", "gone", "empty") else ():
        path.unlink() if harm == "gone" else path.write_bytes(
            b"" if harm == "empty" else path.read_bytes()[:-9] + b"damaged!!"
        )
    kept = kept_at(tmp_path)
    assert outcome(config(tmp_path), kept) == first
    assert kept.damaged and "annotations: " in kept.findings[0].message
    kept.save()
    assert planned(tmp_path, config(tmp_path)) == first
    assert not kept_at(tmp_path).damaged


def test_an_output_that_cannot_be_written_only_loses_what_is_kept(tmp_path: Path) -> None:
    corpus(tmp_path)
    (tmp_path / "out").write_text("a file where the folder should be")
    kept = kept_at(tmp_path)
    assert not isinstance(outcome(config(tmp_path), kept), str)
    kept.save()
    assert kept.not_saved and "reads all annotation files again" in kept.findings[-1].message


def test_gc_removes_parts_that_the_list_does_not_name(tmp_path: Path) -> None:
    corpus(tmp_path)
    planned(tmp_path, config(tmp_path))
    root = Root(str(tmp_path / "out"))
    assert not find_garbage(root).annotations
    stray = f"annotations/rows-{'0' * 64}.parquet"
    root.write_bytes(stray, b"of a build that was killed")
    root.write_bytes("annotations/notes.txt", b"somebody else's")
    assert find_garbage(root).annotations == {stray: 26}


def test_a_build_keeps_and_a_forgotten_recording_leaves_no_trace(tmp_path: Path) -> None:
    corpus(tmp_path, 0)
    for i in range(8):
        write_audio(tmp_path / "in" / f"r{i}.wav", tone(2.0, 8000, seed=i, hz=300 + 20 * i), 8000)
        write(tmp_path, f"r{i}.csv", "start,end,label\n0.2,0.9,dog\n")
    source = {"name": "s", "root": str(tmp_path / "in"), "annotations": {"sidecar": "{stem}.csv", **SPECS[0]}}
    plain = {
        "name": "kept", "split": {"train": 1}, "output": {"root": str(tmp_path / "out")}, "audio": {"sample_rate_hz": 8000},
        "sources": [{**source, "label": {"from": "annotation"}}],
    }  # fmt: skip
    root = Root(str(tmp_path / "out"))
    assert build(plain, quiet=True).status == "published"
    assert KEPT_LIST in kept_files(root) and not build(plain, quiet=True).warnings
    done = forget(root, ["s/r3.wav"])
    assert done.is_clean and not kept_files(root)
    assert not survey(root, ["s/r3.wav"]).has_work
    build(plain, quiet=True)
    rows = [pq.read_table(tmp_path / "out" / path) for path in kept_files(root) if path.endswith(".parquet")]
    assert rows and "r3." not in str([table.to_pydict() for table in rows])
    assert not survey(root, ["s/r3.wav"]).has_work, "what is kept now was made without it"


def test_a_preview_uses_what_is_kept_and_writes_nothing(tmp_path: Path, read: list[str]) -> None:
    corpus(tmp_path)
    planned(tmp_path, config(tmp_path))
    read.clear()
    (tmp_path / "in" / "a" / "r00.csv").write_text(SIDECARS[1])
    before = sorted(kept_files(Root(str(tmp_path / "out"))).items())
    preview(config(tmp_path).model_dump(mode="json", exclude_unset=True, by_alias=True))
    assert read == ["a/r00.csv"] and sorted(kept_files(Root(str(tmp_path / "out"))).items()) == before


def test_a_store_is_not_asked_for_sidecars_that_did_not_change(
    tmp_path: Path, bucket: str, endpoint: str, read: list[str]
) -> None:
    options = {"endpoint_url": endpoint}
    far = Root(f"s3://{bucket}/in", options)
    for i in range(6):
        far.write_bytes(f"r{i}.wav", b"x" * (100 + i))
        far.write_bytes(f"r{i}.csv", SIDECARS[i % 3].encode())
    made = config(tmp_path, {"root": far.url, "storage_options": options})
    first = planned(tmp_path, made)
    assert len(read) == 6
    read.clear()
    assert planned(tmp_path, made) == first and not read
    far.write_bytes("r2.csv", SIDECARS[8].encode())
    planned(tmp_path, made)
    assert read == ["r2.csv"]
    secrets = "".join(path.read_text("latin-1") for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert endpoint not in secrets, "storage_options are never written"
