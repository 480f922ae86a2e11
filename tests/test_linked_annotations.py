"""Annotations that are links, or lie behind links: read where links are followed, and told where they are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import run, tone, write_audio

from clipmill.pipelines.plan.listing import list_source
from clipmill.pipelines.plan.planning import make_plan
from clipmill.schemas.config import Config, Source
from clipmill.schemas.errors import ConfigError

TABLE = "name,start,end,label\na.wav,0,0.5,dog\nb.wav,0,0.5,cat\n"
SIDECAR = "start,end,label\n0,0.5,dog\n"
COLUMNS = {"start": "start", "end": "end", "label": "label"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root with two recordings, beside a folder `outside` with annotations of both kinds."""
    for name in "ab":
        write_audio(tmp_path / f"root/{name}.wav", tone(1.0, 8000), 8000)
    (tmp_path / "outside/deep").mkdir(parents=True)
    (tmp_path / "outside/table.csv").write_text(TABLE)
    for name in "ab":
        (tmp_path / f"outside/{name}.csv").write_text(SIDECAR)
    return tmp_path / "root"


def planned(root: Path, follow_links: bool, annotations: dict[str, Any], **more: Any) -> Any:
    source = {"name": "s", "root": str(root), "follow_links": follow_links, "annotations": annotations, **more}
    config = {
        "name": "t",
        "sources": [{**source, "segment": {"mode": "annotation"}}],
        "output": {"root": f"{root}-out"},
    }
    return make_plan(Config.model_validate(config))


def with_table(root: Path, follow_links: bool, table: str = "table.csv") -> int:
    return int(planned(root, follow_links, {"table": table, "recording": "name", "columns": COLUMNS}).annotations_read)


def with_sidecars(
    root: Path, follow_links: bool, sidecar: str = "{stem}.csv", **more: Any
) -> tuple[int, dict[str, Any]]:
    """Return how many rows were read, and what was rejected."""
    plan = planned(root, follow_links, {"sidecar": sidecar, "columns": COLUMNS}, **more)
    rejected = {row["recording_id"]: (row["reason"], row["detail"]) for row in plan.rejections}
    return plan.annotations_read, rejected


def link_table(root: Path, how: str) -> tuple[str, str]:
    """Link the table into the root; return its path there and the link by which it leads out."""
    outside = root.parent / "outside"
    if how == "file":
        (root / "table.csv").symlink_to(outside / "table.csv")
    elif how == "relative":
        (root / "table.csv").symlink_to("../outside/table.csv")
    elif how == "chain":
        (root / "table.csv").symlink_to("second.csv")
        (root / "second.csv").symlink_to("sub/third.csv")
        (root / "sub").mkdir()
        (root / "sub/third.csv").symlink_to(outside / "table.csv")
    elif how == "folder":
        (root / "meta").symlink_to(outside)
        return "meta/table.csv", "meta"
    else:
        (root / "one").mkdir()
        (root / "one/two").symlink_to(root / "three")
        (root / "three").symlink_to(outside)
        return "one/two/table.csv", "one/two"
    return "table.csv", "table.csv"


@pytest.mark.parametrize("how", ["file", "relative", "chain", "folder", "chain of folders"])
def test_a_table_behind_a_link_out_of_the_root(how: str, root: Path) -> None:
    table, link = link_table(root, how)
    with pytest.raises(ConfigError) as raised:
        with_table(root, False, table)
    said = str(raised.value)
    target = root.parent / "outside" / ("table.csv" if link == table else "")
    assert (
        f"{table} is {'a link' if link == table else f'reached by {link}, a link'} to {str(target).rstrip('/')}, "
        in said
    )
    assert f"which is outside {root}: set follow_links: true for this source" in said
    assert "sources.s.annotations.table" in said
    assert with_table(root, True, table) == 2


@pytest.mark.parametrize("follow_links", [False, True])
def test_a_table_behind_a_link_inside_the_root_is_read(follow_links: bool, root: Path) -> None:
    (root / "sub").mkdir()
    (root / "sub/table.csv").write_text(TABLE)
    (root / "table.csv").symlink_to("sub/table.csv")
    (root / "again").symlink_to("sub")
    assert with_table(root, follow_links) == with_table(root, follow_links, "again/table.csv") == 2


@pytest.mark.parametrize("follow_links", [False, True])
def test_a_table_that_is_a_broken_link_or_a_loop(
    follow_links: bool, root: Path, make_config: Callable[..., Path]
) -> None:
    (root / "table.csv").symlink_to("nowhere.csv")
    with pytest.raises(ConfigError, match=r"table\.csv does not exist"):
        with_table(root, follow_links)
    (root / "nowhere.csv").symlink_to("table.csv")
    source = {"root": root, "follow_links": follow_links, "annotations": {"table": "table.csv", "recording": "name"}}
    assert "loop" in run("plan", make_config(source), code=1)


def test_a_root_that_is_a_link_has_its_table_inside(root: Path, tmp_path: Path) -> None:
    (root / "table.csv").write_text(TABLE)
    (tmp_path / "entry").symlink_to("root")
    assert with_table(tmp_path / "entry", False) == 2


@pytest.mark.parametrize("how", ["file", "chain"])
def test_a_sidecar_behind_a_link_out_of_the_root(how: str, root: Path) -> None:
    outside = root.parent / "outside"
    (root / "a.csv").write_text(SIDECAR)
    (root / "b.csv").symlink_to(outside / "b.csv" if how == "file" else "next.txt")
    if how == "chain":
        (root / "next.txt").symlink_to("../outside/b.csv")
    assert with_sidecars(root, False) == (
        1,
        {"s/b.wav": ("link_outside_root", "b.csv: a link to a file outside the root")},
    )
    assert with_sidecars(root, True) == (2, {})


