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


def this_boot() -> str:
    """Return `this_machine` and which of its starts this is: only within one can process ids be compared.

    Machines of the same name share the number of their first namespace, and after a restart process ids begin again.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{this_machine()} boot {file.read(8)}"
    except OSError:
        return this_machine()


def machine_digest() -> str:
    """Return 8 hex digits that identify `this_machine` in names of files."""
    return uuid.uuid5(uuid.NAMESPACE_DNS, this_machine()).hex[:8]


def is_running(pid: int) -> bool:
    """Return whether a process with this id runs on this machine. Zombies do not count."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def process_start(pid: int) -> int:
    """Return when a process started, in clock ticks since the machine booted; 0 if it is not known."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rsplit(")", 1)[1].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


def still_runs(pid: int, start: int) -> bool | None:
    """Return whether the process of this machine that had this id and this start still runs; None if that cannot be told.

    start : what `process_start` was; 0 if it was not known, and then another process of the same id cannot be told from it
    """
    if start <= 0 or not process_start(os.getpid()):
        return None
    if pid <= 0:
        return False
    if is_running(pid):
        return process_start(pid) == start
    return None if _is_hidden(pid) else False


def _is_hidden(pid: int) -> bool:
    """Return whether there is a process of this id that /proc does not show, as it may be told not to show those of other users."""
    if os.path.exists(f"/proc/{pid}"):
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
