"""Ray's folder on this machine, and errors for a Ray that cannot start."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from pathlib import Path

from clipmill.schemas.errors import ClipmillError

_PROBE_BYTES = 1 << 20
_FEW_FILES = 128
"""With 60 open files, a process of Ray 2.60 aborts at its start; with 128, a small build on two cores succeeds."""
_LITTLE_BYTES = 64 << 20
_FOLDER_REMEDY = "set RAY_TMPDIR to a writable folder with free space"
_BY_NUMBER = {
    errno.EMFILE: "this process has reached its limit of open files: raise it with `ulimit -n 65536`",
    errno.ENFILE: "this machine has reached its limit of open files: end other programs, or raise fs.file-max",
    errno.ENOMEM: "there is not enough memory: end other programs",
}


def ray_folder() -> Path:
    """Return the folder in which Ray keeps sockets and logs on this machine, chosen as Ray 2.60 does."""
    above = next((os.environ[name] for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "/tmp")  # noqa: S108
    return Path(above) / "ray"


def check_ray_can_start() -> None:
    """Check that files can be opened, and a megabyte written to Ray's folder. Ray itself reports only that a node timed out.

    Raises
    ------
    OSError : they cannot; names the place
    """
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= allowed < _FEW_FILES:
        raise OSError(errno.EMFILE, f"the limit of {allowed} open files is too low for Ray")
    folder = ray_folder()
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".clipmill-probe-{os.getpid()}"
    try:
        probe.write_bytes(bytes(_PROBE_BYTES))
    except OSError as error:
        error.filename = str(folder)
        raise
    finally:
        with contextlib.suppress(OSError):  # the first error is the one to report
            probe.unlink()


def ray_did_not_start(error: Exception, address: str | None) -> ClipmillError:
    """Return the error to report for an error of `ray.init`. address : of the cluster, None for a Ray on this machine"""
    where = f"connect to the Ray cluster at {address}" if address else "start Ray on this machine"
    why = " ".join(str(error).split())
    if not isinstance(error, OSError) or isinstance(error, ConnectionError | TimeoutError):
        return ClipmillError(f"cannot {where}: {why}{'' if address else _hint()}", code="ray.unavailable")
    path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    why = error.strerror or why
    detail = f"{path}: {why}" if path else why
    return ClipmillError(f"cannot {where}: {detail} ({_remedy(error, path)}, then build again)", code="ray.unavailable")


def _remedy(error: OSError, path: str) -> str:
    if error.errno in _BY_NUMBER:
        return _BY_NUMBER[error.errno]
    if "AF_UNIX path length" in str(error):
        return f"Ray keeps its sockets under {ray_folder()}: set RAY_TMPDIR to a folder with a shorter path"
    home = os.path.expanduser("~")
    if path and f"{path}/".startswith(f"{home.rstrip('/')}/") and not str(ray_folder()).startswith(path):
        return "Ray keeps its access token in the home folder: set HOME to a writable folder with free space"
    return f"Ray keeps its sockets and logs under {ray_folder()}: {_FOLDER_REMEDY}"


def _hint() -> str:
    """Return a likely cause, for a Ray that does not say why it did not start."""
    folder = ray_folder()
    try:
        disk = os.statvfs(folder)
    except OSError:
        return f" (Ray keeps its sockets and logs under {folder}: {_FOLDER_REMEDY})"
    free = disk.f_bavail * disk.f_frsize
    if free < _LITTLE_BYTES:
        return f" ({free:,} bytes are free under {folder}, where Ray keeps its sockets and logs: {_FOLDER_REMEDY})"
    return f" (Ray's logs are under {folder}/session_latest/logs)"
