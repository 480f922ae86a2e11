"""Files of a source that are not listed are counted by extension, and told; any of them can be taken by name or without one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import tone, write_audio
from hypothesis import given
from hypothesis import strategies as st

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.plan.inventory import NO_EXTENSION, OTHERS, Inventory, passed_over_text, take_inventory
from clipmill.schemas.config import AUDIO_EXTENSIONS, Source
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")


def inventory(root: Path, **more: Any) -> Inventory:
    source = Source.model_validate({"name": "s", "root": str(root), **more})
    return take_inventory(source, Root(source.root))


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


TREE = [
    "a.wav",
    "x/b.FLAC",
    "x/c.xyz",
    "d.XYZ",
    "README",
    "x/e.txt",
    "out/f.txt",
    ".hidden.xyz",
    ".git/g.xyz",
    "h.v1 - copy",
]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, {".xyz": 2, ".txt": 2, NO_EXTENSION: 1, OTHERS: 1}),
        ({"include": ["*"]}, {".xyz": 2, ".txt": 2, NO_EXTENSION: 1, OTHERS: 1}),
        ({"include": ["x/*"]}, {".xyz": 1, ".txt": 1}),
        ({"include": ["*.wav"]}, {}),  # whoever names an extension has chosen
        ({"include": ["*.wav", "x/*"]}, {".xyz": 1, ".txt": 1}),
        ({"include": ["**/*", "*.xyz"]}, {".txt": 2, NO_EXTENSION: 1, OTHERS: 1}),
        ({"exclude": ["out/**", "README", "*.v1 - copy"]}, {".xyz": 2, ".txt": 1}),
        ({"any_name": True}, {}),
        ({"any_name": True, "exclude": ["*.txt"]}, {}),
    ],
)
def test_what_is_no_recording_by_its_name_alone_is_counted(
    more: dict[str, Any], expected: dict[str, int], tmp_path: Path
) -> None:
    assert inventory(touch(tmp_path, *TREE), **more).passed_over == expected


def test_annotations_are_neither_passed_over_nor_recordings(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "a.wav",
        "b",
        "x/c",
        "x/labels/c.csv",
        "labels/a.csv",
        "labels/b.csv",
        "a.csv",
        "table.csv",
        "x/table.csv",
    )
    sidecar = {"annotations": {"sidecar": "labels/{stem}.csv"}}
    found = inventory(tmp_path, **sidecar)
    assert found.passed_over == {NO_EXTENSION: 2, ".csv": 3}
    every = inventory(tmp_path, any_name=True, **sidecar)
    assert [r.path for r in every.recordings] == ["a.csv", "a.wav", "b", "table.csv", "x/c", "x/table.csv"]
    assert every.other_files.keys() == {"labels/a.csv", "labels/b.csv", "x/labels/c.csv"}
    table = {"annotations": {"table": "./table.csv", "recording": "name"}}
    assert inventory(tmp_path, **table).passed_over == {NO_EXTENSION: 2, ".csv": 5}
    assert "table.csv" not in [r.path for r in inventory(tmp_path, any_name=True, **table).recordings]


def test_extensions_without_end_do_not_fill_memory(tmp_path: Path) -> None:
    touch(tmp_path, *(f"take.{i:06d}" for i in range(1200)), "a.wav")
    found = inventory(tmp_path).passed_over
    assert len(found) <= 1001
    assert sum(found.values()) == 1200


@given(
    st.dictionaries(
        st.sampled_from([NO_EXTENSION, OTHERS, *(f".{c}" for c in "abcdefghijklmno")]),
        st.integers(1, 10_000),
        min_size=1,
    )
)
def test_the_sentence_has_every_file(counts: dict[str, int]) -> None:
    head, _, tail = passed_over_text(counts).partition(": ")
    parts = [(name, int(n.replace(",", ""))) for name, n in (part.split(" ") for part in tail.split(", "))]
    assert sum(n for _, n in parts) == sum(counts.values()) == int(head.split()[0].replace(",", ""))
    named = [n for name, n in parts if name != OTHERS]
    assert named == sorted(named, reverse=True)
    assert len(named) <= 9
    others, hidden = dict(parts).get(OTHERS, 0), counts.keys() - dict(parts).keys()
    assert others == sum(counts[name] for name in hidden) + counts.get(OTHERS, 0)
    assert len(hidden) != 1, "a single extension is told by its name"
    assert all(counts[name] == n for name, n in parts if name != OTHERS)


def test_it_is_told_by_plan_and_build(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    write_audio(tmp_path / "in/good.wav", tone(1.0, 8000), 8000)
    write_audio(tmp_path / "other/good.wav", tone(1.0, 8000, seed=1), 8000)
    touch(tmp_path / "in", "0", "a.m4x", "b.m4x", "c.m4x", "d.spy", "e.spy")
    config = make_config([{"root": tmp_path / "in"}, {"root": tmp_path / "other"}])
    line = "passed over  s0: 6 files are not audio by name: .m4x 3, .spy 2, none 1"
    counts = [(".m4x", 3), (".spy", 2), (NO_EXTENSION, 1)]
    for command in ("plan", "build", "build"):  # the second build has nothing to do, and says it all the same
        done = CliRunner().invoke(main, [command, str(config)])
        assert done.exit_code == 0, done.output
        assert [text for text in done.output.splitlines() if "passed over" in text] == [line]
        told = json.loads(CliRunner().invoke(main, [command, str(config), "--json"]).output)["passed_over"]
        assert list(told) == ["s0"] and list(told["s0"].items()) == counts


def test_a_source_of_nothing_else_says_what_is_there(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    touch(tmp_path / "in", "a", "b", "c.xyz")
    done = CliRunner().invoke(main, ["plan", str(make_config({"root": tmp_path / "in"}))])
    assert done.exit_code == 1
    assert "matches include and exclude; 3 files are not audio by name: none 2, .xyz 1" in done.output
    assert "; name the extension in include; files without a header need `raw`" in done.output


def test_any_name_takes_audio_without_an_extension(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    for name in ("one", "two.take3", "x/three"):
        path = write_audio(tmp_path / "in" / f"{name}.wav", tone(1.0, 8000), 8000)
        path.rename(tmp_path / "in" / name)
    touch(tmp_path / "in", ".DS_Store", "x/README")
    source = {"root": tmp_path / "in", "include": ["**/*"], "any_name": True}
    done = CliRunner().invoke(main, ["build", str(make_config(source, limits={"max_rejected_share": 0.5}))])
    assert done.exit_code == 0, done.output
    assert "4 listed = 3 used + 1 rejected" in done.output


def test_the_documentation_lists_the_known_extensions() -> None:
    text = (Path(__file__).parent.parent / "docs" / "configuration.md").read_text(encoding="utf-8")
    known = ", ".join(f"`.{extension}`" for extension in sorted(AUDIO_EXTENSIONS))
    assert f"Known extensions, in any case: {known}." in " ".join(text.split())


def test_containers_that_people_use_are_known_and_none_twice() -> None:
    asked = "mp1 m4b spx asf ogv oggflac 3g2 wv tta ac3 eac3 ape mpc ts webm w64".split()
    assert set(asked) <= set(AUDIO_EXTENSIONS)
    assert len(set(AUDIO_EXTENSIONS)) == len(AUDIO_EXTENSIONS)
    assert all(extension == extension.lower() for extension in AUDIO_EXTENSIONS)
