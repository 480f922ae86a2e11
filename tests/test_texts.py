"""Texts of clips: where they come from, each rule, their order, and what a plan tells of them."""

from __future__ import annotations

import json
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from conftest import run, tone, write_audio
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import clipmill
from clipmill.pipelines.config_file import loads
from clipmill.pipelines.dataset.kept_parts import KeptParts
from clipmill.pipelines.plan import inventory, transcripts
from clipmill.pipelines.plan.planning import Plan, make_plan
from clipmill.pipelines.plan.refused import RefusedError
from clipmill.pipelines.plan.transcripts import TextRule
from clipmill.schemas.config.text_config import Text
from clipmill.schemas.errors import ConfigError
from clipmill.stages.storage.root import Root

RATE = 8000
KSPON = "b/ 아 (70%)/(칠십 퍼센트) 확률이라니 n/ 그/ 게+ 뭐야* o/"


def text(given: str, **rules: Any) -> str:
    return TextRule(Text.model_validate(rules), "sources.s.text").apply(given)


# Texts in which each rule finds something: marks that compose, cases without a partner, white space of all kinds.
ODD = st.text(
    st.one_of(st.sampled_from("aÄßİıſŉΣς(70%)/b+*’ \t\r\n\x1c\x85\u00a0\u2028\u3000\u0301\u0308\u0327각ﬁＡ㎏½…\u0345"), st.characters(codec="utf-8")),
    max_size=40,
)  # fmt: skip
FORMS = st.sampled_from(["nfc", "nfd", "nfkc", "nfkd", "none"])
SWITCHES = st.fixed_dictionaries(
    {"normalise": FORMS, "strip": st.booleans(), "collapse_spaces": st.booleans()},
    optional={"case": st.sampled_from(["lower", "upper"])},
)


def switched(rules: dict[str, Any]) -> dict[str, Any]:
    case = rules.pop("case", None)
    return rules | ({case: True} if case else {})


@given(ODD, SWITCHES)
def test_rules_without_patterns_change_nothing_the_second_time(given_text: str, rules: dict[str, Any]) -> None:
    rules = switched(dict(rules))
    once = text(given_text, **rules)
    assert text(once, **rules) == once
    if rules["normalise"] != "none":
        assert unicodedata.is_normalized(rules["normalise"].upper(), once)
    if rules["strip"]:
        assert once == once.strip()
    if rules["collapse_spaces"]:
        assert "  " not in once and all(c == " " or not c.isspace() for c in once)


@given(ODD, FORMS, st.sampled_from([["[.,!?…]"], [r"\b[bnolu]/", "[+*]"], [r"\s"]]))
def test_what_is_removed_is_not_there_afterwards(given_text: str, form: str, patterns: list[str]) -> None:
    import regex

    once = text(given_text, normalise=form, remove=patterns, strip=False, collapse_spaces=False)
    expected = given_text if form == "none" else unicodedata.normalize(form.upper(), given_text)
    for pattern in patterns:
        expected = regex.sub(pattern, "", expected)
    assert once == (expected if form == "none" else unicodedata.normalize(form.upper(), expected))


@given(ODD, st.dictionaries(st.text("ab’é\u0301", min_size=1, max_size=2), st.text("abc", max_size=3), max_size=3))
def test_all_replacements_are_made_at_once(given_text: str, replace: dict[str, str]) -> None:
    expected, at = "", 0
    while at < len(given_text):
        old = next((o for o in sorted(replace, key=len, reverse=True) if given_text.startswith(o, at)), None)
        expected += given_text[at] if old is None else replace[old]
        at += 1 if old is None else len(old)
    assert text(given_text, normalise="none", replace=replace, strip=False, collapse_spaces=False) == expected


