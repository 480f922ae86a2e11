"""Identify this machine and its running processes, to distinguish a killed writer from a running one."""

from __future__ import annotations

import os
import socket
import uuid


def this_machine() -> str:
    """Return this machine's name and its namespace of process ids, which differs between containers of the same name."""
    try:
        return f"{socket.gethostname()} ({os.readlink('/proc/self/ns/pid')})"
    except OSError:
        return socket.gethostname()


def machine_digest() -> str:
    """Return 8 hex digits that identify `this_machine` in names of files."""
    return uuid.uuid5(uuid.NAMESPACE_DNS, this_machine()).hex[:8]


def is_running(pid: int) -> bool:
    """Return whether a process with this id runs on this machine. Zombies do not count."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def process_start(pid: int) -> int:
    """Return when a process started, in clock ticks since the machine booted; 0 if it is not known."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rsplit(")", 1)[1].split()[19])
    except (OSError, IndexError, ValueError):
        return 0
