"""A source's listing: every recording once, with its version; what is left out is left out for a reason."""

from __future__ import annotations

import os
import tempfile
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clipmill.pipelines.plan.inventory import Inventory, take_inventory
from clipmill.pipelines.plan.path_patterns import Patterns
from clipmill.schemas.config import Source
from clipmill.schemas.errors import ClipmillError
from clipmill.stages.storage.root import Root
from clipmill.stages.storage.versions import version_of


def inventory(root: Path | str, **more: Any) -> Inventory:
    source = Source.model_validate({"name": "s", "root": str(root), **more})
    return take_inventory(source, Root(source.root))


def paths(root: Path | str, **more: Any) -> list[str]:
    return [r.path for r in inventory(root, **more).recordings]


def refusals(root: Path, **more: Any) -> dict[str, str]:
    return {r.path: r.reason for r in inventory(root, **more).refusals}


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


@pytest.fixture(params=["local", "file", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Root:
    folder = str(tmp_path / "corpus [1] #ü")
    return Root({"local": folder, "file": f"file://{folder}", "memory": f"memory://{uuid.uuid4().hex}"}[request.param])


TREE = ["a.wav", "B.WAV", "a.txt", "x/a.flac", "x/y/b.wav", "x/y/c.Mp3", "x2/d.wav"]
ODD = [
    "[b827][---][].flac",
    "a b.wav",
    "a#b.wav",
    "ä日本.wav",
    "a*b.wav",
    "a?b.wav",
    "aXb.wav",
    "a.b.c.wav",
    "(1)+{2}$.wav",
]


@pytest.mark.parametrize(
    ("files", "include", "exclude", "expected"),
    [
        (TREE, ["**/*"], [], [t for t in TREE if t != "a.txt"]),
        (TREE, ["*"], [], [t for t in TREE if t != "a.txt"]),
        (TREE, ["x/*"], [], ["x/a.flac"]),
        (TREE, ["x/**"], [], ["x/a.flac", "x/y/b.wav", "x/y/c.Mp3"]),
        (TREE, ["x/**/*"], [], ["x/a.flac", "x/y/b.wav", "x/y/c.Mp3"]),
        (TREE, ["**/y/*"], [], ["x/y/b.wav", "x/y/c.Mp3"]),
        (TREE, ["**/x/**/b.wav"], [], ["x/y/b.wav"]),
        (TREE, ["x?/*"], [], ["x2/d.wav"]),
        (TREE, ["?.wav"], ["x/**"], ["a.wav", "B.WAV", "x2/d.wav"]),
        (TREE, ["*.mp3"], [], ["x/y/c.Mp3"]),
        (TREE, ["B.wav", "a.WAV"], [], ["a.wav", "B.WAV"]),
        (TREE, ["b.wav"], [], ["x/y/b.wav"]),  # the case of the rest does matter
        (TREE, ["*.txt"], [], ["a.txt"]),
        (TREE, ["a.*"], [], ["a.wav", "x/a.flac"]),
        (TREE, ["**/*"], ["x/**"], ["a.wav", "B.WAV", "x2/d.wav"]),
        (TREE, ["**/*"], ["a.*", "c.Mp3"], ["B.WAV", "x/y/b.wav", "x2/d.wav"]),
        (TREE, ["**/*"], ["**"], []),
        (TREE, [], [], []),
        (TREE, ["x**/d.wav"], [], ["x2/d.wav"]),
        (
            ["xd.wav", "x/d.wav"],
            ["x**/d.wav"],
            [],
            ["x/d.wav"],
        ),
        (ODD, ["**/*"], [], ODD),
        (ODD, ["[b827][---][].flac"], [], ["[b827][---][].flac"]),
        (ODD, ["[b]*"], [], []),
        (ODD, ["a?b.wav"], [], ["a b.wav", "a#b.wav", "a*b.wav", "a?b.wav", "aXb.wav"]),
        (ODD, ["(1)+{2}$.wav", "a.b.c.wav"], [], ["(1)+{2}$.wav", "a.b.c.wav"]),
        (ODD, ["**/*"], ["a*b.wav", "*日*"], ["[b827][---][].flac", "a.b.c.wav", "(1)+{2}$.wav"]),
    ],
)
def test_patterns_choose_the_same_everywhere(
    root: Root, files: list[str], include: list[str], exclude: list[str], expected: list[str]
) -> None:
    for name in files:
        root.write_bytes(name, b"x")
    assert paths(root.url, include=include, exclude=exclude) == sorted(expected)


def test_hidden_files_and_folders_are_not_looked_at(root: Root) -> None:
    for name in ("a.wav", ".a.wav", ".git/a.wav", "x/.y/a.wav", "x/.clipmill-tmp-a.wav", "x/a.b/c.wav"):
        root.write_bytes(name, b"x")
    assert paths(root.url) == ["a.wav", "x/a.b/c.wav"]


def test_a_recording_has_its_size_and_id(root: Root) -> None:
    root.write_bytes("x/a.wav", b"12345")
    (recording,) = inventory(root.url).recordings
    assert (recording.size_bytes, recording.recording_id) == (5, "s/x/a.wav")


def test_other_files_are_kept_only_where_sidecars_are_looked_up(root: Root) -> None:
    for name in ("a.wav", "x/a.csv", ".b.csv"):
        root.write_bytes(name, b"x")
    assert inventory(root.url, annotations={"sidecar": "{stem}.csv"}).other_files.keys() == {"x/a.csv"}
    assert inventory(root.url).other_files == {}


@pytest.mark.parametrize("kind", ["auto", "sha256"])
def test_a_version_changes_with_the_content(root: Root, kind: str) -> None:
    seen = set()
    for content in (b"one", b"other", b"two"):
        root.write_bytes("a.wav", content)
        (recording,) = inventory(root.url, version=kind).recordings
        assert inventory(root.url, version=kind).recordings == [recording]
        seen.add(recording.version)
    assert len(seen) == 3


@pytest.mark.parametrize("kind", ["auto", "sha256"])
def test_a_listed_version_is_the_one_that_is_found_when_reading(root: Root, kind: str) -> None:
    root.write_bytes("a.wav", b"content")
    (recording,) = inventory(root.url, version=kind).recordings
    assert version_of(root, "a.wav", kind) == recording.version


def test_a_touch_changes_the_version_unless_it_is_a_hash(tmp_path: Path) -> None:
    path = touch(tmp_path, "a.wav") / "a.wav"

    def versions() -> tuple[str, str]:
        return inventory(tmp_path).recordings[0].version, inventory(tmp_path, version="sha256").recordings[0].version

    auto, sha = versions()
    os.utime(path, ns=(1, 1))
    assert versions()[0] != auto and versions()[1] == sha
    path.write_bytes(b"A.WAV")
    os.utime(path, ns=(1, 1))
    assert versions()[1] != sha


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """Return a root beside a folder `outside`, with links of every kind."""
    root = touch(tmp_path / "root", "real.wav", "sub/real2.wav")
    touch(tmp_path / "outside", "out.wav", "dir/in.wav", "notes.txt")
    (root / "inner.wav").symlink_to("sub/real2.wav")
    (root / "outer.wav").symlink_to(tmp_path / "outside" / "out.wav")
    (root / "outer.txt").symlink_to(tmp_path / "outside" / "notes.txt")
    (root / "broken.wav").symlink_to("nowhere.wav")
    (root / "broken.txt").symlink_to("nowhere.txt")
    (root / "sub" / "up").symlink_to("..")
    (root / "again").symlink_to("sub")
    (root / "folder").symlink_to(tmp_path / "outside" / "dir")
    return root


def test_links_out_of_the_root_are_refused_by_name(linked: Path) -> None:
    assert paths(linked) == ["inner.wav", "real.wav", "sub/real2.wav"]
    assert refusals(linked) == {
        "outer.wav": "link_outside_root",
        "folder": "link_outside_root",
        "broken.wav": "recording_missing",
    }


def test_links_out_of_the_root_are_followed_on_request(linked: Path) -> None:
    assert paths(linked, follow_links=True) == ["folder/in.wav", "inner.wav", "outer.wav", "real.wav", "sub/real2.wav"]
    assert refusals(linked, follow_links=True) == {"broken.wav": "recording_missing"}


@pytest.mark.parametrize("exclude", ["folder/**", "folder"])
def test_an_excluded_link_is_no_refusal(linked: Path, exclude: str) -> None:
    assert refusals(linked, exclude=[exclude, "outer.*", "broken.*"]) == {}


@pytest.mark.parametrize("follow_links", [False, True])
@pytest.mark.parametrize("target", ["loop.wav", "loop2.wav"])
def test_a_link_to_itself_is_a_broken_link(tmp_path: Path, follow_links: bool, target: str) -> None:
    touch(tmp_path, "a.wav")
    (tmp_path / "loop.wav").symlink_to(target)
    (tmp_path / "loop2.wav").symlink_to("loop.wav")
    assert paths(tmp_path, follow_links=follow_links, exclude=["loop2.wav"]) == ["a.wav"]
    assert refusals(tmp_path, follow_links=follow_links, exclude=["loop2.wav"]) == {"loop.wav": "recording_missing"}


def test_a_link_to_a_folder_above_the_root_does_not_list_the_root_again(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "real.wav")
    touch(tmp_path, "other/o.wav")
    (root / "up").symlink_to(tmp_path)
    assert paths(root, follow_links=True) == ["real.wav", "up/other/o.wav"]


@pytest.mark.parametrize("made", [["one", "two"], ["two", "one"]])
def test_of_two_links_to_one_folder_the_listing_does_not_depend_on_their_age(tmp_path: Path, made: list[str]) -> None:

    touch(tmp_path / "outside", "o.wav")
    root = touch(tmp_path / "root", "a.wav")
    for name in made:
        (root / name).symlink_to(tmp_path / "outside")
    assert paths(root, follow_links=True) == ["a.wav", "one/o.wav"]


def test_a_root_that_is_a_link_is_a_root(tmp_path: Path) -> None:
    touch(tmp_path / "real", "a.wav", "x/b.wav")
    (tmp_path / "link").symlink_to("real")
    assert paths(tmp_path / "link") == ["a.wav", "x/b.wav"]


def test_names_that_are_no_utf8_are_refused_readably(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    try:
        (Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.wav"))).write_bytes(b"x")
        touch(Path(os.fsdecode(bytes(tmp_path) + b"/d\xff")), "b.wav", "b.txt")
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    assert paths(tmp_path) == ["a.wav"]
    assert refusals(tmp_path) == {r"caf\xe9.wav": "bad_name", r"d\xff/b.wav": "bad_name"}


def test_pipes_are_skipped(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "link.wav").symlink_to("pipe.wav")
    assert paths(tmp_path) == paths(tmp_path, version="sha256") == ["a.wav"]


def test_a_missing_root_is_an_error_not_an_empty_source(root: Root) -> None:
    with pytest.raises(ClipmillError, match=r"source 's': .* does not exist"):
        inventory(root.url)


def test_a_root_that_is_a_file_is_an_error(root: Root) -> None:
    root.write_bytes("a.wav", b"x")
    with pytest.raises(ClipmillError, match="is a file"):
        inventory(f"{root.url}/a.wav")


@pytest.mark.parametrize("pattern", ["*a" * 30 + "*c.wav", "**/a" * 20 + "/b.wav", "*?" * 40 + "b.wav"])
def test_a_pattern_of_many_stars_is_answered(pattern: str) -> None:
    assert not Patterns([pattern], []).match("a/" * 60 + "a" * 100 + "d.wav")


def test_real_names_with_brackets_are_found(corpora: Path) -> None:
    root = corpora / "soundata/tests/resources/sound_datasets/singapura"
    name = "[b827ebf3744c][2020-08-19T22-46-04Z][manual][---][4edbade2d41d5f80e324ee4f10d401c0][]-135.flac"
    assert paths(root) == paths(root, include=[name]) == [f"labelled/2020-08-19/{name}"]


NAMES = (
    st.text(
        st.characters(codec="utf-8", exclude_characters="/\0") | st.sampled_from("[]{}*?!#%^$().+|\\ ~"), min_size=1
    )
    .filter(lambda name: not name.startswith(".") and len(name.encode()) < 250)
    .map(lambda name: name + ".wav")
)


@settings(max_examples=100, deadline=None)
@given(NAMES)
@example("\u0f69.wav")  # which NFC spells in two code points
def test_any_valid_name_is_listed_and_stands_for_itself(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        touch(Path(folder), f"x/{name}", "x/other.flac")
        assert paths(folder, include=["*.wav"]) == [f"x/{name}"]
        if not set(name) & set("*?"):
            assert paths(folder, include=[name]) == paths(folder, include=[f"x/{name}"]) == [f"x/{name}"]
            assert paths(folder, exclude=[name]) == ["x/other.flac"]


@given(NAMES, NAMES)
def test_a_name_without_stars_matches_no_other_name(name: str, other: str) -> None:
    if not set(name) & set("*?"):
        assert Patterns([name], []).match(other) == (name == other)
