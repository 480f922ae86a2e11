"""Hub: a snapshot as a dataset repository on the Hugging Face Hub, in one commit; a dry run unless it is told to push."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from clipmill.pipelines.exports import Export
from clipmill.pipelines.exports.export_format import Format
from clipmill.pipelines.exports.huggingface import card, check_splits
from clipmill.pipelines.exports.public_shards import sha256_of_file, write_shard
from clipmill.schemas.config.model import Frozen
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.schemas.export_marks import CARD_FILE, CARD_MARK
from clipmill.schemas.layout import OWN_FILES
from clipmill.schemas.plural import counted
from clipmill.schemas.records import OutputFile
from clipmill.schemas.secret_values import hide_secrets, remember_secrets


class HubOptions(Frozen):
    """The options of `hub`."""

    push: bool = Field(False, description="upload; --push is the same")
    private: bool = Field(True, description="whether a repository that is made is private")
    license: str = Field(
        "", pattern=r"^[a-z0-9.\-]*$", description="name of a license as the Hub has it, such as cc-by-4.0"
    )
    source_uris: Literal["remove", "keep"] = Field(
        "remove", description="whether shards keep the addresses of recordings; keep: shards byte for byte"
    )
    card: Literal["write", "keep"] = Field("write", description="keep: leave the repository's README.md as it is")


FORMAT = Format(
    "a dataset repository on the Hugging Face Hub, with a card; only says what it would do without --push",
    place="service",
    address="USER/NAME",
    whole_shards=True,
    options=HubOptions,
    needs={"huggingface_hub": "hub"},
)

RECORD = "clipmill.json"
"""File of a repository that says what was pushed: for each shard its own sha256, and that of the repository's file."""
_TYPE = "dataset"


@dataclass(frozen=True)
class _Change:
    """What a commit would do.

    outputs : all shards of the snapshot, by path; new : those that the repository lacks
    gone : paths that the snapshot no longer has; small : content of other files that change, by path
    """

    outputs: dict[str, OutputFile]
    new: list[OutputFile]
    gone: list[str]
    small: dict[str, bytes]


@dataclass
class _Repository:
    """What a repository holds now. commit : None where it does not exist; lfs : sha256 of large files; record : see `RECORD`"""

    commit: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    lfs: dict[str, str] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    has_foreign_card: bool = False


