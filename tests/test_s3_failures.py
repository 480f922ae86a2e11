"""What a build does when the store that it reads from, or writes to, fails: every failure comes from a proxy before a real server."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import clipmill_here, kill_tree, remote_hashes, shard_hashes, tone, upload_source, write_audio
from s3_proxy import Proxy, before

from clipmill.pipelines.config_file import load
from clipmill.pipelines.plan.planning import make_plan
from clipmill.pipelines.run.build import build
from clipmill.stages.storage.objects import ObjectChangedError, ObjectStream
from clipmill.stages.storage.root import Root

OUTPUT = {"formats": ["parquet", "webdataset"], "shard_seconds": 2}


@pytest.fixture
def proxied(endpoint: str) -> Iterator[tuple[str, Proxy]]:
    with before(endpoint) as found:
        yield found


@pytest.fixture
def source(tmp_path: Path) -> dict[str, Any]:
    for i in range(6):
        write_audio(tmp_path / f"in/r{i}.wav", tone(1.0, 16000, seed=i), 16000)
    return {
        "root": tmp_path / "in",
        "name": "s",
        "segment": {"mode": "window", "length_s": 0.25},
        "bytes_per_second": 32000,
    }


def clipmill(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clipmill", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, timeout=240, check=False)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let this process and the decoding process wait less before they try again: these tests are about how often, not how long."""
    monkeypatch.setattr("clipmill.stages.storage.patience.FIRST_WAIT_S", 0.01)
    (tmp_path / "site").mkdir()
    told = "from clipmill.stages.storage import patience\npatience.FIRST_WAIT_S = 0.01\n"
    (tmp_path / "site/sitecustomize.py").write_text(told)
    monkeypatch.syspath_prepend(tmp_path / "site")


def far(bucket: str, endpoint: str, **more: Any) -> dict[str, Any]:
    return {"root": f"s3://{bucket}/out", "storage_options": {"endpoint_url": endpoint, **more}, **OUTPUT}


def test_a_store_that_refuses_most_requests_changes_nothing(
    source: dict[str, Any],
    bucket: str,
    proxied: tuple[str, Proxy],
    tmp_path: Path,
    make_config: Callable[..., Path],
    in_process: None,
    short_waits: None,
) -> None:
    address, proxy = proxied
    there = upload_source(source, bucket, address)
    here = make_config(there, name="test", output={"root": str(tmp_path / "out"), **OUTPUT})
    assert build(load(here), quiet=True).status == "published"
    proxy.rule = lambda method, path, n: (503, "SlowDown") if n % 5 < 3 else None
    report = build(load(make_config(there, name="test", output=far(bucket, address))), quiet=True)
    assert (report.status, report.failures) == ("published", [])
    proxy.rule = lambda *_: None
    assert remote_hashes(Root(f"s3://{bucket}/out", {"endpoint_url": address})) == shard_hashes(tmp_path / "out") != {}


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "SignatureDoesNotMatch", "secret"),
        (403, "InvalidAccessKeyId", "access key"),
        (403, "AccessDenied", "permission"),
        (404, "NoSuchBucket", "bucket"),
        (400, "ExpiredToken", "expired"),
        (403, "RequestTimeTooSkewed", "clock"),
    ],
)
def test_what_waiting_does_not_mend_is_told_at_once(
    status: int,
    code: str,
    said: str,
    source: dict[str, Any],
    bucket: str,
    proxied: tuple[str, Proxy],
    make_config: Callable[..., Path],
) -> None:
    address, proxy = proxied
    proxy.rule = lambda *_: (status, code)
    there = {**source, "root": f"s3://{bucket}/in", "storage_options": {"endpoint_url": address}}
    for config in (make_config(source, name="out", output=far(bucket, address)), make_config(there, name="in")):
        begun = time.monotonic()
        done = clipmill_here("build", config)
        assert done.returncode == 1, done.stderr
        assert time.monotonic() - begun < 30
        assert "Traceback" not in done.stderr
        assert bucket in done.stderr
        assert said in done.stderr, done.stderr


def test_nothing_listens(source: dict[str, Any], make_config: Callable[..., Path], short_waits: None) -> None:
    done = clipmill_here("build", make_config(source, output=far("nowhere", "http://127.0.0.1:9")))
    assert done.returncode == 1
    assert "s3://nowhere/out" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_credentials(
    source: dict[str, Any], make_config: Callable[..., Path], endpoint: str, bucket: str, tmp_path: Path
) -> None:
    env = {n: v for n, v in os.environ.items() if not n.startswith("AWS_")}
    command = [
        sys.executable,
        "-m",
        "clipmill",
        "build",
        str(make_config(source, output=far(bucket, endpoint))),
    ]
    env |= {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    begun = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300, check=False)
    assert done.returncode == 1, done.stderr
    assert time.monotonic() - begun < 30
    assert "credentials" in done.stderr
    assert "Traceback" not in done.stderr


