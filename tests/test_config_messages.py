"""All that is wrong with a configuration is told in one run, each thing once, and YAML's errors in words."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clipmill.pipelines.config_file import load, loads
from clipmill.schemas.config import Config
from clipmill.schemas.config.model import _distance, _plain, nearest
from clipmill.schemas.config.problems import _inner_model, _model_fields
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.secret_values import hide_secrets, remember_secrets

HEAD = "name: test\nsources:\n  - name: s\n    root: /data\noutput: {root: out}\n"


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        loads(text, environ={})
    assert str(caught.value).splitlines() == [str(p) for p in caught.value.problems]
    return caught.value


def places(text: str) -> list[tuple[int | None, str, str]]:
    return [(p.line, p.key, p.code.removeprefix("config.")) for p in refused(text).problems]


def test_every_mistake_is_told_in_the_order_of_the_lines() -> None:
    text = """\
name: test
sources:
  - name: s
    rot: /data
    sgement: {mode: whole}
    label: no
  - name: t
    root: ${NO_SUCH_A}/x
    root: ${NO_SUCH_B}/x
audio: {sample_rate_hz: fast, chanels: mono}
features: {log_mel: {n_ffft: 8}, device: tpu}
output: {root: '${NO_SUCH_C}', formats: [csv]}
banana: 1
"""
    assert places(text) == [
        (4, "sources[0].rot", "unknown_key"),
        (5, "sources[0].sgement", "unknown_key"),
        (6, "sources[0].label", "invalid_value"),
        (9, "sources[1].root", "duplicate_key"),
        (9, "sources[1].root", "environment"),
        (10, "audio.chanels", "unknown_key"),
        (10, "audio.sample_rate_hz", "invalid_value"),
        (11, "features.log_mel.n_ffft", "unknown_key"),
        (11, "features.device", "invalid_value"),
        (12, "output.formats[0]", "invalid_value"),
        (12, "output.root", "environment"),
        (13, "banana", "unknown_key"),
    ]


def test_what_follows_from_something_else_is_not_told() -> None:
    assert places(HEAD.replace("root: /data", "roots: /data")) == [(4, "sources[0].roots", "unknown_key")]
    assert places(HEAD.replace("/data", "${NO_SUCH}")) == [(4, "sources[0].root", "environment")]
    assert places(HEAD + "split: {train: '${NO_SUCH}', test: 0.5}\n") == [(6, "split.train", "environment")]
    assert places(HEAD + "audio: {sample_rate_hz: !rate 3}\n") == [(6, "audio.sample_rate_hz", "invalid_yaml")]
    # An unknown key is told even where its value is broken too; a missing key that nothing was meant for stays missing.
    assert places(HEAD + "audioo: ${NO_SUCH}\n") == [(6, "audioo", "unknown_key"), (6, "audioo", "environment")]
    assert places(HEAD.replace("root: /data", "banana: /data")) == [
        (3, "sources[0].root", "missing_key"),
        (4, "sources[0].banana", "unknown_key"),
    ]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("sample_rate_hz: 8000", "it belongs under `sources.raw` or `audio`"),
        ("min_dbfs: -40", "it belongs under `silence`"),
        ("banana: 1", "known here: name, sources"),
        ("audio: {channels:mono}", "a space is missing after the colon"),
        ("audio:\n  channels:mono", "a space is missing after the colon"),
        ("audio: {sampleRateHz: 8000}", "did you mean 'sample_rate_hz'?"),
        ("features: {log-mel: {}}", "did you mean 'log_mel'?"),
        ("features: {log_mel: {preset: whisper80}}", "did you mean 'whisper-80'?"),
        ('split: {from: f, map: {"a\\0": b}}', r"contains \x00"),
        ('split: {from: f, map: {a: b}, default: "\\ud800"}', r"contains \ud800"),
        ("audio: {sample_rate_hz: 016000}", "016000 is read as 7168: YAML takes it as a number in base 8"),
        ("limits: {max_recording_s: 1:30}", "1:30 is read as 90: YAML takes it as a number in base 60"),
        ("audio: {sample_rate_hz: 0x" + "f" * 9000 + "}", "the number is too large"),
        ("split: {from: f, map: {a: yes}}", "yes is read as true or false; put it in quotes: 'yes'"),
        ("split: {from: f, map: {a: 2024-01-01}}", "2024-01-01 is read as a date; put it in quotes: '2024-01-01'"),
        (
            "limits: {max_rejected_share: yes}",
            "should be a number, not true",
        ),
        ("split: {from: f, map: {a: 3}}", "3 is read as a number; put it in quotes: '3'"),
        ("split: {from: f, map: {train: 1}}", "the map is {VALUE: SPLIT}; did you mean {1: train}?"),
        ("split: {from: f, map: {a: }}", "the value is empty; give one, or remove the key"),
    ],
)
def test_a_message_says_what_to_write(more: str, words: str) -> None:
    (problem,) = refused(f"{HEAD}{more}\n").problems
    assert words in problem.message


def test_a_column_named_no_is_not_the_first_one() -> None:
    (problem,) = refused(HEAD.replace("/data", "/data\n    annotations: {sidecar: a, columns: {label: no}}")).problems
    assert problem.key == "sources[0].annotations.columns"
    assert "should be a number, or text in quotes, not false" in problem.message


@pytest.mark.parametrize("text", ["no", "off", "Yes", "null", "~", "2024-01-01"])
def test_a_name_that_yaml_reads_as_something_else(text: str) -> None:
    (problem,) = refused(HEAD.replace("name: test", f"name: {text}")).problems
    assert (problem.key, problem.line) == ("name", 1)
    assert f"put it in quotes: '{text}'" in problem.message or "the value is empty" in problem.message


def _models(model: Any) -> Iterator[Any]:
    yield model
    for annotation in _model_fields(model).values():
        if (inner := _inner_model(annotation)) is not None:
            yield from _models(inner)


def test_each_typo_of_one_letter_finds_its_key() -> None:
    n = 0
    for model in set(_models(Config)):
        known = list(_model_fields(model))
        for key in known:
            for i in range(len(key) + 1):
                typos = [key[:i] + c + key[i:] for c in "q_"]
                typos += [key[:i] + key[i + 1 :], key[:i] + "q" + key[i + 1 :]] if i < len(key) else []
                typos += [key[:i] + key[i + 1] + key[i] + key[i + 2 :]] if i < len(key) - 1 else []
                for typo in set(typos) - {*known, ""}:
                    found = nearest(typo, known)
                    # `padq` is one letter from `pad`, and from `pad_s` as well.
                    assert found == key or (found and _distance(_plain(typo), _plain(found)) <= 1), typo
                    n += 1
    assert n > 2000


UNRELATED = (
    "foo bar hello world augment batch epochs seed workers threads path file url dataset language speaker gender quality"
    " threshold volume pitch speed codec bitrate license author version title description tags verbose cache tmp"
).split()


def test_no_word_that_is_far_is_proposed() -> None:
    for model in set(_models(Config)):
        known = list(_model_fields(model))
        found = {word: near for word in UNRELATED if word not in known and (near := nearest(word, known))}
        assert not found


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("sources:\n\t- name: s\n", 2, "indented with a tab"),
        ("audio:\n  channels: mono\n\tgaps: fill\n", 3, "indented with a tab"),
        ("name:\ta\n", 1, "there is a tab where a space"),
        ('name: "a\nsources:\n  - x: 1\n', 1, "the quote that begins here is not closed"),
        ('name: a\nroot: "/data\ninclude: ["*.wav"]\n', 2, "is closed only in line 3"),
        ("name: 'it's'\nx: 1\n", 1, "write an apostrophe twice"),
        ("name:test\nsources:\n  - x: 1\n", 1, "a space is missing after the colon"),
        ("a: test\nb:\n  - name:x\n    root: y\n", 3, "a space is missing after the colon"),
        ("name: test\nx:1\n", 2, "a space is missing after the colon"),
        ("label: dog: barking\n", 1, "a second colon"),
        ("name: @x\n", 1, "cannot begin with `@`"),
        ("name: `x\n", 1, "cannot begin with a backtick"),
        ("x: [%a]\n", 1, "cannot begin with `%`"),
        ("%x: 1\n", 1, "cannot begin with `%`"),
        ("name: a\n  sources: 1\n", 2, "indented deeper than the line above"),
        ("audio:\n    a: 1\n  b: 2\n", 3, "indented differently"),
        (" name: a\nsources: 1\n", 2, "indented differently"),
        ("sources:\n  - name: a\n   root: b\n", 3, "indented differently"),
        ("sources:\n  - name: a\n  root: b\n", 3, "indented differently"),
        ("name: a\n- b\n", 2, "a list entry is among keys"),
        ("include: *.wav\n", 1, "cannot begin with `*`"),
        ("include: [**/*]\n", 1, "cannot begin with `*`"),
        ("include: *all\n", 1, "marks an alias"),
        ("a: & b\n", 1, "cannot begin with `&`"),
        ("a: !foo!bar x\n", 1, "marks a tag"),
        ("name: a\n---\nname: b\n", 2, "several documents"),
        ("name: a\x00b\n", 1, r"control character \x00"),
        ("x: 1\nname: \x1b[31m\n", 2, r"control character \x1b"),
        ("audio: {a: 1\nname: b\n", 1, "the bracket { that begins here is not closed"),
        ("a: [1]\nb: [1}\n", 2, "closed by }"),
        ("a: {b: 1}}\n", 1, "closes nothing"),
        ("a: {b: c: d}\n", 1, "contains a colon and a space"),
        ("root: [${X}]\n", 1, "must be in quotes"),
        ('regex: "\\d+"\n', 1, "use single quotes"),
        ("a: >x\n", 1, "cannot begin with `|` or `>`"),
        ("name = x\n", 1, "it is text"),
        ("- a\n- b\n", 1, "it is a list"),
        ("# nothing\n", 1, "the file is empty"),
        ("name: a,\nb\n", 2, "no colon"),
        ("a: {<<: 3}\n", 1, "`<<` inserts the keys"),
        ("? [a]\n: b\n", 1, "a key must be a plain word"),
    ],
)
def test_what_is_no_yaml_is_told_in_words(text: str, line: int, words: str) -> None:
    (problem,) = refused(text).problems
    assert problem.line == line
    assert words in problem.message
    assert problem.code == "config.invalid_yaml"


JARGON = (
    "cannot start any token",
    "expected <",
    "found '<",
    "block mapping",
    "while scanning",
    "could not find",
    "flow",
    "token",
)


@given(st.text(alphabet="ab:{}[]-?&*!|>'\"%@#,` \n\t<~.0=\\$", max_size=60))
@example("name: x\n\t- a")
@example("a: 'b\n---\n'")
def test_no_text_gets_a_message_in_the_words_of_a_grammar(text: str) -> None:
    try:
        loads(text, environ={})
    except ConfigError as error:
        assert not any(words in str(error) for words in JARGON), (text, str(error))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (HEAD.encode() + b"# caf\xe9\n", ":6: not UTF-8 text: this line has the byte 0xe9"),
        (HEAD.encode("utf-16"), "UTF-16"),
        (HEAD.encode("utf-16-le"), "UTF-16"),
        (b"\x7fELF\x02\x01\x01\x00\x80\xff", "not UTF-8 text"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt \x10", "control character"),
    ],
)
def test_a_file_that_is_no_text(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert words in str(caught.value)
    with pytest.raises(ConfigError, match="is a folder"):
        load(tmp_path)


def test_a_file_without_an_end_is_not_read_to_it() -> None:
    with pytest.raises(ConfigError, match="more than 1000000 bytes"):
        load("/dev/zero")


def test_many_mistakes_stay_readable() -> None:
    with pytest.raises(ConfigError) as caught:
        loads(HEAD + "".join(f"banana{i}: 1\n" for i in range(500)))
    error = caught.value
    assert len(error.problems) == 500
    assert str(error).splitlines()[-1] == "... and 400 more"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("split: {train: 80, test: 0}", "a share is a fraction of 1"),
        ("limits: {max_rejected_share: 7}", "a share is a fraction of 1"),
        ("limits: {max_recording_s: -1}", "expected greater than"),
        ("audio: {sample_rate_hz: 1.5}", "whole number"),
    ],
)
def test_quotes_are_advised_only_where_text_was_expected(more: str, words: str) -> None:
    (problem,) = refused(f"{HEAD}{more}\n").problems
    assert words in problem.message and "quotes" not in problem.message


def test_a_key_of_the_top_inside_a_source_and_a_truth_value_that_is_none_are_told() -> None:
    (problem,) = refused(HEAD.replace("root: /data", "root: /data\n    classes: [a]")).problems
    assert problem.message == "unknown key; `classes` belongs at the top level of the file, like `sources`"
    (problem,) = refused(
        HEAD.replace("root: /data", "root: /data\n    annotations: {sidecar: a, header: none}")
    ).problems
    assert problem.message == "expected true or false"


@pytest.mark.parametrize("turn", [1, 2])
def test_a_secret_of_one_test_is_none_of_the_next(turn: int) -> None:
    """A random configuration can make any word a secret. It must not change the messages that later tests expect."""
    assert hide_secrets("the columns are") == "the columns are"
    remember_secrets(["columns"])
    assert hide_secrets("the columns are") == "the *** are"
