"""Damaged records and wrong values are told in words, and not in those of Python, pydantic or click."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.config_file import loads
from clipmill.pipelines.dataset.records_io import read_forgotten
from clipmill.pipelines.dataset.tries import read_retries
from clipmill.schemas import records
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.schemas.records import Commit, Counts, OutputFile, Seconds, Snapshot
from clipmill.schemas.seal import sealed, unsealed
from clipmill.schemas.statistics import Statistics
from clipmill.stages.storage.root import Root

PYTHONS = re.compile(
    r"object has no|__init__|argument|indices|iterable|literal for|\*\*|schemas\.|\bdict\b|\blist\[|NoneType|unpack|Expecting|char \d|codec|\('\w+'\)"
)


def commit(**changes: Any) -> bytes:
    made = Commit("a" * 64, "train", "b", [], Counts(), Seconds(), [], {}, "cpu", 1, statistics=Statistics())
    return sealed({**unsealed(made.to_json()), **changes})


ODD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "it is not JSON from line 1, column 1 on"),
    "cut": (b'{"a":', "it is not JSON from line 1"),
    "binary": (b"\xff\x00{", "it is no"),
    "a list": (b"[]", "it should hold an object"),
    "deep": (b"[" * 100_000, "it is nested too deeply"),
    "no fields": (b"{}", "is missing"),
    "counts a list": (b'{"counts": [], "seconds": {}, "outputs": []}', "counts should be an object"),
    "counts of more": (b'{"counts": {"x": 1}, "seconds": {}, "outputs": []}', "counts.x is an unknown key"),
    "counts of text": (b'{"counts": {"clips_kept": "9"}, "seconds": {}, "outputs": []}', "counts.clips_kept should be a whole number"),
}  # fmt: skip


@pytest.mark.parametrize("kind", [Snapshot, Commit])
@pytest.mark.parametrize("odd", ODD)
def test_records(kind: type[Snapshot] | type[Commit], odd: str) -> None:
    content, said = ODD[odd]
    with pytest.raises(ClipmillError) as told:
        kind.from_json(content, "NAME")
    assert said in str(told.value) and told.value.code == "root.damaged"
    assert not PYTHONS.search(str(told.value)), told.value


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"outputs": [["a"]]}, "outputs[0] should be an object"),
        ({"outputs": [{"path": "a"}]}, "outputs[0].format is missing"),
        ({"outputs": 3}, "a field is missing, unknown, or of the wrong type"),
        ({"n_items": None}, "n_items should be a whole number"),
        ({"rejections": [1]}, "rejections should be a list of objects"),
        ({"versions": {"a": 1}}, "versions should be an object of texts"),
        ({"statistics": {"features": {}}}, "lengths is missing"),
        ({"statistics": {"features": {"a": {"b": 1}}, "lengths": {}}}, "a field is missing, unknown, or of the wrong type"),
    ],
)  # fmt: skip
def test_fields_of_a_commit(changes: dict[str, Any], said: str) -> None:
    assert Commit.from_json(commit(), "NAME").n_items == 1
    with pytest.raises(ClipmillError) as told:
        Commit.from_json(commit(**changes), "NAME")
    assert said in str(told.value)
    assert not PYTHONS.search(str(told.value)), told.value


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"3", b'{"salt": 1, "recordings": [], "names": []}', b"[" * 100_000]
)
def test_what_was_forgotten(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "forgotten.json").write_bytes(content)
    with pytest.raises(ClipmillError, match="not a record of forgotten recordings") as told:
        read_forgotten(Root(str(tmp_path)))
    assert told.value.code == "root.damaged"
    assert not PYTHONS.search(str(told.value)), told.value


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b'{"a": 1}', b'{"a": [1, "x"]}'])
def test_retries(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "retries.json").write_bytes(content)
    with pytest.raises(ClipmillError, match="not a record of retries") as told:
        read_retries(Root(str(tmp_path)))
    assert not PYTHONS.search(str(told.value)), told.value


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("audio: {sample_rate_hz: abc}", "audio.sample_rate_hz: expected a whole number"),
        ("limits: {max_rejected_share: x}", "limits.max_rejected_share: expected a number"),
        ("features: {log_mel: {n_mels: 2.5}}", "features.log_mel.n_mels: expected a whole number"),
        ("features: {device: '${N:-20'}", "the brace of ${N is not closed; write ${N}, or ${N:-default}"),
        ("features: {device: '${N'}", "the brace of ${N is not closed"),
    ],
)
def test_values_of_a_configuration(line: str, said: str) -> None:
    with pytest.raises(ConfigError) as told:
        loads(f"name: x\nsources: [{{name: s, root: /in}}]\noutput: {{root: /out}}\n{line}\n")
    assert said in str(told.value)
    assert "valid" not in str(told.value) and "parse" not in str(told.value)
    assert told.value.code == "config.invalid_value"


def test_numbers_of_options() -> None:
    said = CliRunner().invoke(main, ["show", "x", "--snapshot", "x"]).output
    assert "'x' is not a valid whole number" in said and "range" not in said


def test_a_place_where_nothing_can_be_created(tmp_path: Path) -> None:
    from clipmill.stages.storage.failures import describe_os_error

    missing = FileNotFoundError(2, "No such file or directory", "/proc/clipmill")
    assert "no folder can be created there" in str(describe_os_error(missing, Root("/proc/clipmill"), "write to"))


WHOLE = Commit(
    "a" * 64, "train", "b01", [OutputFile("p", "parquet", "0" * 64, 9, 1, [4, 9], ["1" * 64, "2" * 64])],
    Counts(clips_kept=1, dropped={"silence": 2}, remarked={"x": 1}), Seconds(kept_s=0.1, by_label={"é": 0.1}),
    [{"kind": "clip", "reason": "r", "start_s": None}], {"numpy": "1"}, "cpu", 1, has_pcm_sha256=True,
    remarks=[{"code": "x", "detail": None}], statistics=Statistics(),
)  # fmt: skip
EMPTY = Commit("a" * 64, "train", "b01", [], Counts(), Seconds(), [], {}, "cpu", 1, statistics=Statistics())


@pytest.mark.parametrize("record", [WHOLE, EMPTY])
def test_a_record_is_its_fields_without_those_that_were_added_later_and_are_empty(record: Commit) -> None:
    def without_empty(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {name: value for name, value in pairs if value or name not in records._OMITTED_IF_EMPTY}

    plain = dataclasses.asdict(record, dict_factory=without_empty)
    assert record.to_json() == sealed(plain)
    assert Commit.from_json(record.to_json(), "NAME") == record
    assert set(unsealed(EMPTY.to_json())) == {
        "bucket", "clips_key", "counts", "device", "donor", "format_version", "key", "n_items", "outputs", "rejections", "seconds",
        "split", "statistics", "versions",
    }  # fmt: skip
