"""What init writes is read again as what was meant, whatever names and comments contain."""

from __future__ import annotations

import unicodedata
from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clipmill.pipelines.config_file import loads
from clipmill.pipelines.proposals.commented_yaml import Instead, Part, flow, plain, write

# What a name of a file can hold: anything but NUL, and no halves of characters.
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=30)
ODD = st.sampled_from(
    ["", "no", "1:30", "01", "1e3", "~", "null", "a: b", "a #b", "- a", "'", '"', "\\", "{x}", "[x]", "*a", "&a", "!a", "%a", "@a",
     "`a", "a\nb", "\u2028", "\x85", "\ufeff", "\x07", "😀", "?", ": ", " a ", "a,b", "2024-01-01", "<<", "=", ".5", "0x1f", "| "]
)  # fmt: skip
SCALARS = NAMES | ODD | st.integers(-(10**9), 10**9) | st.booleans() | st.none() | st.floats(-1e9, 1e9)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | ODD, inner, max_size=3), max_leaves=8
)


@st.composite
def parts(draw: st.DrawFn, depth: int = 1) -> list[Part]:
    """Draw parts with different keys, some of which are maps of parts, or lists of these."""
    keys = draw(st.lists(NAMES | ODD, min_size=1, max_size=3, unique=True))
    drawn = []
    for key in keys:
        value: Any = draw(VALUES)
        if depth and draw(st.booleans()):
            value = draw(parts(depth=depth - 1))
        elif depth and draw(st.booleans()):
            value = [draw(parts(depth=depth - 1)) for _ in range(draw(st.integers(1, 2)))]
        because, instead = draw(st.lists(NAMES | ODD, max_size=2)), draw(st.lists(VALUES, max_size=2))
        drawn.append(Part(key, value, because, [Instead(draw(NAMES), other) for other in instead]))
    return drawn


@settings(max_examples=60, deadline=None)
@given(parts(), st.lists(NAMES | ODD, max_size=3))
def test_parts_are_read_again_as_what_they_are(drawn: list[Part], above: list[str]) -> None:
    assert yaml.safe_load(write(drawn, above)) == as_yaml_reads(plain(drawn))


def as_yaml_reads(value: Any) -> Any:
    """Return data with `${` as it is written; the configuration's own reader fills it in again."""
    if isinstance(value, dict):
        return {key: as_yaml_reads(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_yaml_reads(each) for each in value]
    return yaml.safe_load(flow(value)) if isinstance(value, str) and "${" in value else value


@settings(max_examples=100, deadline=None)
@given(NAMES | ODD.filter(bool), NAMES, NAMES)
@example("${HOME}", "${x:-y}", "a${b")
@example("a\nb", "\u2028", "\x1b[2J")
def test_names_of_a_corpus_reach_the_configuration(folder: str, table: str, label: str) -> None:
    root = "/data/" + folder.replace("://", "")
    annotations = [
        Part("table", f"t{table}".replace("://", "").replace("..", "")), Part("recording", table), Part("columns", {"label": label}, [label]),
    ]  # fmt: skip
    source = [
        Part("name", "s", [folder, table]),
        Part("root", root),
        Part("annotations", annotations),
        Part("label", {"from": "annotation"}),
    ]
    drawn = [
        Part("name", "d"),
        Part("sources", [source]),
        Part("output", {"root": "out"}, [label], [Instead(label, {"root": folder})]),
    ]
    config = loads(write(drawn, [folder, label]), environ={}).config
    (read,) = config.sources
    assert read.root == root
    assert read.annotations is not None
    assert nfc(read.annotations.table) == nfc(annotations[0].value)
    assert nfc(read.annotations.recording) == nfc(table)
    assert nfc(read.annotations.columns["label"]) == nfc(label)


def nfc(text: object) -> str:
    return unicodedata.normalize("NFC", str(text))
