"""What to tell a user when storage fails: which file or bucket, what was tried, why it failed, and what to do."""

from __future__ import annotations

import errno

from schemas.errors import StorageError, os_error_code
from schemas.retry import StoreClosedError, code_of, is_transient
from schemas.storage import Root

_THEN = "<then>"
_BUILD_AGAIN = "build again: what is committed is kept"
_SPACE = f"free some space, then {_THEN}"
_REMEDIES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.ENOTDIR: "a file stands where a folder is expected",
    errno.EEXIST: "a file stands where a folder is expected",
}
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

_UNSPOKEN = ("ProfileNotFound",)
"""Whose words repeat what was configured, which may be a secret in the wrong place."""


def describe_os_error(
    error: OSError, root: Root, action: str, path: str = "", then: str = _BUILD_AGAIN
) -> StorageError:
    """Turn an error of the operating system or of a store into one message with a remedy.

    then : what to do once its cause is gone
    """
    code = code_of(error) or type(error.__cause__).__name__
    remedy = _OF_S3.get(code) or _REMEDIES.get(error.errno or 0) or f"once the storage answers, {_THEN}"
    remedy = remedy.replace(_THEN, then)
    where = root.uri(path) if path else root.url
    why = error.strerror or (str(error) if any(error.args) else "")
    why = "" if why == "None" or code in _UNSPOKEN else why
    if not why and isinstance(error, FileNotFoundError):
        why = "it is not there"
    if code in _OF_S3 and code not in why:
        why = f"{why} ({code})" if why else code
    operation = getattr(error.__cause__, "operation_name", "")
    why = f"{why} for {operation}" if operation and isinstance(error, PermissionError | StoreClosedError) else why
    transient = is_transient(error, root.is_local)
    told = f"cannot {action} {where}: {why} ({remedy})"
    return StorageError(told, transient=transient, code="" if transient else os_error_code(error))
