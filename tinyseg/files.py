"""Files that are whole or absent: written beside their place and renamed into it."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from tinyseg.errors import DataError

__all__ = ["replacing", "sweep"]

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


def sweep(folder: Path) -> None:
    """Remove what a process that was killed while writing into `folder` left; for a folder with one writer."""
    for part in folder.glob(f".*{_PART}"):
        part.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
