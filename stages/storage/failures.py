"""What to tell a user when storage fails: which file or bucket, what was tried, why it failed, and what to do."""

from __future__ import annotations

import errno
import os
import tempfile

from clipmill.schemas.errors import ClipmillError, StorageError, os_error_code
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
    errno.ENOTDIR: "a file stands where a folder is expected",
    errno.EISDIR: "a folder stands where a file is expected",
    errno.EEXIST: "a file stands where a folder is expected",
    errno.ENAMETOOLONG: "the file system takes no name as long as this: choose shorter names or a shorter folder",
    errno.ELOOP: "its symbolic links lead in a circle: correct them",
    errno.EFBIG: "the file system or a limit (`ulimit -f`) does not allow a file as large as this",
    errno.ESTALE: f"the mounted folder was exchanged on its server: mount it again, then {_THEN}",
    errno.ENOTCONN: f"the program behind this mounted folder has ended: mount it again, then {_THEN}",
    errno.EIO: f"the disk, or the network behind it, failed: look into the system's log (`dmesg`), then {_THEN}",
    errno.EMFILE: f"this process may open no more files: raise the limit by `ulimit -n 65536`, then {_THEN}",
    errno.ENFILE: f"this machine may open no more files: end other programs, or raise fs.file-max, then {_THEN}",
    errno.ENOMEM: f"there is not enough memory: end other programs, or use fewer workers (--workers), then {_THEN}",
}
"""Of an error that waiting alone does not end."""
_OF_THE_PROCESS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Nothing is wrong with the place where they show."""
_OF_A_STORE = frozenset({errno.EIO, errno.ENOENT, errno.ESTALE, errno.ENOTCONN})
"""Which mean something else when a store's library raises them."""
_WHERE_KEYS_ARE = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the profile, or storage_options"
_NO_KEYS = f"no credentials were found: set {_WHERE_KEYS_ARE}; for a public bucket storage_options: {{anon: true}}"
_OF_S3 = {
    "SignatureDoesNotMatch": f"the secret key is not that of the access key: check {_WHERE_KEYS_ARE}",
    "InvalidAccessKeyId": f"the store does not know this access key: check {_WHERE_KEYS_ARE}",
    "AccessDenied": "these credentials have no permission for that: check the bucket's policy and the user's rights",
    "403": "these credentials have no permission for that, or are wrong: check them and the bucket's policy",
    "UserSuspended": "the store has suspended this user: ask who runs it",
    "NoSuchBucket": "there is no such bucket: create it, or mend the address",
    "ExpiredToken": f"the credentials have expired: renew them, then {_THEN}",
    "TokenRefreshRequired": f"the credentials have expired: renew them, then {_THEN}",
    "InvalidToken": "the session token is not one of these keys: check AWS_SESSION_TOKEN",
    "RequestTimeTooSkewed": "this machine's clock differs from the store's: set the clock",
    "PermanentRedirect": "the bucket lies in another region: set AWS_REGION or endpoint_url",
    "AuthorizationHeaderMalformed": "the bucket lies in another region: set AWS_REGION or endpoint_url",
    "QuotaExceeded": f"the store's quota is used up; {_SPACE}",
    "NoCredentialsError": _NO_KEYS,
    "PartialCredentialsError": _NO_KEYS,
    "ProfileNotFound": "check AWS_PROFILE, or storage_options: {profile: ...}",
}
"""By the store's error code, or the name of botocore's error."""

_MAX_WHY = 200
_UNSPOKEN = ("ProfileNotFound",)
"""Whose words repeat what was configured, which may be a secret in the wrong place."""


