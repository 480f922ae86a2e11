"""s3fs's private names: that they are there, or which version of s3fs no longer has them; and what clipmill does without them."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest
import s3fs

from clipmill.pipelines.dataset import index_parts, records_io, survey
from clipmill.pipelines.plan import inventory
from clipmill.pipelines.plan.annotations import sidecars
from clipmill.schemas.errors import ConfigError
from clipmill.stages.storage import s3_private
from clipmill.stages.storage.file_system import CONNECTIONS
from clipmill.stages.storage.root import Root

ROOT = Path(__file__).parents[1]
VERSION = f"s3fs {s3fs.__version__}"


@pytest.fixture(autouse=True)
def _no_warning_yet() -> None:
    s3_private._warn.cache_clear()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "clipmill.stages.storage.s3_private"]


def read_and_write(bucket: str, endpoint: str) -> None:
    """Use every request that is sent by the private name: reads by ranges, uploads in one request and in parts."""
    root = Root(f"s3://{bucket}", {"endpoint_url": endpoint})
    content = os.urandom(9 << 20)
    for path, part in (("large", content), ("small", content[:10]), ("empty", b"")):
        with root.write(path) as stream:
            stream.write(part)
        with root.open_read(path) as stream:
            assert stream.read() == part
    with pytest.raises(KeyError), root.write("broken") as stream:
        stream.write(content)
        raise KeyError
    assert not root.create_bytes("small", b"another")
    assert root.sizes("") == {"large": len(content), "small": 10, "empty": 0}
    assert root.leftovers() == {}


def test_the_names_are_there(caplog: pytest.LogCaptureFixture) -> None:
    kind = s3fs.S3FileSystem
    for name in (s3_private.REQUEST, s3_private.RETRIES, *s3_private.NEEDED):
        assert hasattr(kind, name), f"{VERSION} has no S3FileSystem.{name}"
    assert asyncio.iscoroutinefunction(getattr(kind, s3_private.REQUEST)), (
        f"{VERSION}: {s3_private.REQUEST} is not a coroutine"
    )
    fs = Root("s3://nothing", {"anon": True}).fs
    assert getattr(fs, s3_private.RETRIES) == 1, f"{VERSION}: the number of attempts cannot be set"
    assert warnings(caplog) == []


def test_without_its_coroutine_for_requests_reading_and_writing_go_on(
    bucket: str, endpoint: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(s3_private, "REQUEST", "_gone")
    read_and_write(bucket, endpoint)
    said = f"{VERSION} has no S3FileSystem._gone any more: each request to S3 takes a thread, which makes small reads slower"
    assert warnings(caplog) == [said]


def test_without_its_number_of_attempts_reading_and_writing_go_on(
    bucket: str, endpoint: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(s3_private, "RETRIES", "gone")
    read_and_write(bucket, endpoint)
    assert len(warnings(caplog)) == 1
    assert warnings(caplog)[0].startswith(f"{VERSION} has no S3FileSystem.gone any more: s3fs also repeats")


@pytest.mark.parametrize("name", s3_private.NEEDED)
def test_a_version_without_what_nothing_replaces_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_private, "NEEDED", (f"{name}_gone",))
    with pytest.raises(
        ConfigError, match=rf"{re.escape(VERSION)} has no S3FileSystem\.{name}_gone, which clipmill needs"
    ):
        Root("s3://nothing", {"anon": True}).connect()


def test_they_are_in_one_place() -> None:
    private = re.compile(
        r"fs\._[a-z]|(fs|found)\.retries = |_call_s3|_strip_protocol|run_coroutine_threadsafe"
        r"|\b(s3fs|fsspec|aiobotocore|botocore|aiohttp)(\.\w+)*\._|from (s3fs|fsspec|aiobotocore|botocore|aiohttp)\S* import _"
    )
    for line in (
        "self._fs._call_s3(",
        "fs._strip_protocol(url)",
        "fsspec.asyn._run",
        "from s3fs.core import _error_wrapper",
    ):
        assert private.search(line)
    for layer in ("schemas", "stages", "pipelines"):
        for path in (ROOT / layer).rglob("*.py"):
            if path.name != "s3_private.py":
                assert not private.search(path.read_text()), path


def test_there_are_connections_for_all_threads_that_read_small_objects() -> None:
    threads = (
        index_parts._AT_ONCE,
        survey._AT_ONCE,
        records_io._RECORDS_AT_ONCE,
        sidecars._READERS,
        inventory._HASHERS,
    )
    assert max(threads) == CONNECTIONS
    fs = Root("s3://nothing", {"anon": True}).fs
    assert fs.s3.meta.config.max_pool_connections == CONNECTIONS
    fs = Root("s3://nothing", {"anon": True, "config_kwargs": {"max_pool_connections": 5}}).fs
    assert fs.s3.meta.config.max_pool_connections == 5