def test_credentials_that_expire_in_mid_build_stop_it_and_the_next_build_ends_it(
    source: dict[str, Any], bucket: str, proxied: tuple[str, Proxy], tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    address, proxy = proxied
    config = make_config(source, name="test", output=far(bucket, address))
    proxy.rule = lambda method, path, n: (400, "ExpiredToken") if "/out/shards/" in path and n > 40 else None
    done = clipmill_here("build", config)
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert "expired" in done.stderr
    assert "Traceback" not in done.stderr
    proxy.rule = lambda *_: None
    done = clipmill_here("build", config)
    assert done.returncode == 0, done.stderr
    done = clipmill_here("build", make_config(source, name="test", output={"root": str(tmp_path / "out"), **OUTPUT}))
    assert done.returncode == 0
    assert remote_hashes(Root(f"s3://{bucket}/out", {"endpoint_url": address})) == shard_hashes(tmp_path / "out") != {}


def test_credentials_that_expire_while_recordings_are_read_reject_none(
    source: dict[str, Any], bucket: str, proxied: tuple[str, Proxy], tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    address, proxy = proxied
    there = upload_source(source, bucket, address)
    config = make_config(there, name="test", output={"root": str(tmp_path / "out"), **OUTPUT})
    proxy.rule = lambda method, path, n: (400, "ExpiredToken") if "/in/r" in path and len(reads(proxy)) > 3 else None
    done = clipmill_here("build", config)
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert "expired" in done.stderr
    assert "Traceback" not in done.stderr
    proxy.rule = lambda *_: None
    done = clipmill_here("build", config, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["snapshot"]["counts"]["recordings_rejected"] == 0


def reads(proxy: Proxy) -> list[str]:
    return [path for method, path, _ in proxy.seen if method == "GET" and "/in/r" in path]


@pytest.mark.parametrize("closed", [False, True])
def test_one_recording_that_may_not_be_read_is_rejected_and_a_closed_store_rejects_none(
    closed: bool, source: dict[str, Any], bucket: str, proxied: tuple[str, Proxy], tmp_path: Path, make_config: Callable[..., Path]
) -> None:  # fmt: skip
    address, proxy = proxied
    there = upload_source(source, bucket, address)
    limits = {"max_rejected_share": 1}
    config = make_config(there, name="test", output={"root": str(tmp_path / "out"), **OUTPUT}, limits=limits)

    def rule(method: str, path: str, n: int) -> tuple[int, str] | None:
        listed_before = len(reads(proxy)) > 2
        return (403, "AccessDenied") if "/in/r3" in path or (closed and listed_before and "/in/r" in path) else None

    proxy.rule = rule
    done = clipmill_here("build", config, "--json")
    if closed:
        assert done.returncode == 1
        assert "no permission" in done.stdout  # where --json tells it
    else:
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["snapshot"]["counts"]["rejected"] == {"unreadable": 1}


def test_uploads_of_others_are_left_alone(
    source: dict[str, Any], bucket: str, endpoint: str, make_config: Callable[..., Path], in_process: None
) -> None:
    output = {**far(bucket, endpoint), "root": f"s3://{bucket}"}
    root = Root(f"s3://{bucket}", {"endpoint_url": endpoint})
    mine = f"shards/train/train-b-{'0' * 12}.parquet"
    for key in ("someone-elses/backup.bin", mine):
        made = root.fs.call_s3("create_multipart_upload", Bucket=bucket, Key=key)
        root.fs.call_s3("upload_part", Bucket=bucket, Key=key, UploadId=made["UploadId"], PartNumber=1, Body=b"x")
    assert build(load(make_config(source, output=output)), quiet=True).status == "published"
    assert [name.split("?")[0] for name in root.leftovers()] == ["someone-elses/backup.bin"]
    assert clipmill("gc", f"s3://{bucket}", "--delete", FSSPEC_S3_ENDPOINT_URL=endpoint).returncode == 0
    assert len(root.leftovers()) == 1


def test_keys_that_are_no_paths_cost_themselves(
    source: dict[str, Any], bucket: str, endpoint: str, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    there = upload_source(source, bucket, endpoint)
    content = (tmp_path / "in/r0.wav").read_bytes()
    store = Root(f"s3://{bucket}", {"endpoint_url": endpoint})
    for key in ("in//lead.wav", "in/a//b.wav", "in/q?versionId=abc.wav"):
        store.fs.call_s3("put_object", Bucket=bucket, Key=key, Body=content)
    limits = {"max_rejected_share": 1}
    done = clipmill_here(
        "build",
        make_config(there, name="test", output={"root": str(tmp_path / "out"), **OUTPUT}, limits=limits),
        "--json",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout)["snapshot"]["counts"]
    assert (counts["recordings_used"], counts["rejected"]) == (8, {"bad_name": 1})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"endpoint_url": "127.0.0.1:99"}, "is like https://host:port"),
        ({"endpoint_url": ""}, "is like https://host:port"),
        ({"secert": "HIDDEN"}, "there is no option 'secert'"),
        ({"client_kwargs": {"aws_secret_acess_key": "HIDDEN"}}, "check storage_options"),
        ({"client_kwargs": "HIDDEN"}, "check storage_options"),
        ({"config_kwargs": {"secret": "HIDDEN"}}, "check storage_options"),
        ({"config_kwargs": "HIDDEN"}, "check storage_options"),
        ({"profile": "HIDDEN"}, "check AWS_PROFILE"),
        ({"key": "A\nHIDDEN", "secret": "b"}, "s3://"),
        ({"endpoint_url": "http://HIDDEN:pw@127.0.0.1:1"}, "s3://"),
    ],
)
@pytest.mark.parametrize("as_json", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_wrong_options_are_told_without_their_values(
    as_json: bool,
    options: dict[str, Any],
    said: str,
    source: dict[str, Any],
    bucket: str,
    make_config: Callable[..., Path],
    short_waits: None,
) -> None:
    output = {"root": f"s3://{bucket}/out", "storage_options": options, **OUTPUT}
    done = clipmill_here("build", make_config(source, output=output), *(["--json"] if as_json else []))
    assert done.returncode in (1, 2), done.stderr
    told = json.loads(done.stdout)["error"] if as_json else done.stderr
    assert said in told
    assert "Traceback" not in done.stdout + done.stderr
    assert "HIDDEN" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "root", ["s3://AK:HIDDEN@out/a", "http://h/x?X-Amz-Signature=HIDDEN", "s3://raw/in?versionId=HIDDEN"]
)
def test_addresses_with_secrets_are_refused_without_showing_them(
    root: str, source: dict[str, Any], make_config: Callable[..., Path]
) -> None:
    for done in (
        clipmill_here("show", root),
        clipmill_here("status", root, "--json"),
        clipmill_here("build", make_config(source, output={"root": root})),
        clipmill_here("build", make_config({**source, "root": root}), "--json"),
    ):
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert "HIDDEN" not in done.stdout + done.stderr


