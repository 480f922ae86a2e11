"""Turn storage errors into messages for users: which file or bucket, what was tried, why it failed, and what to do."""

from __future__ import annotations

import errno
import os
import tempfile

from clipmill.schemas.errors import ClipmillError, StorageError, os_error_code
from clipmill.schemas.secret_values import hide_secrets
from clipmill.stages.storage.patience import StoreClosedError, code_of, is_transient
from clipmill.stages.storage.root import Root

_THEN = "<then>"
_BUILD_AGAIN = "build again: what is committed is kept"
_SPACE = f"free some space, then {_THEN}"
_WAITING = f"once the storage answers, {_THEN}"
_REMEDIES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: f"a quota is used up: free some space or have it raised, then {_THEN}",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.ENOENT: f"put it back or correct the path, then {_THEN}",
    errno.ENOTDIR: "there is a file where a folder is expected",
    errno.EISDIR: "there is a folder where a file is expected",
    errno.EEXIST: "there is a file where a folder is expected",
    errno.ENAMETOOLONG: "the file system does not allow a name of this length: choose shorter names or a shorter folder",
    errno.ELOOP: "its symbolic links form a loop: correct them",
    errno.EFBIG: "the file system or a limit (`ulimit -f`) does not allow a file as large as this",
    errno.ESTALE: f"the mounted folder was replaced on its server: mount it again, then {_THEN}",
    errno.ENOTCONN: f"the program behind this mounted folder has ended: mount it again, then {_THEN}",
    errno.EIO: f"the disk or the network behind it failed: check the system log (`dmesg`), then {_THEN}",
    errno.EMFILE: f"this process cannot open more files: raise the limit with `ulimit -n 65536`, then {_THEN}",
    errno.ENFILE: f"this machine cannot open more files: end other programs or raise fs.file-max, then {_THEN}",
    errno.ENOMEM: f"there is not enough memory: end other programs or use fewer workers (--workers), then {_THEN}",
}
"""By error number: what to do about errors that waiting alone does not end."""
_OF_THE_PROCESS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors of the process or the machine, whatever file they name."""
_OF_A_STORE = frozenset({errno.EIO, errno.ENOENT, errno.ESTALE, errno.ENOTCONN})
"""Errors that mean something else when a store's library raises them."""
_WHERE_KEYS_ARE = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the profile, or storage_options"
_NO_KEYS = f"no credentials were found: set {_WHERE_KEYS_ARE}; for a public bucket storage_options: {{anon: true}}"
_OF_S3 = {
    "SignatureDoesNotMatch": f"the secret key does not belong to the access key: check {_WHERE_KEYS_ARE}",
    "InvalidAccessKeyId": f"the store does not know this access key: check {_WHERE_KEYS_ARE}",
    "AccessDenied": "these credentials have no permission for this: check the bucket's policy and the user's permissions",
    "403": "these credentials are wrong or have no permission for this: check them and the bucket's policy",
    "UserSuspended": "the store has suspended this user: ask its administrator",
    "NoSuchBucket": "the bucket does not exist: create it or correct the address",
    "ExpiredToken": f"the credentials have expired: renew them, then {_THEN}",
    "TokenRefreshRequired": f"the credentials have expired: renew them, then {_THEN}",
    "InvalidToken": "the session token does not belong to these keys: check AWS_SESSION_TOKEN",
    "RequestTimeTooSkewed": "this machine's clock differs from the store's: set the clock",
    "PermanentRedirect": "the bucket lies in another region: set AWS_REGION or endpoint_url",
    "AuthorizationHeaderMalformed": "the bucket lies in another region: set AWS_REGION or endpoint_url",
    "QuotaExceeded": f"the store's quota is used up; {_SPACE}",
    "NoCredentialsError": _NO_KEYS,
    "PartialCredentialsError": _NO_KEYS,
    "ProfileNotFound": "check AWS_PROFILE, or storage_options: {profile: ...}",
}
"""By the store's error code or the name of botocore's error: what to do."""

_MAX_WHY = 200
_UNQUOTED = ("ProfileNotFound",)
"""Errors whose text repeats configured values, which may be a secret in the wrong place."""


