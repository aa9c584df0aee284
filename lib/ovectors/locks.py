"""Locks between processes: held by the system for as long as the holder lives, however it ends.

A lock is taken on a small file, which says who holds it; when the holder is gone, killed or not,
the lock is free, and nobody has to remove anything. Where the system or the file system has no such
locks (Windows, some network folders) nothing is locked.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class Busy(Exception):
    """Somebody else holds the lock; the message says who, in a few words."""


@contextlib.contextmanager
def lock(path: Path, *, wait: bool, shared: bool = False, about: str = "") -> Iterator[bool]:
    """Hold the lock on a file while the block runs; `about` tells others what for. The block is
    told whether there are locks here at all.

    Any number may hold it `shared`, and nobody else with them. Busy is raised where it is held by
    somebody else, unless told to `wait`. The file is gone when nobody uses it any more.
    """
    handle = _taken(path, wait=wait, shared=shared) if fcntl else None
    try:
        if handle is not None and not shared:
            _sign(handle, about)
        yield handle is not None
    finally:
        if handle is not None:
            if not shared:
                with contextlib.suppress(OSError):  # it may stay: it is the system that locks
                    path.unlink()
            os.close(handle)


def _taken(path: Path, *, wait: bool, shared: bool) -> int | None:
    """An open file that is locked and still the one of that name; None where locks do not exist."""
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, how)
            if _is_still(handle, path):
                return handle
        except BlockingIOError:
            holder = _holder(handle)
            os.close(handle)
            raise Busy(holder) from None
        except OSError as error:
            os.close(handle)
            if error.errno in _NO_LOCKS:
                return None
            raise
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its last holder removed it meanwhile: take the next one


def _is_still(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _sign(handle: int, about: str) -> None:
    told = {"pid": os.getpid(), "host": socket.gethostname(), "about": about}
    told["since"] = time.strftime("%Y-%m-%d %H:%M:%S")
    with contextlib.suppress(OSError):  # a full disk: the lock holds without a name on it
        os.truncate(handle, 0)
        os.pwrite(handle, json.dumps(told).encode(), 0)


def _holder(handle: int) -> str:
    """Who holds it, as far as it is told."""
    try:
        told = json.loads(os.pread(handle, 4096, 0))
        here = "" if told["host"] == socket.gethostname() else f" on {told['host']}"
        return f"process {told['pid']}{here}, since {told['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