def test_an_upload_in_parts_appears_whole_or_not_at_all(bucket: str, proxied: tuple[str, Proxy]) -> None:
    address, proxy = proxied
    root = Root(f"s3://{bucket}/x", {"endpoint_url": address})
    content = os.urandom(21 << 20)
    with root.write("whole") as stream:
        for start in range(0, len(content), 3 << 20):
            stream.write(content[start : start + (3 << 20)])
    assert root.read_bytes("whole") == content
    proxy.rule = lambda method, path, n: (403, "AccessDenied") if "partNumber=2" in path else None
    with pytest.raises(PermissionError), root.write("broken") as stream:
        stream.write(content[: 8 << 20])
        stream.write(content[: 8 << 20])
        stream.write(content[: 8 << 20])
    proxy.rule = lambda *_: None
    with pytest.raises(KeyError), root.write("left") as stream:
        stream.write(content)
        raise KeyError
    assert root.sizes("") == {"whole": len(content)}
    assert root.leftovers() == {}
    with pytest.raises(FileExistsError), root.write("whole", replace=False) as stream:
        stream.write(content)
    assert root.leftovers() == {}


def test_what_a_killed_writer_left_is_cleared_by_the_next_build(
    source: dict[str, Any], bucket: str, endpoint: str, make_config: Callable[..., Path], in_process: None
) -> None:
    program = (
        "import os, sys; from clipmill.stages.storage.root import Root\n"
        "with Root(sys.argv[1], {'endpoint_url': sys.argv[2]}).write('shards/train/train-b-000000000000.tar') as stream:\n"
        "    stream.write(os.urandom(9 << 20)); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, f"s3://{bucket}/out", endpoint], check=False)
    root = Root(f"s3://{bucket}/out", {"endpoint_url": endpoint})
    assert list(root.leftovers().values()) == [9 << 20] or len(root.leftovers()) == 1
    assert build(load(make_config(source, output=far(bucket, endpoint))), quiet=True).status == "published"
    assert root.leftovers() == {}


def test_an_object_that_is_exchanged_while_it_is_read(bucket: str, endpoint: str) -> None:
    root = Root(f"s3://{bucket}", {"endpoint_url": endpoint})
    root.write_bytes("a", bytes(3 << 20))
    stream = root.open_read("a", whole=False)
    assert isinstance(stream, ObjectStream)
    assert stream.read(10) == bytes(10)
    root.write_bytes("a", b"1" * (3 << 20))
    stream.seek(2 << 20)
    with pytest.raises(ObjectChangedError):
        stream.read(10)


def test_streams_give_what_is_there(bucket: str, endpoint: str) -> None:
    root = Root(f"s3://{bucket}", {"endpoint_url": endpoint})
    content = os.urandom(5 << 20)
    root.write_bytes("a", content)
    root.write_bytes("empty", b"")
    chance = random.Random(0)
    for whole in (True, False):
        with root.open_read("empty", whole) as stream:
            assert stream.read() == b""
        with root.open_read("a", whole) as stream:
            for _ in range(100):
                start, n = chance.randrange(len(content) + 100), chance.choice([1, 7, 4096, 300_000, 2 << 20])
                assert stream.seek(start) == start
                assert stream.read(n) == content[start : start + n]
            assert stream.seek(-10, 2) == len(content) - 10
            assert stream.read() == content[-10:]
    with pytest.raises(FileNotFoundError), root.open_read("nothing") as stream:
        stream.read(1)


def test_only_what_is_needed_is_asked_for(
    bucket: str, proxied: tuple[str, Proxy], tmp_path: Path, make_config: Callable[..., Path], in_process: None
) -> None:
    address, proxy = proxied
    corpus = Root(f"s3://{bucket}/in", {"endpoint_url": address})
    n_bytes = 0
    for name in ("long.wav", "long.flac"):
        path = write_audio(tmp_path / name, tone(180.0, 44100, 2), 44100)
        corpus.write_bytes(name, path.read_bytes())
        corpus.write_bytes(f"{path.stem}.csv", b"30.0,31.0,a\n120.0,122.0,b\n")
        n_bytes += path.stat().st_size
    sidecar = {"sidecar": "{stem}.csv", "header": False, "columns": {"start": 0, "end": 1, "label": 2}}
    there = {"root": corpus.url, "storage_options": dict(corpus.storage_options), "annotations": sidecar}
    proxy.seen.clear()
    report = build(load(make_config(there, output={"root": str(tmp_path / "out")})), quiet=True)
    assert report.snapshot is not None
    assert report.snapshot.counts.clips_kept == 4
    asked = [(m, p, r) for m, p, r in proxy.seen if ".wav" in p or ".flac" in p]
    assert {m for m, _, _ in asked} == {"GET"}
    spans = [r.removeprefix("bytes=").split("-") for _, _, r in asked]
    assert sum(int(b) - int(a) for a, b in spans) < n_bytes / 4


def test_no_request_for_each_object_to_plan_and_one_to_read_it(
    source: dict[str, Any],
    bucket: str,
    proxied: tuple[str, Proxy],
    make_config: Callable[..., Path],
    tmp_path: Path,
    in_process: None,
) -> None:
    address, proxy = proxied
    there = upload_source(source, bucket, address)
    file = load(make_config(there, output={"root": str(tmp_path / "out")}))
    proxy.seen.clear()
    make_plan(file.config)
    assert len(proxy.seen) < 4
    build(file, quiet=True)
    asked = [p.split("?")[0] for _, p, _ in proxy.seen if p.split("?")[0].endswith(".wav")]
    assert sorted(asked) == sorted(set(asked))
    assert len(asked) == 6


@pytest.mark.parametrize("workers", [[], pytest.param(["--workers", "1"], marks=pytest.mark.slow)])
def test_an_interrupted_build_ends_though_the_store_hangs(
    workers: list[str],
    source: dict[str, Any],
    bucket: str,
    proxied: tuple[str, Proxy],
    make_config: Callable[..., Path],
) -> None:
    address, proxy = proxied
    hanging, going_on = threading.Event(), threading.Event()

    def hang(method: str, path: str, n: int) -> None:
        if "/out/shards/" in path and method == "PUT":
            hanging.set()
        if hanging.is_set():
            going_on.wait(200)

    proxy.rule = hang
    config = make_config(source, name="test", output=far(bucket, address))
    process = subprocess.Popen(
        [sys.executable, "-m", "clipmill", "build", str(config), *workers],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert hanging.wait(120)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    try:
        _, said = process.communicate(timeout=300)
    finally:
        going_on.set()
        if process.poll() is None:
            kill_tree(process)
    assert time.monotonic() - begun < 30
    assert process.returncode == 1
    assert b"interrupted; what is committed is kept" in said
    assert b"Traceback" not in said
