"""Name the files of a dataset. `clipmill.schemas.records` defines their content.

::

    dataset.json                           format version and name, written once
    shards/<split>/<split>-<partition>-<key12>.parquet | .tar
    features/<split>/<split>-<partition>-<key12>.parquet    what lies beside a shard; then that is named by its sha256
    commits/<key>.json                     a shard is committed when this exists
    commits/<key>.manifest.parquet, <key>.recordings.parquet    its part of the manifest, and its recordings
    commits/<key>.dropped.parquet          clips that `keep` dropped, with what was measured of them; only if there are any
    builds/<id>.json                       what a build does, and its heartbeat; see `clipmill.pipelines.dataset.notes`
    builds/rejections.parquet              of the last build that was not published
    retries.json                           which rejected recordings were tried again, and how often
    forgotten.json                         salted hashes of recordings that must never be used again; see `clipmill.schemas.forgotten`
    annotations/kept.json                  which of the following are valid; see `clipmill.pipelines.dataset.kept_parts`
    annotations/rows-<sha256>.parquet      what annotation files gave when they were read, by their versions
    annotations/items-<sha256>.parquet     the rows of the plan that followed from them. Both can be deleted at any time
    snapshots/000001.json                  which shards make up the dataset; written last
    snapshots/000001/manifest.parquet, rejections.parquet, duplicates.parquet
    index/<split>-<prefix>-<digest16>.<table>.parquet    parts of the index and the manifest, which snapshots share; see `clipmill.schemas.index`
    damaged/<key12>.json                   a file that was found to be damaged, for the next build to repair
    generations.json                       how often damaged shards were rebuilt with different bytes
"""

from __future__ import annotations

import re

FORMAT_VERSION = 2
"""Version of the records. 1: records without digests, and a snapshot without an index; they are read, and the next build brings them up to date."""
DATASET_FILE = "dataset.json"
BUILDS = "builds"
REJECTED_FILE = f"{BUILDS}/rejections.parquet"
RETRIES_FILE = "retries.json"
FORGOTTEN_FILE = "forgotten.json"
GENERATIONS_FILE = "generations.json"
COMMITS = "commits"
INDEX = "index"
DAMAGED = "damaged"
SNAPSHOTS = "snapshots"
KEPT = "annotations"
KEPT_LIST = f"{KEPT}/kept.json"
OWN_FILES = re.compile(
    r"shards/(\w+)/\1-b[01]*-[0-9a-f]{12}\.(parquet|tar)|features/(\w+)/\3-b[01]*-[0-9a-f]{12}\.parquet|commits/[0-9a-f]{64}\.(json|(manifest|recordings|dropped)\.parquet)"
    r"|index/\w+-b[01]*-[0-9a-f]{16}\.[a-z]+\.parquet"
    r"|snapshots/\d{6}(\.json|/(manifest|rejections|duplicates)\.parquet)|builds/rejections\.parquet"
    r"|annotations/(kept\.json|(rows|items|table)-[0-9a-f]{64}\.parquet)"
)
"""Names of the files that clipmill writes. Files with other names belong to somebody else and are not touched."""
EXTENSIONS = {"parquet": "parquet", "webdataset": "tar"}
"""Extensions of the files that hold clips, by format."""
SHARDS, BESIDE = "shards", "features"
"""Folders of the files that hold clips, and of those with what is computed from clips, where that lies beside them. The second is also
the format of its files in records."""
PAYLOAD = frozenset({*EXTENSIONS, BESIDE})
"""Formats of the files that are a shard; the others are tables about it."""


def shard_path(split: str, partition: str, key: str, extension: str) -> str:
    """Return the path of a shard's file, relative to the root."""
    return f"{SHARDS}/{split}/{split}-{partition}-{key[:12]}.{extension}"


def beside_path(split: str, partition: str, key: str) -> str:
    """Return the path of the file with what lies beside a shard's audio, relative to the root."""
    return f"{BESIDE}/{split}/{split}-{partition}-{key[:12]}.parquet"


def commit_path(key: str) -> str:
    """Return the path of a shard's record."""
    return f"{COMMITS}/{key}.json"


def commit_manifest_path(key: str) -> str:
    """Return the path of a shard's part of the manifest."""
    return f"{COMMITS}/{key}.manifest.parquet"


def commit_recordings_path(key: str) -> str:
    """Return the path of the table of a shard's recordings."""
    return f"{COMMITS}/{key}.recordings.parquet"


def commit_dropped_path(key: str) -> str:
    """Return the path of the table of clips that `keep` dropped from a shard."""
    return f"{COMMITS}/{key}.dropped.parquet"


def index_path(split: str, prefix: str, sha256: str, table: str) -> str:
    """Return the path of a table of a part of the index. sha256 : of the file"""
    return f"{INDEX}/{split}-{prefix}-{sha256[:16]}.{table}.parquet"


def kept_path(kind: str, sha256: str) -> str:
    """Return the path of a part of what annotation files gave. kind : rows | items | table; sha256 : of the file"""
    return f"{KEPT}/{kind}-{sha256}.parquet"


def snapshot_name(number: int) -> str:
    """Return a snapshot's number as six digits."""
    return f"{number:06d}"


def snapshot_path(number: int) -> str:
    """Return the path of a snapshot's record."""
    return f"{SNAPSHOTS}/{snapshot_name(number)}.json"


Retries = dict[str, tuple[str, int]]
"""By item id: the version that was rejected, and how many times it was tried again."""
