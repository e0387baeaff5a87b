"""Files written whole or not at all, and read whole or not at all."""

import contextlib
import hashlib
import io
import json
import math
import os
import uuid
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from activation_pruning.support import types
from activation_pruning.support.shown import shown

_SUM = "sha256"
_END = 22  # bytes of the end of a zip file, which says how many entries there are


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
    # Behind a link, replace the file and not the link.
    target = Path(os.path.realpath(check_path(path)))
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


def check_path(path: types.Path, *suffixes: str) -> Path:
    """The path of a file to write, as a `Path`.

    Raises:
        TypeError: it is no path.
        ValueError: it does not end in one of the suffixes, where there are any.

    Example:
        >>> check_path("runs.csv", ".xlsx")
        Traceback (most recent call last):
            ...
        ValueError: path 'runs.csv' must end in .xlsx, the format that is written
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path={shown(path)}; give the path of a file, a str or pathlib.Path")
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise ValueError(
            f"path {str(path)!r} must end in {suffixes[0]}, the format that is written"
        )
    return path


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
        raise TypeError(f"{shown(folder)} is no folder; give its path")
    probe = Path(folder) / f".probe-{uuid.uuid4().hex[:12]}"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(folder, error) from error
    return Path(folder)


def sealed(entries: dict[str, Any], default: Callable[[Any], Any] | None = None) -> str:
    """The JSON text of a dict with its checksum, which `unsealed` reads.

    default: as that of `json.dumps`, for values that JSON does not know.

    Example:
        >>> json.loads(sealed({"seed": 1}))["sha256"][:8]
        'a4bbadc1'
    """
    plain = json.loads(json.dumps(entries, default=default))
    return json.dumps(plain | {_SUM: _sum(plain)}, indent=1)


def unsealed(path: types.Path, known: Collection[str], version: int) -> dict[str, Any]:
    """The dict in a JSON file that `sealed` made; older ones have no checksum.

    Args:
        path: of the file.
        known: names that its entries may have where it has no checksum.
        version: its entry `format`; of another the checksum is not looked at, since only its own
            program knows what it holds.

    Raises:
        ValueError: it is damaged, or something else; the message names it.
        OSError: it cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "run.json"
        ...     _ = path.write_text(sealed({"seed": 1}).replace("1", "2", 1))
        ...     unsealed(path, ["seed"], 1)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        ValueError: '...run.json' is damaged: its checksum is that of another content
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"it is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise _damaged(path, f"it holds a {type(found).__name__}")
    if found.get("format", version) != version:
        return found
    total = found.pop(_SUM, None)
    if total is None and found.keys() - known:
        raise _damaged(path, f"it holds {sorted(found.keys() - known)[0]!r}, which is unknown")
    if total is not None and total != _sum(found):
        raise _damaged(path, "its checksum is that of another content")
    return found


def arrays(path: types.Path) -> dict[str, types.Array]:
    """The arrays in an `.npz` file, none of which takes more than the file holds of it.

    Raises:
        ValueError: it is damaged, or no such file; the message names it.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                _check_directory(archive, file)
                names = archive.namelist()
                return {n.removesuffix(".npy"): _array(archive.read(n)) for n in names}
        except Exception as error:  # whatever a damaged zip raises, OSError among it
            raise _damaged(path, str(error) or type(error).__name__) from error


def _check_directory(archive: zipfile.ZipFile, file: BinaryIO) -> None:
    """Raise ValueError where the directory of a zip file lacks entries, which zipfile overlooks."""
    file.seek(-_END - len(archive.comment), os.SEEK_END)
    entries = int.from_bytes(file.read(_END)[10:12], "little")
    places = [info.header_offset for info in archive.infolist()]
    if len(places) != entries or min(places, default=archive.start_dir) != 0:
        raise ValueError("its directory has lost an entry")


def _array(data: bytes) -> types.Array:
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    one = version == (1, 0)
    read = np.lib.format.read_array_header_1_0 if one else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("an array holds objects of Python, which are not read")
    if stream.tell() + math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError("an array is not as large as it says")
    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


def _sum(plain: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _damaged(path: types.Path, why: str) -> ValueError:
    return ValueError(f"{str(path)!r} is damaged: {why}")


def _unwritable(path: types.Path, error: OSError) -> OSError:
    return type(error)(
        f"cannot write {str(path)!r}: {error.strerror or error}. Give a path in a folder that can "
        "be written, check that the disk has room and that no other program holds the file open"
    )
