"""Where Ray keeps what it needs on this machine, and what to tell when it cannot."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from pathlib import Path

from clipmill.schemas.errors import ClipmillError

_PROBE_BYTES = 1 << 20
_FEW_FILES = 128
"""With 60, a process of Ray 2.60 aborts at its start; with 128, a small build on two cores ends well."""
_LITTLE_BYTES = 64 << 20
_FOLDER_REMEDY = "have RAY_TMPDIR name a folder that can be written to and has space"
_BY_NUMBER = {
    errno.EMFILE: "this process may open no more files: raise the limit by `ulimit -n 65536`",
    errno.ENFILE: "this machine may open no more files: end other programs, or raise fs.file-max",
    errno.ENOMEM: "there is not enough memory: end other programs",
}


def ray_folder() -> Path:
    """Return where a Ray that is started on this machine keeps its sockets and logs, as Ray 2.60 chooses it."""
    above = next((os.environ[name] for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "/tmp")  # noqa: S108
    return Path(above) / "ray"


def check_ray_can_start() -> None:
    """Look whether files can be opened, and a megabyte written where Ray will: else it says that a node timed out, and not why.

    Raises
    ------
    OSError : names the place
    """
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= allowed < _FEW_FILES:
        raise OSError(errno.EMFILE, f"{allowed} open files are allowed, which are too few for Ray")
    folder = ray_folder()
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".clipmill-probe-{os.getpid()}"
    try:
        probe.write_bytes(bytes(_PROBE_BYTES))
    except OSError as error:
        error.filename = str(folder)
        raise
    finally:
        with contextlib.suppress(OSError):  # what failed first is to be told
            probe.unlink()


def ray_did_not_start(error: Exception, address: str | None) -> ClipmillError:
    """Return what to tell of an error of `ray.init`. address : of the cluster, None for a Ray of this machine."""
    where = f"connect to the Ray cluster at {address}" if address else "start Ray on this machine"
    why = " ".join(str(error).split())
    if not isinstance(error, OSError) or isinstance(error, ConnectionError | TimeoutError):
        return ClipmillError(f"cannot {where}: {why}{'' if address else _hint()}", code="ray.unavailable")
    named = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    why = error.strerror or why
    place = f"{named}: {why}" if named else why
    return ClipmillError(f"cannot {where}: {place} ({_remedy(error, named)}, then build again)", code="ray.unavailable")


def _remedy(error: OSError, named: str) -> str:
    if error.errno in _BY_NUMBER:
        return _BY_NUMBER[error.errno]
    if "AF_UNIX path length" in str(error):
        return f"Ray's sockets lie under {ray_folder()}: have RAY_TMPDIR name a folder with a shorter path"
    home = os.path.expanduser("~")
    if named and f"{named}/".startswith(f"{home.rstrip('/')}/") and not str(ray_folder()).startswith(named):
        return "Ray keeps its access token in the home folder: have HOME name one that can be written to and has space"
    return f"Ray keeps its sockets and logs under {ray_folder()}: {_FOLDER_REMEDY}"


def _hint() -> str:
    """Return what may have kept Ray from starting when it does not say."""
    folder = ray_folder()
    try:
        disk = os.statvfs(folder)
    except OSError:
        return f" (Ray keeps its sockets and logs under {folder}: {_FOLDER_REMEDY})"
    free = disk.f_bavail * disk.f_frsize
    if free < _LITTLE_BYTES:
        return f" ({free:,} bytes are free under {folder}, where Ray keeps its sockets and logs: {_FOLDER_REMEDY})"
    return f" (Ray's logs are under {folder}/session_latest/logs)"
