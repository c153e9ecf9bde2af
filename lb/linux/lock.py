"""One daemon per name: an flock on a file, which the kernel drops when its owner dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lb.run_directory import RUN_DIRECTORY


class AlreadyRunning(Exception):
    """A daemon of this name is alive; `pid` is None while it has not said."""

    def __init__(self, name: str, pid: int | None) -> None:
        self.name = name
        self.pid = pid
        known = f" (pid {pid})" if pid is not None else ""
        super().__init__(f"a box named {name!r} is already running{known}; stop it or use another name")


@contextmanager
def hold(name: str, directory: Path = RUN_DIRECTORY) -> Iterator[None]:
    """Be the one daemon called `name` within the block.

    Raises AlreadyRunning, or OSError when `directory` can't be made or written.
    """
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    path = directory / f"{name}.lock"
    descriptor = _lock(path, name)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        # Removed while still held, see _lock.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(path: Path, name: str) -> int:
    """A descriptor that holds the lock on the file that is at `path` now."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The last owner may have removed the file between our open and our lock: ours is then nobody's.
            if os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BlockingIOError:
            pid = os.pread(descriptor, 32, 0).strip()
            os.close(descriptor)
            raise AlreadyRunning(name, int(pid) if pid.isdigit() else None) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
