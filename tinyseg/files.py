"""Files that are whole or absent: written beside their place and renamed into it."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from tinyseg.errors import DataError

__all__ = ["claimed", "replacing", "sweep"]

_PART = ".part"


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """Open a binary file that takes the place of `path` when the block ends without an error.

    A reader, or a process killed at any moment, sees the old file or the new one, never a part.
    Raises DataError when the folder cannot be written or the disk is full; `path` is then as it was.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=_PART, delete=False) as file:
            temporary = Path(file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())       # a temporary file is private; the result is not
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}); "
                        "name a folder that is writable and has room") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Whether nobody else claims `folder` while the block runs; it is made where it is missing, and taken away again
    where the block leaves it empty.

    The lock is the system's, on the open folder: it ends with the process, however that ends, and leaves no file.
    Where the system knows no such lock (Windows, some network file systems) everybody is alone.
    """
    try:
        import fcntl
    except ImportError:
        yield True
        return
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    handle = None
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"{folder}: cannot be written ({error.strerror or error}); "
                            "name a folder that is writable and has room") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except OSError as error:
            alone = not isinstance(error, BlockingIOError)
        yield alone
    finally:
        if handle is not None:
            os.close(handle)
        with suppress(OSError):                      # they are not empty
            for path in made:
                path.rmdir()


def sweep(folder: Path) -> None:
    """Remove what a process that was killed while writing into `folder` left; for a folder with one writer."""
    for part in folder.glob(f".*{_PART}"):
        part.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