def test_recordings_and_sidecars_that_are_links_are_rejected_once(root: Path) -> None:
    outside = root.parent / "outside"
    (root / "a.wav").rename(outside / "a.wav")
    (root / "a.wav").symlink_to(outside / "a.wav")
    for name in "ab":
        (root / f"{name}.csv").symlink_to(outside / f"{name}.csv")
    n, rejected = with_sidecars(root, False)
    assert n == 0
    assert rejected == {
        "s/a.wav": ("link_outside_root", "a link to a file outside the root"),
        "s/b.wav": ("link_outside_root", "b.csv: a link to a file outside the root"),
    }
    assert with_sidecars(root, True) == (2, {})


@pytest.mark.parametrize("more", [{}, {"include": ["*.wav"]}, {"include": ["rec/*.wav"]}, {"exclude": ["rec/ann"]}])
def test_a_folder_of_sidecars_behind_a_link(more: dict[str, Any], root: Path) -> None:
    outside = root.parent / "outside"
    (root / "rec").mkdir()
    for name in "ab":
        (root / f"{name}.wav").rename(root / f"rec/{name}.wav")
    write_audio(outside / "c.wav", tone(1.0, 8000), 8000)
    (outside / "b.csv").rename(outside / "deep/b.csv")
    (outside / "deep/loop").symlink_to(outside)
    (root / "rec/ann").symlink_to(outside)
    n, rejected = with_sidecars(root, False, "ann/{stem}.csv", **more)
    assert n == 0
    assert rejected.pop("s/rec/a.wav") == (
        "link_outside_root",
        "rec/ann/a.csv: rec/ann is a link to a folder outside the root",
    )
    assert set(rejected) <= {"s/rec/ann"}, "which has recordings that are wanted; b has no sidecar"
    n, rejected = with_sidecars(root, True, "ann/{stem}.csv", **more)
    assert (n, rejected) == (1, {})
    source = {
        "name": "s",
        "root": str(root),
        "follow_links": True,
        "annotations": {"sidecar": "ann/{stem}.csv"},
        **more,
    }
    listed = [r.path for r in list_source(Source.model_validate(source)).inventory.recordings]
    assert listed == ["rec/a.wav", *(["rec/ann/c.wav"] if more in ({}, {"include": ["*.wav"]}) else []), "rec/b.wav"]


def test_a_folder_for_sidecars_takes_no_recording_from_another_link(root: Path) -> None:
    outside = root.parent / "outside"
    write_audio(outside / "c.wav", tone(1.0, 8000), 8000)
    (root / "ann").symlink_to(outside)
    (root / "more").symlink_to(outside)
    source = {"name": "s", "root": str(root), "follow_links": True, "include": ["*.wav"], "exclude": ["ann"]}
    listed = list_source(Source.model_validate({**source, "annotations": {"sidecar": "ann/{stem}.csv"}}))
    assert [r.path for r in listed.inventory.recordings] == ["a.wav", "b.wav", "more/c.wav"]
    assert {"ann/a.csv", "ann/b.csv"} <= listed.inventory.other_files.keys()


@pytest.mark.parametrize("follow_links", [False, True])
def test_a_sidecar_behind_a_link_inside_the_root_is_read(follow_links: bool, root: Path) -> None:
    (root / "sub").mkdir()
    (root / "sub/x.csv").write_text(SIDECAR)
    (root / "a.csv").symlink_to("sub/x.csv")
    (root / "b.csv").symlink_to("a.csv")
    assert with_sidecars(root, follow_links) == (2, {})


@pytest.mark.parametrize("follow_links", [False, True])
@pytest.mark.parametrize("target", ["nowhere.csv", "b.csv", "loop.csv"])
def test_a_sidecar_that_is_a_broken_link_or_a_loop_is_told(target: str, follow_links: bool, root: Path) -> None:
    (root / "a.csv").write_text(SIDECAR)
    (root / "b.csv").symlink_to(target)
    (root / "loop.csv").symlink_to("b.csv")
    assert with_sidecars(root, follow_links) == (
        1,
        {"s/b.wav": ("annotation_unreadable", "b.csv: a link that leads nowhere")},
    )


def test_a_link_is_found_in_whatever_form_its_name_is_written(root: Path) -> None:
    (root / "a.csv").write_text(SIDECAR)
    (root / "b.wav").rename(root / "bé.wav")
    (root / "bé.csv").symlink_to(root.parent / "outside/b.csv")
    n, rejected = with_sidecars(root, False)
    assert (n, [reason for reason, _ in rejected.values()]) == (1, ["link_outside_root"])
    assert with_sidecars(root, True) == (2, {})


def test_a_build_counts_and_tells_them(root: Path, make_config: Callable[..., Path]) -> None:
    (root / "a.csv").write_text(SIDECAR)
    (root / "b.csv").symlink_to(root.parent / "outside/b.csv")
    source = {"root": root, "annotations": {"sidecar": "{stem}.csv", "columns": COLUMNS}}
    config = make_config(source, limits={"max_rejected_share": 1})
    assert "link_outside_root" in run("build", config)
    out = root.parent / "out"
    said = run("failures", out)
    assert "1 x link_outside_root" in said
    assert "follow_links: true" in said
