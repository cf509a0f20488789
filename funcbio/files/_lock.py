"""Locks on open files, released when the process that holds them ends, however it ends."""

from contextlib import suppress

try:
    import fcntl
except ImportError:  # Windows.
    fcntl = None


def lock(descriptor: int, *, wait: bool = False) -> bool | None:
    """Locks an open file against all others who open it, of this process too.

    Args:
        descriptor: The open file.
        wait: Whether to wait until it is free.

    Returns:
        True if it is locked now, False if another holds it, None if this system or file system has no such locks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def unlock(descriptor: int) -> None:
    """Releases the lock on an open file, also where a child process has the file open, too."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
