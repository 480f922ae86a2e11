"""Share the number of an epoch with loading processes, without a file in /dev/shm."""

from __future__ import annotations

import mmap
import os
import struct
from multiprocessing import context, heap
from typing import Any

from torch.utils.data import get_worker_info

_NUMBER = struct.Struct("<q")


class SharedEpoch:
    """A whole number. Forked processes see what is set here later; so do spawned ones that it is handed to while they start.

    Forked ones share an anonymous piece of memory. For spawned ones, and only then, there is one with a name, which multiprocessing puts
    in a folder that has room. A copy that goes elsewhere, as into a file, holds the number of then; so does that of a rank that is spawned,
    since ranks are not in step: the first to set the next epoch must not set it for the loading processes of another.
    """

    def __init__(self, epoch: int = 0) -> None:
        self._memory = mmap.mmap(-1, _NUMBER.size)
        self._named: Any = None
        self._received: tuple[int, Any] | None = None  # the process that was spawned with it, and the named memory
        self.set(epoch)

    def get(self) -> int:
        # A loading process that was spawned with it, and not one that such a process, a rank, has forked.
        if self._received is not None and self._received[0] == os.getpid() and get_worker_info() is not None:
            return int(_NUMBER.unpack_from(self._received[1].create_memoryview())[0])
        if self._named is not None:
            return int(_NUMBER.unpack_from(self._named.create_memoryview())[0])
        return int(_NUMBER.unpack_from(self._memory)[0])

    def set(self, epoch: int) -> None:
        _NUMBER.pack_into(self._memory, 0, epoch)
        if self._named is not None:
            _NUMBER.pack_into(self._named.create_memoryview(), 0, epoch)

    def __getstate__(self) -> dict[str, Any]:
        if context.get_spawning_popen() is None:
            return {"epoch": self.get()}
        if self._named is None:
            epoch = self.get()
            self._named = heap.BufferWrapper(_NUMBER.size)  # type: ignore[attr-defined]
            self.set(epoch)
        return {"epoch": self.get(), "named": self._named}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["epoch"])  # type: ignore[misc]
        if "named" in state:
            self._received = os.getpid(), state["named"]
