"""Have the names in folders reach the disk: after a power failure a file's name can be lost although its content was synced.

A file system may write the names of a folder in any order, until the folder itself is synced. So a record, by which other files count, is
written in three steps: the folders of all files before it are synced, it gets its name, and its folder is synced. Files in between share one
sync of each folder. In the same way, other files are removed only when the removal of their record has been synced.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading

_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF, errno.EISDIR})
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM})


class FolderSync:
    """Remembers in which folders of a root names have changed, and syncs them.

    top : the root's folder
    is_supported : False if the file system does not sync folders, or does not let them be opened
    """

    def __init__(self, top: str) -> None:
        self._top = top
        self._changed: set[str] = set()
        self._known: set[str] = set()
        self._lock = threading.Lock()
        self.is_supported = True

    def make(self, folder: str) -> None:
        """Create a folder with those above it, unless it exists, and sync the names of all of them."""
        if folder in self._known and os.path.isdir(folder):
            return
        missing, above = [], folder
        while not os.path.lexists(above):
            missing.append(above)
            above = os.path.dirname(above)
        os.makedirs(folder, exist_ok=True)
        # Another process may have created a folder, and not have synced it yet.
        inside = [folder]
        while inside[-1] != self._top and inside[-1].startswith(f"{self._top}/"):
            inside.append(os.path.dirname(inside[-1]))
        for made in dict.fromkeys((*inside, *missing)):
            if made not in self._known:
                self._sync(os.path.dirname(made), is_ours=made != self._top)
                self._known.add(made)

    def changed(self, folder: str) -> None:
        """Remember that a name in a folder has changed."""
        with self._lock:
            self._changed.add(folder)

    def settle(self) -> None:
        """Sync all folders in which names have changed.

        Raises
        ------
        OSError : the disk failed; the folder is synced again the next time
        """
        with self._lock:  # another thread must not go on before its names are synced, whoever does it
            for folder in sorted(self._changed):
                self._sync(folder)
                self._changed.discard(folder)

    def _sync(self, folder: str, is_ours: bool = True) -> None:
        """Sync a folder, unless it has been removed. is_ours : it is inside the root, so it must be possible to open it"""
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _NOT_ALLOWED:
                self.is_supported = self.is_supported and not is_ours
            elif error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
            return
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self.is_supported = False
        finally:
            with contextlib.suppress(OSError):
                os.close(handle)