@pytest.mark.parametrize(
    ("given_text", "rules", "expected"),
    [
        ("  Ein\u2028 e\u0301t\tA ", {}, "Ein ét A"),
        (" a  b ", {"strip": False}, " a b "),
        (" a  b ", {"collapse_spaces": False}, "a  b"),
        ("Ｎｏ½ ﬁ", {"normalise": "nfkc", "lower": True}, "no1⁄2 fi"),
        ("straße", {"upper": True}, "STRASSE"),
        ("é", {"normalise": "nfd", "remove": r"\p{M}"}, "e"),
        ("é", {"normalise": "nfd", "replace": {"é": "x"}}, "x"),
        ("it’s “so”", {"replace": {"’": "'", "“": "", "”": ""}}, "it's so"),
        ("ab", {"replace": {"a": "b", "b": "a"}}, "ba"),
        ("abc", {"replace": {"a": "1", "ab": "2"}}, "2c"),
        ("ex\u0301", {"remove": "x"}, "\u00e9"),
        ("5 kg, 7kg", {"rewrite": [{"pattern": r"(\d+) ?kg", "with": r"\1 kilograms"}]}, "5 kilograms, 7 kilograms"),
        (KSPON, {"dual": {"use": 1}, "remove": [r"\b[bnolu]/", "[+*/]"]}, "아 70% 확률이라니 그 게 뭐야"),
        (KSPON, {"dual": {"use": 2}, "remove": [r"\b[bnolu]/", "[+*/]"]}, "아 칠십 퍼센트 확률이라니 그 게 뭐야"),
        ("(a)/(b)/(c)", {"dual": {"pattern": r"\((\w)\)/\((\w)\)/\((\w)\)", "use": 3}}, "c"),
        ("<a|b>", {"dual": {"pattern": "<([^|]*)[|]([^>]*)>", "use": 2}}, "b"),
        ("Hello, World!", {"remove": "[.,!?]", "lower": True}, "hello world"),
    ],
)  # fmt: skip
def test_rules(given_text: str, rules: dict[str, Any], expected: str) -> None:
    assert text(given_text, **rules) == expected


def test_rules_are_applied_in_the_order_of_the_documentation() -> None:
    """Each rule works on what the one before it leaves."""
    rules = {
        "normalise": "nfkc",
        "dual": {"pattern": "(a)~(b)", "use": 2},
        "remove": "!",
        "rewrite": [{"pattern": "b", "with": "cc"}, {"pattern": "cc", "with": "R"}],
        "replace": {"R": " Q "},
        "lower": True,
    }
    assert text("ａ!~b", **rules) == "a~ q", "dual comes before remove, so it does not match here"
    assert text("ａ~b!", **rules) == "q"
    page = (Path(__file__).parents[1] / "docs/configuration.md").read_text()
    section = page[page.index("### text") :]
    keys = [line.split("`")[1] for line in section[: section.index("\n\n**")].splitlines() if line.startswith("| `")]
    assert keys == [field.alias or name for name, field in Text.model_fields.items()]