def describe_os_error(
    error: OSError, root: Root, action: str, path: str = "", then: str = _BUILD_AGAIN
) -> StorageError:
    """Return a StorageError with one message and a remedy for an error of the operating system or of a store.

    The message names the path that the error names, even if it is outside the root, such as a full folder for temporary files.

    action : what failed, as a verb: "read", "write"
    path : what the caller was accessing, relative to the root; "" for the root
    then : what to do after the cause has been removed
    """
    code = code_of(error) or type(error.__cause__).__name__
    transient = is_transient(error, root.is_local)
    error_path = _error_path(error)
    if error.errno in _OF_THE_PROCESS:
        error_path = None  # it only happened to be opened when the limit was reached
    elsewhere = error_path if error_path is not None and not _is_of_root(error_path, root) else None
    remedy = _OF_S3.get(code) or _remedy(error, elsewhere, root.is_local, transient)
    if error.errno == errno.ENOENT and action.startswith("write") and _cannot_be_created(root):
        remedy = f"no folder can be created there: choose another place, then {_THEN}"
    why = error.strerror or (str(error) if any(error.args) else "")
    why = "" if why == "None" or code in _UNQUOTED else why
    if not why and isinstance(error, FileNotFoundError):
        why = "it does not exist"
    if code in _OF_S3 and code not in why:
        why = f"{why} ({code})" if why else code
    operation = getattr(error.__cause__, "operation_name", "")
    why = f"{why} for {operation}" if operation and isinstance(error, PermissionError | StoreClosedError) else why
    if elsewhere is not None:
        is_temporary = elsewhere == _temporary_folder()
        attempt = f"use {'the folder for temporary files ' if is_temporary else ''}{elsewhere}"
    else:
        attempt = f"{action} {root.uri(path) if path else root.url}"
        if error_path is not None and not path and error_path != root.full():
            why = (
                f"{os.path.relpath(error_path, root.full()) if _is_in(error_path, root.full()) else error_path}: {why}"
            )
    return StorageError(
        f"cannot {attempt}: {why} ({remedy.replace(_THEN, then)})",
        transient=transient,
        code="" if transient else os_error_code(error),
    )


def _cannot_be_created(root: Root) -> bool:
    """Return whether a local root is missing although its parent folder exists, as under /proc."""
    base = root.full() if root.is_local else ""
    return bool(base) and not os.path.lexists(base) and os.path.isdir(os.path.dirname(base))


def repair_hint(url: str, path: str = "") -> str:
    """Return what to do about missing or damaged files of a dataset. Every message about damage uses this text.

    url : of the dataset
    path : of the file, relative to the dataset; "" for a shard's
    """
    if path.startswith("builds/"):
        return "remove it: an unpublished build writes it again"
    if path.startswith("snapshots/"):
        return (
            "build again with the same configuration to rewrite the tables of the newest snapshot (`clipmill gc"
            f" {url} --keep 1 --delete` removes older snapshots); `clipmill verify {url}` lists all damage"
        )
    return f"{REBUILD_HINT}; `clipmill verify {url}` lists all damage"


REBUILD_HINT = "build again with the same configuration, which repairs it"
NOT_MARKED = " (it could not be marked as damaged here: run `clipmill verify {}` where the dataset can be written, before you build)"


def describe_damage(root: Root, path: str, why: str, else_: str = "") -> ClipmillError:
    """Return the error about a file of a dataset that is missing or damaged.

    why : the error that was seen, shortened in the message
    else_ : appended to the message: another possible cause
    """
    return ClipmillError(
        f"{root.uri(path)} cannot be read as it was written ({hide_secrets(' '.join(why.split()))[:_MAX_WHY]}): {repair_hint(root.url, path)}{else_}",
        code="root.damaged",
    )


def _error_path(error: OSError) -> str | None:
    """Return the absolute local path that an error names, None if it names none."""
    if "No usable temporary directory" in str(error):  # tempfile's message about all folders that it tried
        return _temporary_folder()
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    return os.path.normpath(name) if os.path.isabs(name) else None


def _is_of_root(path: str, root: Root) -> bool:
    """Return whether a path is inside or above a root. For a remote root, paths that do not exist locally belong to it."""
    base = root.full()
    return _is_in(path, base) or _is_in(base, path) or not (root.is_local or os.path.lexists(os.path.dirname(path)))


def _is_in(path: str, folder: str) -> bool:
    """Return whether a path is a folder or inside it."""
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")


def _temporary_folder() -> str:
    """Return the folder for temporary files, whether or not it can be used."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # no candidate is writable
        return os.environ.get("TMPDIR") or "/tmp"  # noqa: S108


def _remedy(error: OSError, elsewhere: str | None, is_local: bool, transient: bool) -> str:
    if elsewhere is not None and _temporary_folder() in (elsewhere, os.path.dirname(elsewhere)):
        return temporary_remedy(error, _THEN)
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is not None and (is_local or elsewhere is not None or error.errno not in _OF_A_STORE):
        return remedy
    return _WAITING if transient else f"remove its cause, then {_THEN}"


def temporary_remedy(error: OSError, then: str = _BUILD_AGAIN) -> str:
    """Return what to do about an error of temporary files. then : what to do afterwards"""
    number = error.errno or 0
    if number in _OF_THE_PROCESS:
        return _REMEDIES[number].replace(_THEN, then)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return f"free some space there, or set TMPDIR to a folder with more space, then {then}"
    return f"set TMPDIR to a writable folder with enough space, then {then}"
