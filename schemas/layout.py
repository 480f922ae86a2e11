"""The files of a dataset: where they are, and how its records are found. What stands in them is `clipmill.schemas.records`.

::

    dataset.json                           format version and name, written once
    shards/<split>/<split>-<partition>-<key12>.parquet | .tar
    commits/<key>.json                     a shard is there when this is; beside it its part of the manifest,
                                           <key>.manifest.parquet, and its recordings, <key>.recordings.parquet
    builds/<id>.json                       what a build set out to do, and its sign of life; see `clipmill.pipelines.dataset.notes`
    builds/rejections.parquet              of the last build that was not published
    retries.json                           which rejected recordings were tried again, and how often
    forgotten.json                         salted hashes of recordings that are never to be used again; see `clipmill.schemas.forgotten`
    snapshots/000001.json                  which shards make up the dataset; appears last
    snapshots/000001/manifest.parquet, rejections.parquet
"""

from __future__ import annotations

import re

DATASET_FILE = "dataset.json"
BUILDS = "builds"
REJECTED_FILE = f"{BUILDS}/rejections.parquet"
RETRIES_FILE = "retries.json"
FORGOTTEN_FILE = "forgotten.json"
COMMITS = "commits"
SNAPSHOTS = "snapshots"
OWN_FILES = re.compile(
    r"shards/(\w+)/\1-b[01]*-[0-9a-f]{12}\.(parquet|tar)|commits/[0-9a-f]{64}\.(json|(manifest|recordings)\.parquet)"
    r"|snapshots/\d{6}(\.json|/(manifest|rejections)\.parquet)|builds/rejections\.parquet"
)
"""Names that clipmill gives. What is called otherwise was put there by somebody else, and is not touched."""
EXTENSIONS = {"parquet": "parquet", "webdataset": "tar"}


def shard_path(split: str, partition: str, key: str, extension: str) -> str:
    return f"shards/{split}/{split}-{partition}-{key[:12]}.{extension}"


def commit_path(key: str) -> str:
    return f"{COMMITS}/{key}.json"


def commit_manifest_path(key: str) -> str:
    return f"{COMMITS}/{key}.manifest.parquet"


def commit_recordings_path(key: str) -> str:
    return f"{COMMITS}/{key}.recordings.parquet"


def snapshot_name(number: int) -> str:
    return f"{number:06d}"


def snapshot_path(number: int) -> str:
    return f"{SNAPSHOTS}/{snapshot_name(number)}.json"


Retries = dict[str, tuple[str, int]]
"""By item id: the version that was rejected, and how often it was tried again."""