def check(asked: Export) -> None:
    """Raise a ClipmillError where the name is none of a repository, or the shards are none that `datasets` reads."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", asked.address):
        raise ConfigError(
            f"--to {asked.address}: expected {FORMAT.address}, the name of a dataset repository", code="usage"
        )
    check_splits(asked)
    for split in asked.splits:
        asked.published.shards(split)


def export(asked: Export) -> list[str]:
    """Bring a repository to the snapshot: add shards that it lacks, remove those of other snapshots, write the card and `RECORD`.

    All of it is one commit. Files are uploaded before, one after the other, and the Hub keeps them: after an interruption those that it has
    are not uploaded again. The token is the one of `hf auth login` or HF_TOKEN.

    Raises
    ------
    ClipmillError : the Hub refuses or cannot be reached, its README.md is not one that clipmill wrote, or a shard is damaged
    """
    from httpx2 import HTTPError
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import EntryNotFoundError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if token := get_token():
        remember_secrets([token])
    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
    options = asked.read_options(HubOptions)
    try:
        return _bring(asked, options, api)
    except ClipmillError:
        raise
    except (HTTPError, OSError, ValueError, RuntimeError, EntryNotFoundError) as error:
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        why = hide_secrets(" ".join(str(cause).split()))[:300] or type(cause).__name__
        raise ClipmillError(
            f"{asked.address}: {api.endpoint} did not do it: {why}; what was uploaded is kept there, so run it again. `hf auth login` or"
            " HF_TOKEN gives a token that may write"
        ) from None


def _bring(asked: Export, options: HubOptions, api: Any) -> list[str]:
    repository = _look(asked, options, api)
    keeps = options.source_uris == "keep"
    outputs = {f.path: f for split in asked.splits for f in asked.published.shards(split)}
    new = [output for path, output in outputs.items() if not _has(repository, output, keeps)]
    gone = sorted(
        p for p in repository.files if OWN_FILES.fullmatch(p) and p.startswith("shards/") and p not in outputs
    )
    patterns = {split: f"shards/{split}/*.parquet" for split in asked.splits}
    text = "".join(f"{line}\n" for line in card(asked, patterns, options.license)).encode()
    small = {CARD_FILE: text} if options.card == "write" else {}
    small = {path: content for path, content in small.items() if repository.files.get(path) != _blob_id(content)}
    change = _Change(outputs, new, gone, small)
    _note(asked, options, repository, change)
    where = f"{api.endpoint}/datasets/{asked.address}"
    if not (new or gone or small):
        asked.notes.append(f"{where} has this snapshot already, so there is no new commit")
        return [where]
    if not options.push:
        _plan(asked, options, repository, where, change)
        return []
    if repository.commit is None:
        api.create_repo(asked.address, repo_type=_TYPE, private=options.private)
    _push(asked, options, api, repository, change)
    return [where]


def _look(asked: Export, options: HubOptions, api: Any) -> _Repository:
    """Return what the repository holds."""
    from huggingface_hub import RepoFile
    from huggingface_hub.errors import RepositoryNotFoundError

    found = _Repository()
    try:
        found.commit = api.repo_info(asked.address, repo_type=_TYPE).sha
    except RepositoryNotFoundError:
        return found
    if found.commit is None:
        return found
    for entry in api.list_repo_tree(asked.address, repo_type=_TYPE, recursive=True, revision=found.commit):
        if isinstance(entry, RepoFile):
            found.files[entry.path] = entry.blob_id
            if entry.lfs is not None:
                found.lfs[entry.path] = entry.lfs.sha256
    with tempfile.TemporaryDirectory() as folder:

        def content(path: str) -> bytes:
            at = {"repo_type": _TYPE, "revision": found.commit, "cache_dir": folder}
            return Path(api.hf_hub_download(asked.address, path, **at)).read_bytes()

        if RECORD in found.files:
            try:
                record = json.loads(content(RECORD))
                found.record = record["shards"] if isinstance(record["shards"], dict) else {}
            except (ValueError, KeyError, TypeError):
                asked.notes.append(f"{RECORD} of the repository cannot be read, so all shards are uploaded again")
        if CARD_FILE in found.files and options.card == "write" and CARD_MARK.encode() not in content(CARD_FILE):
            raise ClipmillError(
                f"{asked.address}: its README.md is not one that clipmill wrote: give --option card=keep to leave it, or remove it there"
            )
    return found


def _has(repository: _Repository, output: OutputFile, keeps: bool) -> bool:
    """Whether a repository has a shard as it is to be there."""
    there = repository.lfs.get(output.path)
    if keeps or there is None:
        return there == output.sha256
    entry = repository.record.get(output.path)
    return (
        isinstance(entry, dict) and entry.get("shard") == output.sha256 and entry.get("file") == there != output.sha256
    )


def _note(asked: Export, options: HubOptions, repository: _Repository, change: _Change) -> None:
    if not options.license and options.card == "write":
        asked.notes.append("the card names no license; give --option license=..., as in cc-by-4.0")
    if options.source_uris == "keep":
        asked.notes.append("shards keep the column source_uri, by which others see where your recordings are")
    if options.card == "keep" and CARD_FILE not in repository.files:
        asked.notes.append(
            "the repository has no README.md, and gets none with card=keep; datasets then guesses the splits"
        )
    if repository.commit is None:
        asked.notes.append(
            f"the repository does not exist, or not for this token; --push makes it, {'private' if options.private else 'public'}"
        )
    if n := len(change.outputs) - len(change.new):
        asked.notes.append(
            f"{counted(n, 'shard')} of {len(change.outputs):,} {'is' if n == 1 else 'are'} in the repository already"
        )


def _plan(asked: Export, options: HubOptions, repository: _Repository, where: str, change: _Change) -> None:
    new, gone = change.new, change.gone
    total = sum(output.size_bytes for output in new)
    asked.planned.append(
        f"would commit to {where}: {counted(len(new), 'shard')} added ({_mb(total)}), {counted(len(gone), 'shard')} removed"
    )
    asked.planned.extend(f"add     {output.path}  {_mb(output.size_bytes)}" for output in new)
    asked.planned.extend(f"remove  {path}" for path in gone)
    for path in sorted({*change.small, RECORD}):
        asked.planned.append(f"{'change' if path in repository.files else 'add   '}  {path}")
    asked.notes.append("nothing was uploaded; --push does it")
    if new and options.source_uris == "remove":
        asked.notes.append(
            "sizes are those of the dataset's shards; without the addresses of recordings, files are a little smaller"
        )


def _push(asked: Export, options: HubOptions, api: Any, repository: _Repository, change: _Change) -> None:
    outputs, small = change.outputs, dict(change.small)
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    operations: list[Any] = [CommitOperationDelete(path_in_repo=path) for path in change.gone]
    record = {path: entry for path, entry in repository.record.items() if path in outputs}
    with tempfile.TemporaryDirectory() as folder:
        for i, output in enumerate(change.new):
            path = Path(folder, f"{i}.parquet")
            write_shard(asked, output, path, options.source_uris == "keep")
            record[output.path] = {"shard": output.sha256, "file": sha256_of_file(path)}
            addition = CommitOperationAdd(path_in_repo=output.path, path_or_fileobj=path)
            api.preupload_lfs_files(asked.address, [addition], repo_type=_TYPE)
            if addition.path_or_fileobj == b"":  # it was uploaded; the Hub takes small files with the commit
                path.unlink()
            operations.append(addition)
        for path_in_repo in outputs.keys() - record.keys():  # of a record that was lost
            record[path_in_repo] = {"shard": outputs[path_in_repo].sha256, "file": repository.lfs[path_in_repo]}
        about = {"dataset": asked.published.snapshot.name, "snapshot": asked.published.identity}
        small[RECORD] = json.dumps({**about, "shards": dict(sorted(record.items()))}, indent=1).encode()
        operations += [CommitOperationAdd(path_in_repo=name, path_or_fileobj=small[name]) for name in sorted(small)]
        api.create_commit(
            asked.address,
            operations,
            commit_message=f"Snapshot {asked.published.snapshot.number} of {asked.published.snapshot.name}",
            repo_type=_TYPE,
            parent_commit=repository.commit,
        )


def _blob_id(content: bytes) -> str:
    """Return the id that git gives to a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _mb(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"
