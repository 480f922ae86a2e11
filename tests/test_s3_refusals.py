"""What the Ceph gateway itself refuses: secrets, keys, buckets, rights. Needs its tool for users: S3_SERVER_DIR, with a ceph.conf in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import remote_hashes, shard_hashes, tone, upload_source, write_audio

from clipmill.pipelines.dataset.records_io import committed_keys
from clipmill.stages.storage.root import Root

CONF = Path(os.environ.get("S3_SERVER_DIR", "")) / "ceph.conf"
OUTPUT = {"formats": ["parquet"], "shard_seconds": 2}

pytestmark = pytest.mark.skipif(
    not shutil.which("radosgw-admin") or not CONF.is_file() or not os.environ.get("S3_ENDPOINT_URL"),
    reason="no Ceph gateway whose users can be changed: set S3_SERVER_DIR to the folder of its ceph.conf",
)


def users(*words: str) -> None:
    subprocess.run(["radosgw-admin", "-c", CONF, *words], check=True, capture_output=True, timeout=60)


class User(NamedTuple):
    """name, access_key, secret : of a user of the gateway who owns nothing."""

    name: str
    access_key: str
    secret: str

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret}


@pytest.fixture
def user() -> Iterator[User]:
    made = User(f"u{uuid.uuid4().hex[:8]}", f"AK{uuid.uuid4().hex[:16].upper()}", uuid.uuid4().hex)
    keys = ["--access-key", made.access_key, "--secret-key", made.secret]
    users("user", "create", "--uid", made.name, "--display-name", "Somebody", *keys)
    yield made
    users("user", "rm", "--uid", made.name, "--purge-data")


@pytest.fixture
def source(tmp_path: Path) -> dict[str, Any]:
    for i in range(40):
        write_audio(tmp_path / f"in/r{i:02}.wav", tone(2.0, 44100, 2, seed=i), 44100)
    segment = {"mode": "window", "length_s": 0.5}
    return {"root": tmp_path / "in", "name": "s", "segment": segment, "bytes_per_second": 44100 * 4}


def allow(bucket: str, endpoint: str, user: User, *actions: str) -> None:
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": [f"arn:aws:iam:::user/{user.name}"]},
        "Action": [f"s3:{a}" for a in actions],
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    Root(f"s3://{bucket}", {"endpoint_url": endpoint}).fs.call_s3("put_bucket_policy", Bucket=bucket, Policy=policy)


def build(config: Path, env: dict[str, str], *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "clipmill", "build", str(config), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def far(bucket: str, endpoint: str) -> dict[str, Any]:
    return {"root": f"s3://{bucket}/out", "storage_options": {"endpoint_url": endpoint}, **OUTPUT}


def refused(config: Path, env: dict[str, str], *said: str) -> None:
    begun = time.monotonic()
    process = build(config, env)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 1, errors
    assert time.monotonic() - begun < 20
    assert "Traceback" not in errors
    for words in said:
        assert words in errors, errors


@pytest.mark.parametrize("of", ["source", "output"])
def test_wrong_keys_buckets_and_rights_are_told_within_seconds(
    of: str, user: User, source: dict[str, Any], bucket: str, endpoint: str, make_config: Callable[..., Path]
) -> None:
    there = upload_source(source, bucket, endpoint)

    def config(bucket: str) -> Path:
        if of == "output":
            return make_config(source, name="test", output=far(bucket, endpoint))
        return make_config({**there, "root": f"s3://{bucket}/in"}, name="test")

    mine = dict(os.environ)
    refused(
        config(bucket), {**mine, "AWS_SECRET_ACCESS_KEY": "wrong"}, f"s3://{bucket}", "secret key does not belong to"
    )
    refused(
        config(bucket), {**mine, "AWS_ACCESS_KEY_ID": "AKNOBODY"}, f"s3://{bucket}", "does not know this access key"
    )
    refused(config("clipmill-no-such-bucket"), mine, "s3://clipmill-no-such-bucket", "the bucket does not exist")
    refused(config(bucket), user.environment, f"s3://{bucket}", "no permission")
    if of == "output":
        allow(bucket, endpoint, user, "ListBucket", "GetObject")
        refused(config(bucket), user.environment, f"cannot write to s3://{bucket}", "no permission")


@pytest.mark.slow  # a store's refusals in mid build are told by what follows, and by test_s3_failures.py
@pytest.mark.parametrize("of", ["source", "output"])
def test_a_key_that_is_withdrawn_in_mid_build_rejects_no_recording(
    of: str, user: User, source: dict[str, Any], bucket: str, endpoint: str, tmp_path: Path, make_config: Callable[..., Path]
) -> None:  # fmt: skip
    there = upload_source(source, bucket, endpoint)
    here = {"root": str(tmp_path / "out"), **OUTPUT}
    allow(bucket, endpoint, user, "ListBucket", "GetObject", "PutObject", "DeleteObject", "ListBucketMultipartUploads")
    if of == "source":
        config, out = make_config(there, name="test", output=here), Root(here["root"])
    else:
        config, out = (
            make_config(there, name="test", output=far(bucket, endpoint)),
            Root(
                f"s3://{bucket}/out", {"endpoint_url": endpoint, "key": user.access_key, "secret": user.secret}
            ),  # what a user writes is that user's
        )
    process = build(config, user.environment, "--workers", "2")
    deadline = time.monotonic() + 300
    while len(committed_keys(out)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    users("key", "rm", "--uid", user.name, "--key-type", "s3", "--access-key", user.access_key)
    try:
        withdrawn = time.monotonic()
        said, errors = process.communicate(timeout=240)
        assert time.monotonic() - withdrawn < 120
    finally:
        users("key", "create", "--uid", user.name, "--key-type", "s3", "--access-key", user.access_key, "--secret-key", user.secret)  # fmt: skip
    assert process.returncode == 1, (said, errors)
    assert "Traceback" not in errors
    assert (
        "does not know this access key" in errors or "no permission" in errors
    )  # the gateway says either, while a key goes
    assert f"s3://{bucket}" in errors
    again = build(config, user.environment)
    _, errors = again.communicate(timeout=240)
    assert again.returncode == 0, errors
    undisturbed = make_config(there, name="test", output={"root": str(tmp_path / "undisturbed"), **OUTPUT})
    assert build(undisturbed, dict(os.environ)).wait(timeout=240) == 0
    hashes = shard_hashes(tmp_path / "out") if of == "source" else remote_hashes(out)
    assert hashes == shard_hashes(tmp_path / "undisturbed") != {}


@pytest.mark.parametrize(
    "from_the_start", [pytest.param(True, marks=pytest.mark.slow), pytest.param(False, marks=pytest.mark.slow)]
)
def test_reading_that_is_not_allowed_any_more_rejects_no_recording(
    from_the_start: bool, user: User, source: dict[str, Any], bucket: str, endpoint: str, tmp_path: Path, make_config: Callable[..., Path]
) -> None:  # fmt: skip
    there = upload_source(source, bucket, endpoint)
    config = make_config(there, name="test", output={"root": str(tmp_path / "out"), **OUTPUT})
    allow(bucket, endpoint, user, "ListBucket", *([] if from_the_start else ["GetObject"]))
    process = build(config, user.environment, "--workers", "2")
    if not from_the_start:
        deadline = time.monotonic() + 120
        while len(committed_keys(Root(str(tmp_path / "out")))) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        allow(bucket, endpoint, user, "ListBucket")
    said, errors = process.communicate(timeout=240)
    assert process.returncode == 1, (said, errors)
    assert "Traceback" not in errors
    assert f"cannot read s3://{bucket}/in/" in errors
    assert "no permission" in errors
    allow(bucket, endpoint, user, "ListBucket", "GetObject")
    process = build(config, user.environment, "--json")
    said, errors = process.communicate(timeout=240)
    assert process.returncode == 0, (said, errors)
    assert json.loads(said)["snapshot"]["counts"]["recordings_rejected"] == 0


def test_who_may_not_look_for_left_over_uploads_can_build(
    user: User, source: dict[str, Any], bucket: str, endpoint: str, make_config: Callable[..., Path]
) -> None:
    allow(bucket, endpoint, user, "ListBucket", "GetObject", "PutObject", "DeleteObject")
    process = build(make_config(source, name="test", output=far(bucket, endpoint)), user.environment)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
