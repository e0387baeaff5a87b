"""Files written whole or not at all."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from activation_pruning.support import types


@contextlib.contextmanager
def replacing(path: types.Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; on success it takes the place of `path`.

    It has the same suffix. Missing folders are made. When the block fails, the temporary file is
    gone and an older file at `path` is as it was.

    Raises:
        OSError: the path is a folder, or cannot be written; the message names it.

    Example:
        >>> import os, tempfile, activation_pruning as ap
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with ap.reports.replacing(f"{folder}/runs/table.csv") as path:
        ...         _ = path.write_text("seed,accuracy")
        ...     os.listdir(f"{folder}/runs")
        ['table.csv']
    """
    target = Path(os.path.realpath(path))  # behind a link, replace the file and not the link
    temporary = target.with_name(f".{target.stem}-{uuid.uuid4().hex[:12]}{target.suffix}")
    try:
        if target.is_dir():
            raise IsADirectoryError("it is a folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()  # what cannot be written fails here, before any work
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # gone after a success; not there under a bad folder
            temporary.unlink(missing_ok=True)


def check_folder(folder: types.Path) -> Path:
    """Return the folder, made if need be, if a file can be written there; for before a long run.

    Raises:
        TypeError: it is no path.
        OSError: it cannot be made or written; the message names it and says what to do.

    Example:
        >>> import tempfile, activation_pruning as ap
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ap.reports.check_folder(f"{folder}/runs/first").is_dir()
        True
    """
    if not isinstance(folder, (str, os.PathLike)) or not str(folder):
        raise TypeError(f"{folder!r} is no folder; give its path")
    probe = Path(folder) / f".probe-{uuid.uuid4().hex[:12]}"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(folder, error) from error
    return Path(folder)


def _unwritable(path: types.Path, error: OSError) -> OSError:
    return type(error)(
        f"cannot write {str(path)!r}: {error.strerror or error}. Give a path in a folder that can "
        "be written, check that the disk has room and that no other program holds the file open"
    )
