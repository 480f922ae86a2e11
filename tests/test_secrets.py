"""A secret anywhere under `storage_options` is in no output and in no file, whether the configuration is right or wrong."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import clipmill_here, tone, upload_source, write_audio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipmill.pipelines.cli.terminal import _hide_in_record
from clipmill.pipelines.config_file import load_config
from clipmill.pipelines.dataset.leases import read_notes
from clipmill.pipelines.dataset.notes import BuildNote
from clipmill.schemas import secret_values
from clipmill.schemas.errors import ClipmillError, ConfigError, StorageError
from clipmill.schemas.secret_values import hide_in_data, hide_secrets, remember_secrets, secrets_of, secrets_of_config
from clipmill.stages.storage.failures import describe_damage, describe_os_error
from clipmill.stages.storage.root import Root

KEY_ID, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
LETTERS = "abcdefghijkmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/+=_-.~%&'\"é ß"
SECRETS = st.text(LETTERS, min_size=8, max_size=44).map(lambda t: f"q{t.strip()}7Zq")
OPTIONS = (
    "key", "secret", "token", "profile", "region_name", "endpoint_url", "anon", "use_ssl", "wrong_option", "project", "username",
    "default_block_size", "requester_pays", "loop", "version_aware", "session",
)  # fmt: skip
PLACES = st.sampled_from(
    [
        *((name,) for name in OPTIONS),
        *(("client_kwargs", n) for n in ("region_name", "aws_secret_access_key", "verify", "wrong", "endpoint_url", "api_version")),
        *(("config_kwargs", n) for n in ("region_name", "signature_version", "proxies", "user_agent_extra", "wrong", "retries")),
        ("config_kwargs", "s3", "addressing_style"),
        ("config_kwargs", "proxies", "https"),
        ("config_kwargs", "retries", "mode"),
        ("config_kwargs", "client_cert", 0),
        ("s3_additional_kwargs", "SSECustomerKey"),
        ("headers", "Authorization"),
        ("client_kwargs",),
        ("config_kwargs",),
        ("config_kwargs", 0),
        (),
    ]
)  # fmt: skip
FORMS = st.sampled_from(
    ["{}", "{}", "Bearer {}", "https://user:{}@127.0.0.1:1", "https://{}:x@127.0.0.1:1/", "${{THE_VALUE}}"]
)


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests' values must not hide words of this one's messages."""
    monkeypatch.setattr(secret_values, "_remembered", secret_values._Remembered())


def put(options: dict[str, Any], place: tuple[str | int, ...], value: str) -> Any:
    """Return options with a value at a place; () is in place of all of them."""
    if not place:
        return value
    head, *rest = place
    if isinstance(head, int):
        return [put({}, tuple(rest), value)]
    inner = options.get(head)
    return {**options, head: put(inner if isinstance(inner, dict) else {}, tuple(rest), value)}