def describe_os_error(
    error: OSError, root: Root, action: str, path: str = "", then: str = _BUILD_AGAIN
) -> StorageError:
    """Turn an error of the operating system or of a store into one message with a remedy.

    It is about the place that the error names, also where that is none of the root's, as a full folder for temporary files.

    path : what the error is about, as far as the caller knows
    then : what to do once its cause is gone
    """
    code = code_of(error) or type(error.__cause__).__name__
    transient = is_transient(error, root.is_local)
    named = _named(error)
    if error.errno in _OF_THE_PROCESS:
        named = None  # by chance: whatever was to be opened next
    elsewhere = named if named is not None and not _on_the_way(named, root) else None
    remedy = _OF_S3.get(code) or _remedy(error, elsewhere, root.is_local, transient)
    if error.errno == errno.ENOENT and action.startswith("write") and _cannot_be_created(root):
        remedy = f"no folder can be created there: choose another place, then {_THEN}"
    why = error.strerror or (str(error) if any(error.args) else "")
    why = "" if why == "None" or code in _UNSPOKEN else why
    if not why and isinstance(error, FileNotFoundError):
        why = "it is not there"
    if code in _OF_S3 and code not in why:
        why = f"{why} ({code})" if why else code
    operation = getattr(error.__cause__, "operation_name", "")
    why = f"{why} for {operation}" if operation and isinstance(error, PermissionError | StoreClosedError) else why
    if elsewhere is not None:
        is_temporary = elsewhere == _temporary_folder()
        done = f"use {'the folder for temporary files ' if is_temporary else ''}{elsewhere}"
    else:
        done = f"{action} {root.uri(path) if path else root.url}"
        if named is not None and not path and named != root.full():
            why = f"{os.path.relpath(named, root.full()) if _is_in(named, root.full()) else named}: {why}"
    return StorageError(
        f"cannot {done}: {why} ({remedy.replace(_THEN, then)})",
        transient=transient,
        code="" if transient else os_error_code(error),
    )


def _cannot_be_created(root: Root) -> bool:
    """Whether a local root is not there though the folder that it would be in is, as under /proc."""
    base = root.full() if root.is_local else ""
    return bool(base) and not os.path.lexists(base) and os.path.isdir(os.path.dirname(base))


def repair_hint(url: str, path: str = "") -> str:
    """Return what to do about files of a dataset that are missing or damaged; every message of damage says it in these words.

    Builds look at the sizes of a shard's files alone, so a shard of which the record is gone counts as missing.

    path : of the file; of a shard by default
    """
    if path.startswith("builds/"):
        return "remove it: a build that is not published writes it again"
    if path.startswith("snapshots/"):
        return (
            "build again with the same configuration, which writes the tables of the newest snapshot again (`clipmill gc"
            f" {url} --keep 1 --delete` drops older ones); `clipmill verify {url}` names all that is damaged"
        )
    return f"`clipmill verify {url}` names all that is damaged: {REBUILD_HINT}"


REBUILD_HINT = (
    "remove the record, commits/<key>.json, of each damaged shard (<key> begins with the 12 digits at the end of the names of the"
    " shard's files), then build again with the same configuration, which makes what is missing"
)


def describe_damage(root: Root, path: str, why: str, else_: str = "") -> ClipmillError:
    """Return the error about a file of a dataset that is not there, or not what was written. else_ : what it can be besides."""
    return ClipmillError(
        f"{root.uri(path)} cannot be read as it was written ({' '.join(why.split())[:_MAX_WHY]}): {repair_hint(root.url, path)}{else_}",
        code="root.damaged",
    )


def _named(error: OSError) -> str | None:
    """Return the absolute local path that an error is about, None where it does not say."""
    if "No usable temporary directory" in str(error):  # tempfile's, of all folders that it tried
        return _temporary_folder()
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    return os.path.normpath(name) if os.path.isabs(name) else None


def _on_the_way(path: str, root: Root) -> bool:
    """Return whether a path is of a root: inside it, or above it. An absolute path of a remote root is rarely a local one."""
    base = root.full()
    return _is_in(path, base) or _is_in(base, path) or not (root.is_local or os.path.lexists(os.path.dirname(path)))


def _is_in(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")


def _temporary_folder() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # none of those that it tries can be written to
        return os.environ.get("TMPDIR") or "/tmp"  # noqa: S108


def _remedy(error: OSError, elsewhere: str | None, is_local: bool, transient: bool) -> str:
    if elsewhere is not None and _temporary_folder() in (elsewhere, os.path.dirname(elsewhere)):
        return temporary_remedy(error, _THEN)
    known = _REMEDIES.get(error.errno or 0)
    if known is not None and (is_local or elsewhere is not None or error.errno not in _OF_A_STORE):
        return known
    return _WAITING if transient else f"see to its cause, then {_THEN}"


def temporary_remedy(error: OSError, then: str = _BUILD_AGAIN) -> str:
    """Return what to do about an error of temporary files."""
    number = error.errno or 0
    if number in _OF_THE_PROCESS:
        return _REMEDIES[number].replace(_THEN, then)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return f"free some space there, or have TMPDIR name a folder with more, then {then}"
    return f"have TMPDIR name a folder that can be written to and has space, then {then}"
