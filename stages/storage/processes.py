"""Which processes run on this machine, and what tells it from others: by this a killed writer is known from a living one."""

from __future__ import annotations

import os
import socket
import uuid


def this_machine() -> str:
    """Return this machine's name, and what tells process ids here from those in another container of the same name."""
    try:
        return f"{socket.gethostname()} ({os.readlink('/proc/self/ns/pid')})"
    except OSError:
        return socket.gethostname()


def machine_digest() -> str:
    """Return 8 hex digits that stand for `this_machine` in names of files."""
    return uuid.uuid5(uuid.NAMESPACE_DNS, this_machine()).hex[:8]


def is_running(pid: int) -> bool:
    """Return whether there is a process of this id on this machine that is not dead and merely unburied."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def process_start(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rsplit(")", 1)[1].split()[19])
    except (OSError, IndexError, ValueError):
        return 0
