"""Folders in any file system: reading, listing, and writes that appear whole or not at all.

Local folders are read and written directly; everything else goes through fsspec.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import IO, Any

import fsspec.core

from clipmill.stages.storage.file_system import discard, hide_secrets_in, new_file_system, time_written
from clipmill.stages.storage.local_files import TEMPORARY_PREFIX, LocalFiles, clock_of, leftover_sizes, naming
from clipmill.stages.storage.objects import ObjectStream, any_readable, bucket_and_key
from clipmill.stages.storage.patience import patient
from clipmill.stages.storage.patient_stream import PatientStream
from clipmill.stages.storage.swapping import swap_here, swap_object
from clipmill.stages.storage.uploads import ObjectUpload, Unfinished, forget, unfinished

_UPLOAD = "{}?uploadId={}"


def check_relative(path: str) -> str:
    """Return a path that stays inside its root, or raise ValueError. Parts are joined by ``/``."""
    if not path or path.startswith("/") or ("\\" in path and os.sep == "\\") or ".." in path.split("/"):
        raise ValueError(f"{path!r} leads out of its root")
    return path


def split_name(path: str) -> tuple[str, str, str]:
    """Return a path's folder, its name's stem, and its extension in lower case without the dot; as pathlib, at a tenth of its time."""
    folder, _, name = path.rpartition("/")
    stem, dot, extension = name.rpartition(".")
    return (folder, stem, extension.lower()) if dot and stem and extension else (folder, name, "")


@dataclass(frozen=True)
class Root:
    """A folder, local or remote, by which all files of a source or a dataset are reached.

    Parameters
    ----------
    url : a path, or any URL that fsspec knows (``s3://bucket/prefix``)
    storage_options : passed to fsspec's file system; never written anywhere, and hidden in messages
    """

    url: str
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        hide_secrets_in(self.url, self.storage_options, self.is_s3)

    @cached_property
    def is_local(self) -> bool:
        return "://" not in self.url or self.url.startswith(("file://", "local://"))

    @cached_property
    def is_s3(self) -> bool:
        return self.url.startswith(("s3://", "s3a://"))

    @cached_property
    def local_files(self) -> LocalFiles:
        """How files are written here where the root is local, and what its file system has refused."""
        return LocalFiles(self._base if self.is_local else "")

    @cached_property
    def _base(self) -> str:
        if self.is_local:
            return os.path.abspath(os.path.expanduser(self.url.removeprefix("file://").removeprefix("local://")))
        self.fs  # noqa: B018  # knows what to say of an unknown scheme
        return str(fsspec.core.strip_protocol(self.url)).rstrip("/")

    @property
    def fs(self) -> Any:
        """The fsspec file system. Raises ConfigError when the URL's scheme is unknown, its package missing, or its options wrong."""
        pid, found = self.__dict__.get("_fs", (0, None))
        if pid != os.getpid():  # a forked process has none of the threads that do the work of a remote one
            found = new_file_system(self.url, self.storage_options, self.is_local, self.is_s3, self.errors)
            self.__dict__["_fs"] = (os.getpid(), found)
        return found

    def connect(self) -> None:
        """Load what speaks to a remote store, which otherwise takes its time from the first request."""
        if not self.is_local:
            self.fs  # noqa: B018

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "storage_options": dict(self.storage_options)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()

    def full(self, path: str = "") -> str:
        """Return the file system's own name of a path under the root."""
        return f"{self._base}/{check_relative(path)}" if path else self._base

    def uri(self, path: str) -> str:
        """Return the address of a path that users and manifests see."""
        if self.is_local:
            return self.full(path)
        return f"{self.url.rstrip('/')}/{path}"

    @cached_property
    def errors(self) -> tuple[type[Exception], ...]:
        """What reading and writing here can raise: OSError, and what stores' libraries raise instead of it."""
        if not self.is_s3:
            return (OSError,)
        import aiohttp
        import botocore.exceptions

        return (OSError, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, aiohttp.ClientError)

    @patient
    def exists(self, path: str = "") -> bool:
        return os.path.exists(self.full(path)) if self.is_local else bool(self.fs.exists(self.full(path)))

    @patient
    def size(self, path: str) -> int:
        return os.stat(self.full(path)).st_size if self.is_local else int(self.fs.size(self.full(path)))

    @patient
    def read_bytes(self, path: str, limit: int | None = None) -> bytes:
        """Return a file's content, or its first `limit` bytes."""
        if self.is_local:
            with naming(self.full(path)), open(self.full(path), "rb") as stream:
                return stream.read() if limit is None else stream.read(limit)
        # Without this, s3fs asks for the size first.
        one_request = {"max_concurrency": 1} if self.is_s3 else {}
        return bytes(self.fs.cat_file(self.full(path), end=limit, **one_request))

    @patient
    def open_read(self, path: str, whole: bool = True, size_bytes: int | None = None) -> IO[bytes]:
        """Open a file for reading, seekable. The caller closes it.

        whole : whether all of it will be read, as far as is known; a store is asked for less at a time when not
        size_bytes : of the file when it was listed
        """
        if self.is_local:
            return open(self.full(path), "rb")
        if self.is_s3:
            return ObjectStream(self.fs, self.full(path), self.errors, whole, size_bytes)
        return PatientStream(self.fs.open(self.full(path), "rb"), self.errors)

    @patient
    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted; an absent folder has none. Temporary files are left out."""
        try:
            if self.is_local:
                found = os.listdir(self.full(folder))
            else:
                found = [
                    str(n).rstrip("/").rsplit("/", 1)[-1]
                    for n in self.fs.ls(self.full(folder), detail=False, refresh=True)
                ]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(n for n in found if n and not n.startswith(TEMPORARY_PREFIX))

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the sizes in bytes of all files under a folder by path, without temporary ones; an absent one has none."""
        found: dict[str, int] = {}
        if self.is_local:
            for place, _, names in os.walk(self.full(folder), onerror=_unless_absent):
                for name in names:
                    path = f"{place}/{name}"
                    with contextlib.suppress(FileNotFoundError):  # a temporary file that was renamed just now
                        found[path[len(self._base) :].lstrip("/")] = os.stat(path).st_size
        else:
            with contextlib.suppress(FileNotFoundError):
                found = {path: int(info["size"] or 0) for path, info in self.remote_files(folder)}
        return {p: n for p, n in found.items() if not p.rsplit("/", 1)[-1].startswith(TEMPORARY_PREFIX)}

    def remote_files(self, folder: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield all files under a remote folder with what the listing says of each.

        Not by fsspec's own `find`: where a store has no listing of whole trees, that leaves out what it fails to list.

        Raises
        ------
        FileNotFoundError, NotADirectoryError, OSError
        """
        self.fs.invalidate_cache()
        if self.is_s3:
            yield from self._objects(folder)
            return
        top = self.full(folder)
        waiting = [top]
        while waiting:
            place = waiting.pop()
            for info in self._entries(place):
                name = str(info["name"]).rstrip("/")
                if name == top and info["type"] == "file" and int(info["size"] or 0):
                    raise NotADirectoryError(errno.ENOTDIR, "is a file", top)
                if info["type"] == "directory":
                    if name != place:
                        waiting.append(name)
                elif name != top:
                    yield name[len(self._base) :].lstrip("/"), info

    @patient
    def _entries(self, place: str) -> list[Mapping[str, Any]]:
        return list(self.fs.ls(place, detail=True))

    def _objects(self, folder: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield all objects under a folder, by listings of 1,000 keys a request, one of which is in memory at a time."""
        top = self.full(folder)
        bucket, key = bucket_and_key(top)
        start = len(bucket_and_key(self._base)[1]) + 1 if "/" in self._base else 0
        token: str | None = None
        found = False
        while True:
            more = {"ContinuationToken": token} if token else {}
            page = self._page(bucket, f"{key}/" if key else "", more)
            for info in page.get("Contents", ()):
                found = True
                if not info["Key"].endswith("/"):  # what some tools make of a folder
                    yield info["Key"][start:], {**info, "size": info["Size"], "type": "file"}
            token = page.get("NextContinuationToken")
            if not token:
                break
        if not found and key:
            if self.fs.isfile(top):
                raise NotADirectoryError(errno.ENOTDIR, "is a file", top)
            raise FileNotFoundError(errno.ENOENT, "does not exist", top)

    def admits(self, but: str) -> bool:
        """Whether a store lets us read anything here besides one file that it refuses; True when there is nothing else."""
        if not self.is_s3:
            return True
        try:
            bucket, key = bucket_and_key(self.full())
            found = [
                i["Key"] for i in self._page(bucket, f"{key}/" if key else "", {}).get("Contents", ()) if i["Size"]
            ]
        except PermissionError:
            return False
        others = [f"{bucket}/{name}" for name in found if f"{bucket}/{name}" != self.full(but)]
        return not others or any_readable(self.fs, others, self.errors)

    @patient
    def _page(self, bucket: str, prefix: str, more: Mapping[str, Any]) -> Mapping[str, Any]:
        page: Mapping[str, Any] = self.fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
        return page

    @patient
    def remote_info(self, path: str) -> Mapping[str, Any]:
        """Return what a store says of a file now: size, ETag or time."""
        self.fs.invalidate_cache()
        found: Mapping[str, Any] = self.fs.info(self.full(path))
        return found

    @patient
    def modified(self, path: str) -> float:
        """Return when a file was last written, in seconds since 1970 by the storage's clock.

        Raises
        ------
        OSError : ENOTSUP if the store does not tell
        """
        if self.is_local:
            return os.stat(self.full(path)).st_mtime
        return time_written(self.remote_info(path), path)

    def now_s(self, may_write: bool = True) -> float:
        """Return what the storage's clock says now, in seconds since 1970; where it cannot be asked, this machine's.

        may_write : create a temporary file, to see what time a file system gives it; otherwise a local root has this machine's clock
        """
        if self.is_s3:
            bucket, key = bucket_and_key(self.full())
            answer = self._page(bucket, f"{key}/" if key else "", {"MaxKeys": 1})
            date = (answer.get("ResponseMetadata") or {}).get("HTTPHeaders", {}).get("date")
            return parsedate_to_datetime(date).timestamp() if date else time.time()
        if self.is_local and may_write:
            return clock_of(self.full())
        return time.time()

    @patient
    def remove(self, path: str) -> None:
        """Remove a file; do nothing if it does not exist."""
        with contextlib.suppress(FileNotFoundError):
            if self.is_local:
                os.unlink(self.full(path))
                self.local_files.folders.changed(os.path.dirname(self.full(path)))
            else:
                self.fs.rm_file(self.full(path))

    @patient
    def sync(self, paths: Iterable[str] = ()) -> None:
        """Have the disk confirm the names that were written or removed here. Records do so by themselves: see `write_bytes`.

        paths : other files whose names are to be confirmed, whoever wrote them
        """
        if self.is_local:
            for folder in {os.path.dirname(self.full(path)) for path in paths}:
                self.local_files.folders.changed(folder)
            self.local_files.folders.settle()

    def leftovers(self, running_since: datetime | None = None, ours: re.Pattern[str] | None = None) -> dict[str, int]:
        """Return what no writer will finish, with the sizes: temporary files, in an S3 store uploads in parts.

        running_since : when the oldest build that still runs began; in a store nothing younger is left over
        ours : the names to look at; in a store an upload of another name is somebody else's
        """
        if self.is_s3:
            begun_before = [u for u in self._unfinished() if _before(u.begun, running_since)]
            return {
                _UPLOAD.format(*u[:2]): u.size_bytes for u in begun_before if ours is None or ours.fullmatch(u.path)
            }
        found = leftover_sizes(self.full()) if self.is_local else {}
        return {os.path.relpath(path, self._base): size for path, size in found.items()}

    @patient
    def _unfinished(self) -> list[Unfinished]:
        return [u._replace(path=u.path[len(self._base) + 1 :]) for u in unfinished(self.fs, self._base)]

    @patient
    def remove_leftover(self, name: str) -> None:
        """Remove what `leftovers` names."""
        if self.is_s3:
            path, _, upload_id = name.rpartition(_UPLOAD.format("", ""))
            forget(self.fs, self.full(path), upload_id)
        else:
            self.remove(name)

    @contextlib.contextmanager
    def write(self, path: str, *, replace: bool = True) -> Iterator[IO[bytes]]:
        """Open a file that appears under its name when the block ends, whole, and never when it raises.

        A power failure can take its name until a record has been written (`write_bytes`), or `sync` was called.

        replace : False raises FileExistsError at the end when the name is taken
        """
        with self._staged(path, replace, is_record=False) as (stream, publish):
            yield stream
            if not publish():
                raise FileExistsError(errno.EEXIST, "exists already", path)

    def write_bytes(self, path: str, content: bytes) -> None:
        """Write a record, which appears whole, and after all files that were written before, also if the power fails."""
        if self.is_s3:  # whose uploads are patient themselves
            with self.write(path) as stream:
                stream.write(content)
        else:
            self._write_bytes(path, content)

    @patient
    def _write_bytes(self, path: str, content: bytes) -> None:
        with self._staged(path, True) as (stream, publish):
            stream.write(content)
            publish()

    def create_bytes(self, path: str, content: bytes) -> bool:
        """Write a record only if there is none of its name; return whether this call made it."""
        try:
            if self.is_s3:
                with self.write(path, replace=False) as stream:
                    stream.write(content)
                return True
            return self._create_bytes(path, content)
        except FileExistsError:
            # An attempt before may have succeeded without our hearing of it.
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                return self.read_bytes(path) == content
            return False

    @patient
    def _create_bytes(self, path: str, content: bytes) -> bool:
        if not self.is_local:
            self.fs.pipe_file(self.full(path), content, mode="create")
            return True
        with self._staged(path, False) as (stream, publish):
            stream.write(content)
            return publish()

    def swap_bytes(self, path: str, before: bytes | None, content: bytes) -> bool:
        """Write a small file only if its content is still what was read; return whether this call did.

        Of several that swap at once only one succeeds: in S3 by a conditional request, on a local disk under a lock. Other stores have
        neither, which `weaknesses` then tells.

        before : what the file must contain; None: it must not exist
        """
        if before is None and not self.is_local:
            return self.create_bytes(path, content)
        if self.is_s3:
            return swap_object(self.fs, self.full(path), before or b"", content, self.errors)
        return self._swap_bytes(path, before, content)

    @patient
    def _swap_bytes(self, path: str, before: bytes | None, content: bytes) -> bool:
        if self.is_local:
            return swap_here(self.local_files, self.full(path), before, content)
        self.local_files.has_swaps = False
        if not self.exists(path) or self.read_bytes(path) != before:
            return False
        self.fs.pipe_file(self.full(path), content)
        return True

    @contextlib.contextmanager
    def _staged(
        self, path: str, replace: bool, is_record: bool = True
    ) -> Iterator[tuple[IO[bytes], Callable[[], bool]]]:
        """Open a file that appears when `publish` is called, which returns whether it did."""
        target = self.full(path)
        if not self.is_local:
            with self._uploading(target, replace) as remote:
                yield remote, lambda: True
            return
        with self.local_files.staged(target, replace, is_record) as staged:
            yield staged

    @contextlib.contextmanager
    def _uploading(self, target: str, replace: bool) -> Iterator[IO[bytes]]:
        stream: Any
        if self.is_s3:
            stream = ObjectUpload(self.fs, target, self.errors, replace)
            finish, abandon = stream.finish, stream.abandon
        else:
            stream = self.fs.open(target, "wb" if replace else "xb")
            finish, abandon = stream.close, functools.partial(discard, stream)
        try:
            yield stream
            finish()
        except BaseException:
            with contextlib.suppress(*self.errors):  # what failed first is to be told
                abandon()
            raise


def _unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _before(moment: datetime, running_since: datetime | None) -> bool:
    return running_since is None or moment < running_since