def contents(*folders: Path) -> Iterator[bytes]:
    for folder in folders:
        yield from (p.name.encode() + p.read_bytes() for p in folder.rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    write_audio(folder / "r0.wav", tone(0.5, 8000), 8000)
    (folder / "broken.wav").write_bytes(b"RIFF")
    return folder


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(secret=SECRETS, place=PLACES, form=FORMS, at=st.sampled_from(["source", "output"]), misspelt=st.booleans())
def test_no_command_shows_or_stores_it(
    recordings: Path, tmp_path_factory: pytest.TempPathFactory, secret: str, place: Any, form: str, at: str, misspelt: bool
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("secret")
    text = form.format(secret) if "THE_VALUE" not in form else "${THE_VALUE}"
    good = {"key": "minio-user", "secret": "minio-password", "endpoint_url": "http://127.0.0.1:1"}
    options = put(good, place, text)
    source: dict[str, Any] = {"name": "s", "root": str(recordings), "audio": 3} if misspelt else {"name": "s"}
    source |= {"root": str(recordings), "segment": {"mode": "window", "length_s": 0.25}}
    output: dict[str, Any] = {"root": str(folder / "out")}
    name = "storage_option" if misspelt and at == "output" else "storage_options"
    (source if at == "source" else output)[name] = options
    config = folder / "c.yaml"
    plain = {"name": "test", "sources": [source], "output": output, "limits": {"max_rejected_share": 1.0}}
    config.write_text(yaml.safe_dump(plain, allow_unicode=True))
    said = []
    before = os.environ.get("THE_VALUE")
    os.environ["THE_VALUE"] = secret
    try:
        for words in ("plan", "build", "status", "show", "failures", "verify", "export"):
            for json_too in ((), ("--json",)) if words in ("plan", "status", "show") else ((),):
                more = ("csv", "--replace") if words == "export" else ()
                done = clipmill_here(words, config, *more, *json_too)
                assert done.returncode in (0, 1, 2, 3)
                said += [done.stdout, done.stderr]
    finally:
        os.environ.pop("THE_VALUE")
        if before is not None:
            os.environ["THE_VALUE"] = before
    output_text = "\n".join(said)
    assert len(output_text) > 100
    assert secret not in output_text
    assert json.dumps(secret)[1:-1] not in output_text
    assert repr(secret)[1:-1] not in output_text
    if (folder / "out").exists():
        assert not [c for c in contents(folder / "out") if secret.encode() in c]


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(secret=SECRETS, place=PLACES, form=FORMS)
def test_no_message_about_a_store_shows_it(secret: str, place: Any, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What botocore, s3fs and aiohttp say of wrong options, as far as it reaches a user."""
    monkeypatch.setattr("clipmill.stages.storage.patience.ATTEMPTS", 1)
    value = secret if "THE_VALUE" in form else form.format(secret)
    good = {"key": "minio-user", "secret": "minio-password", "endpoint_url": "http://127.0.0.1:1"}
    options = put(good, place, value)
    if not isinstance(options, dict):
        return
    root = Root("s3://bucket-of-test/x", options)
    try:
        root.names("commits")
    except ClipmillError as error:
        text = str(error)
    except OSError as error:
        text = str(describe_os_error(error, root, "read"))
    except Exception as error:  # noqa: BLE001 - a library's own, which the command line prints as a bug
        text = hide_secrets("".join(traceback.format_exception(error)))
    else:
        text = ""
    assert secret not in text
    assert secret.lower() not in text.lower()


@pytest.mark.parametrize("where", ["region_name", pytest.param("config_kwargs", marks=pytest.mark.slow)])
def test_a_build_from_a_store_with_a_key_in_the_wrong_place(
    where: str, bucket: str, endpoint: str, tmp_path: Path, recordings: Path
) -> None:
    source = upload_source({"name": "s", "root": str(recordings)}, bucket, endpoint)
    wrong: Any = (
        {"client_kwargs": {"region_name": SECRET}} if where == "region_name" else {where: {"region_name": SECRET}}
    )
    source["storage_options"] |= wrong
    plain = {"name": "test", "sources": [source], "output": {"root": str(tmp_path / "out")}}
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(plain))
    for words in (["plan"], ["build"], ["build", "--json"], ["status"]):
        command = [sys.executable, "-m", "clipmill", words[0], str(config), *words[1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        text = done.stdout + done.stderr
        assert SECRET not in text
        assert SECRET.lower() not in text.lower()
        assert "Traceback" not in text
    assert not [c for c in contents(tmp_path / "out") if SECRET.encode() in c]


def test_what_is_harmless_stays_readable() -> None:
    options = {
        "anon": True,
        "endpoint_url": "https://user:pass-word@store.example:9000",
        "client_kwargs": {"region_name": "eu-central-1", "verify": "/etc/ssl/own.pem"},
        "config_kwargs": {"s3": {"addressing_style": "virtual"}, "signature_version": "s3v4", "connect_timeout": 5},
        "requester_pays": True,
        "profile": "bucket-owner",
    }
    assert secrets_of(options, ["s3://data-of-bucket-owner"]) == {"user:pass-word", "user", "pass-word"}
    remember_secrets(secrets_of(options, ["s3://data-of-bucket-owner"]))
    line = "cannot read https://user:pass-word@store.example:9000 in eu-central-1"
    assert hide_secrets(line) == "cannot read https://***@store.example:9000 in eu-central-1"
    assert secrets_of({"region_name": SECRET, "endpoint_url": KEY_ID}) == {SECRET, KEY_ID}
    assert secrets_of({"endpoint_url": "https://s.example/x?sig=abcdefgh"}) != set()


def test_a_value_of_the_environment_is_a_secret_only_where_options_are(tmp_path: Path) -> None:
    plain = {
        "name": "test",
        "sources": [{"name": "s", "root": "${CORPUS}", "storage_options": {"token": ["x", {"y": "${TOKEN}"}]}}],
        "output": {"root": str(tmp_path)},
    }
    load_config(plain, environ={"CORPUS": "/data/corpora", "TOKEN": "hunter2hunter2"})
    assert hide_secrets("/data/corpora: hunter2hunter2, HUNTER2hunter2") == "/data/corpora: ***, ***"
    assert secrets_of_config({"sources": [{"storage_optoins": {"a": "meant as one"}}]}) == {"meant as one"}
    assert secrets_of_config({"sources": [{"annotations": {"key": "file_name", "columns": {"key": "x_key"}}}]}) == set()


def test_credentials_are_known_by_their_form() -> None:
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
    for secret in (KEY_ID, SECRET, jwt, "hf_abcdefghijklmnopqrstuvwx", "Bearer abc123def456"):
        hidden = hide_secrets(f"the store said {secret!r}")
        assert secret not in hidden
        assert hidden.startswith("the store said")
    assert hide_secrets("x?X-Amz-Signature=abc&y=1") == "x?X-Amz-Signature=***&y=1"
    assert str(ClipmillError(f"no {SECRET}")) == "no ***"
    assert str(ConfigError(f"no {SECRET}", key="a.b")) == "a.b: no ***"
    assert str(StorageError(f"no {KEY_ID}")) == "no ***"


def test_names_of_files_are_no_credentials() -> None:
    for text in (
        "cannot read /data/LibriSpeech100/train/clean/Speaker12/Chapter3: no such file",
        "out/train/Data/Corpus1/Speaker2/Recording33/A is missing",
        "commits/" + "0123456789abcdef" * 4 + ".json",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "Basic electronics, Bearer of news",
        "sk-SK-something-long-recording_0001.wav",
        "you@example.org and s3://bucket/a@b",
    ):
        assert hide_secrets(text) == text
        assert hide_in_data({text: [text]}) == {text: [text]}


def test_short_words_are_hidden_in_messages_only() -> None:
    remember_secrets(secrets_of({"key": "test", "secret": "ab"}))
    assert hide_secrets("user test, latest, ab") == "user ***, latest, ab"
    assert hide_in_data({"split": "test"}) == {"split": "test"}


def test_messages_that_are_cut_are_hidden_before(tmp_path: Path) -> None:
    remember_secrets([SECRET])
    damage = describe_damage(Root(str(tmp_path)), "shards/a", "x" * 180 + SECRET)
    assert SECRET[:12] not in str(damage)


def test_values_that_yaml_reads_as_numbers_are_not_quoted(tmp_path: Path) -> None:
    for value in ("0123456701234567", "12:34:56:12:34", "99999999999999999999999999", "2024-99-99"):
        text = f"name: a\nsources: [{{name: s, root: x, storage_options: {{secret: {value}}}}}]\noutput: {{root: y}}\n"
        path = tmp_path / "c.yaml"
        path.write_text(text)
        done = clipmill_here("plan", path)
        assert value not in done.stdout + done.stderr


def test_notes_hide_it(tmp_path: Path) -> None:
    remember_secrets([SECRET])
    with pytest.raises(ValueError, match="wrong"), BuildNote(Root(str(tmp_path)), [], 0):
        raise ValueError(f"wrong: {SECRET}")
    assert [n.message for n in read_notes(Root(str(tmp_path)))] == ["wrong: ***"]


def test_logs_of_libraries_hide_it() -> None:
    remember_secrets(["hunter2hunter2"])
    record = logging.LogRecord("lib", logging.WARNING, "f", 1, "used %s", ("hunter2hunter2",), None)
    assert _hide_in_record(record)
    assert record.getMessage() == "used ***"


def test_memory_of_secrets_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_values, "_MOST", 10)
    for i in range(30):
        remember_secrets([f"secret-number-{i}"])
    assert hide_secrets("secret-number-29") == "***"
    assert len(secret_values._remembered._values) <= 10