def test_keys_without_a_value_mean_yes() -> None:
    written = loads("""
name: t
sources: [{name: s, root: /in, text: {normalise: nfc, strip, lower, keep_raw}}]
output: {root: /out}
""")
    spec = written.config.sources[0].text
    assert spec is not None and (spec.strip, spec.lower, spec.keep_raw, spec.upper) == (True, True, True, False)


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"remove": "[a"}, r"sources\[0\].text.remove: '\[a' is not a regular expression: unterminated"),
        ({"dual": {"pattern": "(a", "use": 1}}, r"sources\[0\].text.dual: '\(a' is not a regular expression"),
        ({"dual": {"use": 3}}, r"sources\[0\].text.dual: use: 3 is not a group of the pattern, which has 2"),
        ({"dual": {}}, r"sources\[0\].text.dual.use: is missing"),
        ({"rewrite": [{"pattern": "(a)", "with": r"\2"}]}, r"sources\[0\].text.rewrite\[0\]: with: .* which has 1 groups?: invalid group"),
        ({"rewrite": [{"pattern": "(?P<x>a)", "with": r"\g<y>"}]}, r"does not fit the pattern"),
        ({"rewrite": [{"pattern": "a", "with": "b" * 101}]}, r"sources\[0\].text.rewrite\[0\].with: .*100 characters"),
        ({"replace": {"": "x"}}, r"sources\[0\].text.replace: an empty text stands everywhere"),
        ({"lower": True, "upper": True}, r"sources\[0\].text: `lower` and `upper` exclude each other"),
        ({"normalize": "nfc"}, r"sources\[0\].text.normalize: unknown key; did you mean 'normalise'\?"),
        ({"normalise": "nfx"}, r"sources\[0\].text.normalise: expected 'nfc'"),
        ({"from": "label"}, r"text.from: label is the label of annotation rows, so it needs `annotations`"),
    ],
)  # fmt: skip
def test_wrong_rules_name_their_key(rules: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        clipmill.load_config(
            {"name": "t", "sources": [{"name": "s", "root": "/in", "text": rules}], "output": {"root": "/out"}}
        )


def test_a_pattern_with_all_of_its_groups_named_takes_references() -> None:
    rules = {
        "rewrite": [{"pattern": "(?P<year>[0-9]{4})-(?P<month>[0-9]+)-([0-9]+)", "with": r"\3.\g<month>.\g<year>"}]
    }
    assert text("2024-5-17", **rules) == "17.5.2024"
    with pytest.raises(ValidationError):
        Text.model_validate({"rewrite": [{"pattern": "a", "with": "\\"}]})


def test_a_pattern_that_takes_too_long_is_an_error_of_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcripts, "_REGEX_TIMEOUT_S", 0.05)
    slow = r"(x+x+)+y"
    for rules, key in (
        ({"remove": ["a", slow]}, "remove"),
        ({"dual": {"pattern": slow, "use": 1}}, "dual.pattern"),
        ({"rewrite": [{"pattern": slow, "with": ""}]}, r"rewrite\[0\].pattern"),
    ):
        with pytest.raises(
            ConfigError, match=rf"sources.s.text.{key}: the regular expression .* takes longer than 0.05 s"
        ):
            text("x" * 5000, **rules)


def test_a_text_is_bounded_before_and_after_each_rule() -> None:
    with pytest.raises(RefusedError, match="it has 200,001 characters; at most 200,000 are read"):
        text("x" * 200_001)
    grow = [{"pattern": "x", "with": "x" * 100}] * 50
    with pytest.raises(RefusedError, match=r"after text.rewrite\[2\].pattern it has 1,000,000"):
        text("x", rewrite=grow)
    with pytest.raises(RefusedError, match=r"after text.replace it has"):
        text("x" * 3000, replace={"x": "y" * 100})


ROWS = [
    ("a.wav", "0", "0.5", "Hello,  World", "x"),
    ("a.wav", "0.5", "1", "...", "y"),
    ("b.wav", "0", "0.5", "(1)/(one) b/ thing", "x"),
    ("b.wav", "0.5", "x", "not a number", "y"),
]  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    for name in ("a", "b"):
        write_audio(folder / f"{name}.wav", tone(1.0, RATE), RATE)
    table = "".join("|".join(row) + "\n" for row in (("file", "start", "end", "words", "who"), *ROWS))
    (folder / "t.csv").write_text(table)
    return folder


def configured(corpus: Path, text_rules: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    annotations = {
        "table": "t.csv",
        "recording": "file",
        "delimiter": "|",
        "columns": {"start": "start", "end": "end", **more.pop("columns", {})},
        "fields": more.pop("fields", {}),
    }
    source = {"name": "s", "root": str(corpus), "annotations": annotations, "segment": {"mode": "annotation"}}
    if text_rules is not None:
        source["text"] = text_rules
    source |= more.pop("source", {})
    return {"name": "t", "sources": [source], "audio": {"sample_rate_hz": RATE}, "output": {"root": "/out"}, **more}


def planned(*args: Any, **more: Any) -> Plan:
    return make_plan(clipmill.load_config(configured(*args, **more)).config)


def fields_of(plan: Plan) -> dict[int, dict[str, str | None]]:
    """Return the fields of each row by its line."""
    rows = [row for rows in plan.table["annotations"].to_pylist() for row in rows]
    return {row["line"]: dict(zip(plan.field_names, row["fields"], strict=True)) for row in rows}


def test_a_row_gets_its_text_from_a_field(corpus: Path) -> None:
    rules = {"from": "words", "dual": {"use": 2}, "remove": [r"\b[bn]/", "[.,]"], "lower": True, "keep_raw": True}
    plan = planned(corpus, rules)
    found = fields_of(plan)
    assert plan.field_names == ["text", "text_raw", "who", "words"]
    assert {line: (f["text"], f["text_raw"]) for line, f in found.items()} == {
        2: ("hello world", "Hello,  World"),
        3: ("", "..."),
        4: ("one thing", "(1)/(one) b/ thing"),
        5: (None, None),
    }, "a row that is rejected is left as it is"
    assert all(found[line]["words"] == ROWS[line - 2][3] for line in found)
    assert plan.noted["texts_empty"] == 1 and not plan.noted["texts_missing"]


def test_a_field_text_is_made_uniform_in_place(corpus: Path) -> None:
    plan = planned(corpus, {"upper": True}, fields={"text": "words"})
    assert fields_of(plan)[2]["text"] == "HELLO, WORLD"


def test_a_text_can_be_the_rows_label_or_a_part_of_the_path(corpus: Path) -> None:
    by_label = planned(corpus, {"from": "label", "lower": True}, columns={"label": "words"})
    assert fields_of(by_label)[2]["text"] == "hello, world"
    labels = {row["line"]: row["label"] for rows in by_label.table["annotations"].to_pylist() for row in rows}
    assert labels[2] == "Hello,  World", "the label stays"
    source = {"annotations": None, "segment": {"mode": "whole"}, "fields": r"(?P<said>\w+)\.wav", "include": ["*.wav"]}
    by_path = planned(corpus, {"from": "said", "upper": True}, source=source)
    assert by_path.field_names == ["said", "text"]
    assert sorted(map(tuple, by_path.table["fields"].to_pylist())) == [("a", "A"), ("b", "B")]
    removed = planned(corpus, {"from": "said", "remove": "a"}, source=source)
    assert removed.noted["texts_empty"] == 1


@pytest.mark.parametrize(
    ("rules", "more", "said"),
    [
        ({"from": "wrods"}, {}, "no row and no path of source 's' has the field 'wrods'; did you mean 'words'"),
        ({}, {}, r"text.from: no row and no path of source 's' has the field 'text'; there are who, words"),
        ({"from": "words"}, {"fields": {"text": "who"}}, "the corpus has a field 'text' of its own, which would be lost"),
        ({"from": "words", "keep_raw": True}, {"fields": {"text_raw": "who"}}, "the corpus has a field 'text_raw' of its own"),
        ({"from": "label"}, {}, "needs `annotations.columns.label`"),
        ({"from": "words", "remove": "(o+o*)+x"}, {}, r"sources\[0\].text.remove|sources.s.text.remove"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_text(
    rules: dict[str, Any], more: dict[str, Any], said: str, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "remove" in rules:
        monkeypatch.setattr(transcripts, "_REGEX_TIMEOUT_S", 1e-9)
    with pytest.raises(ConfigError, match=said):
        planned(corpus, rules, **more)


def test_a_text_can_come_from_a_joined_table(corpus: Path, tmp_path: Path) -> None:
    """Its rules apply to what the row has after the join; a row that nothing is joined to has no text."""
    for name in ("a", "b"):
        write_audio(tmp_path / f"{name}.wav", tone(1.0, RATE), RATE)
    (tmp_path / "t.csv").write_text("file,start,end\na.wav,0,0.5\nb.wav,0,0.5\n")
    (tmp_path / "said.csv").write_text("name,transcript\na,Hello!\n")
    first = {"table": "t.csv", "recording": "file", "columns": {"start": "start", "end": "end"}}
    source = {"annotations": [first, {"table": "said.csv", "recording": "name"}]}
    plan = planned(tmp_path, {"from": "transcript", "lower": True, "remove": "!"}, source=source)
    assert sorted((f["text"] for f in fields_of(plan).values()), key=str) == [None, "hello"]
    assert plan.noted["texts_missing"] == 1
    by_label = {"annotations": [first, {"table": "said.csv", "recording": "name", "columns": {"label": "transcript"}}]}
    found = fields_of(planned(tmp_path, {"from": "label"}, source=by_label))
    assert sorted(f["text"] for f in found.values()) == ["", "Hello!"]


def test_some_rows_without_the_field_are_counted(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_audio(tmp_path / f"{name}.wav", tone(1.0, RATE), RATE)
    (tmp_path / "a.csv").write_text("words\nhello\n")
    (tmp_path / "b.csv").write_text("other\nhello\n")
    source = {"annotations": {"sidecar": "{stem}.csv"}}
    plan = planned(tmp_path, {"from": "words"}, source=source)
    assert plan.noted["texts_missing"] == 1
    texts = [
        row["fields"][plan.field_names.index("text")] for rows in plan.table["annotations"].to_pylist() for row in rows
    ]
    assert sorted(texts, key=str) == [None, "hello"]


def test_a_text_that_is_too_long_rejects_its_row(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcripts, "MAX_CHARACTERS", 15)
    plan = planned(corpus, {"from": "words"})
    rows = {row["line"]: row for rows in plan.table["annotations"].to_pylist() for row in rows}
    assert {line: row["reason"] for line, row in rows.items()} == {
        2: None, 3: None, 4: "text_too_long", 5: "annotation_not_a_number",
    }  # fmt: skip


def test_a_text_moves_the_keys_of_its_rows_and_no_text_moves_none(corpus: Path) -> None:
    digests = {
        name: sorted(planned(corpus, rules).table["item_digest"].to_pylist())
        for name, rows in {"no": None, "plain": {"from": "words"}, "lower": {"from": "words", "lower": True}}.items()
        for rules in [rows]
    }
    assert len({str(d) for d in digests.values()}) == 3
    same = planned(corpus, {"from": "words", "collapse_spaces": True, "remove": []})
    assert sorted(same.table["item_digest"].to_pylist()) == digests["plain"]
    other = planned(corpus, {"from": "words", "remove": "a pattern that matches nothing"})
    assert sorted(other.table["item_digest"].to_pylist()) == digests["plain"], "keys follow texts, not rules"


def test_texts_are_columns_of_clips_and_counts_are_told(corpus: Path, tmp_path: Path) -> None:
    rules = {"from": "words", "remove": "[.,]", "lower": True}
    config = configured(corpus, rules, output={"root": str(tmp_path / "out")}, limits={"max_rejected_share": 1})
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(config))
    assert "1 text is empty after the rules of sources[].text" in run("plan", path)
    assert "1 text is empty after the rules of sources[].text" in run("build", path)
    rows = clipmill.open_dataset(tmp_path / "out").manifest().to_pylist()
    assert sorted(row["text"] for row in rows) == ["", "(1)/(one) b/ thing", "hello world"]


def test_texts_are_kept_with_the_rows_of_sidecars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan from what an earlier one kept is the plan from nothing, whatever the rules were before."""
    monkeypatch.setattr(inventory, "UNSETTLED_NS", 0)
    for i, words in enumerate(("Hello", "...", "other")):
        write_audio(tmp_path / f"in/{i}.wav", tone(1.0, RATE), RATE)
        (tmp_path / f"in/{i}.csv").write_text(f"{'said' if i < 2 else 'words'}\n{words}\n")
    time.sleep(0.02)
    source = {"annotations": {"sidecar": "{stem}.csv"}}
    for rules in (
        {"from": "said"},
        {"from": "said", "lower": True, "remove": "[.]"},
        {"from": "said", "keep_raw": True},
        None,
    ):
        config = clipmill.load_config(configured(tmp_path / "in", rules, source=source)).config
        fresh = make_plan(config)
        assert fresh.noted == (
            {} if rules is None else {"texts_missing": 1, **({"texts_empty": 1} if "remove" in rules else {})}
        )
        for _ in range(2):
            kept = KeptParts(Root(str(tmp_path / "out")))
            again = make_plan(config, kept=kept)
            kept.save()
            assert again.table.to_pylist() == fresh.table.to_pylist() and again.field_names == fresh.field_names
            assert again.noted == fresh.noted
