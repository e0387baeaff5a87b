"""What is kept of the trials of a study: one JSON file each, and its arrays beside it."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np

from activation_pruning.support import files
from activation_pruning.support.files import replacing
from activation_pruning.support.shown import shown

FORMAT = 1
STUDY = "study.json"
# With a second number and a point in front, or .part: what a writer that was killed has left.
RECORD = re.compile(r"\.?(.*-)?seed\d+-[0-9a-f]{8}(-[0-9a-f]{12})?\.(json|npz|part)(\.part)?")
KNOWN = ("name", "settings", "tries", "result", "traceback", "has_arrays", "format")  # of a record
MOVED = {"lab.compression.work": "compression_report_bench.work"}  # studies of older folders
FRONT = {"network": "{}", "arm": "{}", "sparsity": "{:.2f}", "events": "{}"}  # of a name


def name_of(settings: dict) -> str:
    """Name a trial: <arm>-<sparsity>-<events>-seed<seed>-<hash of all settings>.

    What the settings do not have is left out of the name.

    Raises TypeError for a setting that JSON does not give back as it was, ValueError without seed.
    """
    check(settings)
    text = json.dumps(settings, sort_keys=True)
    front = [form.format(settings[key]) for key, form in FRONT.items() if key in settings]
    front = [re.sub(r"[^\w.+-]", "_", part) for part in front]
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return "-".join([*front, f"seed{settings['seed']}", digest])


def check(settings: dict) -> None:
    """Raise unless settings can be told apart by a hash, and read back from a file as they are."""
    for key, value in settings.items():
        try:
            same = json.loads(json.dumps({key: value}, allow_nan=False)) == {key: value}
        except (TypeError, ValueError):
            same = False
        if not same:
            raise TypeError(
                f"setting {key!r} is {shown(value)}, a {type(value).__name__}, of which no hash "
                "can be made. Settings are text, whole and finite numbers, true, false, None, and "
                "lists and dicts (with text as keys) of these; write list(...), int(...) or a name"
            )
    seed = settings.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        told = shown(seed)
        raise ValueError(f"setting 'seed' is {told}; every trial has a whole number from 0 on")


def claim(folder: Path, study: str) -> None:
    """Make the folder that of a study, or find that it is.

    Raises ValueError where it belongs to another study or another format, OSError where nothing
    can be written. A folder of records without a `study.json` is taken over.
    """
    path = folder / STUDY
    told = files.sealed({"study": study, "format": FORMAT})
    if not path.exists():
        with replacing(path) as part:
            part.write_text(told)
        return
    try:
        found = files.unsealed(path, ("study", "format"), FORMAT)
        name, version = MOVED.get(found["study"], found["study"]), found["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not readable as what a study is ({error!r})") from error
    if name != study:
        raise ValueError(
            f"{folder} holds the study {name!r}, not {study!r}: nothing was written. Give "
            "another --out, or move it away"
        )
    _check_format(path, version)
    with replacing(path) as part:  # a folder that cannot be written is found out now, not later
        part.write_text(told)


def _check_format(path, version):
    if version != FORMAT:
        raise ValueError(
            f"{path} has format {version!r}, and this program reads and writes {FORMAT}: nothing "
            "was written. Give another --out, or use the version that wrote it"
        )


def stored(folder: Path, settings: dict) -> dict | None:
    """Read a finished record; None where there is none, it failed, or it cannot be read.

    Raises ValueError for one of another format.
    """
    path = _inside(folder, f"{name_of(settings)}.json")
    if not path.exists():
        return None
    try:
        record = files.unsealed(path, KNOWN, FORMAT)
        version = record.get("format", FORMAT)
    except (OSError, ValueError) as error:
        return _useless(path, error)
    _check_format(path, version)
    try:
        if record["settings"] != settings or record["name"] != path.stem:
            raise ValueError("the settings in it are not those of its name")
        if "traceback" in record:
            print(f"{path.name}: failed last time; runs again", flush=True)
            return None
        record["result"] = _renamed(record["result"])
        record["result"].keys()
        arrays_of(folder, record)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return _useless(path, error)
    return record


def _useless(path, error):
    print(f"{path}: cannot be used ({error!r}); this run is done again", flush=True)


def arrays_of(folder: Path, record: dict) -> dict[str, np.ndarray]:
    """Read the arrays that belong to a record; an empty dict where it has none.

    Raises ValueError for a file that is damaged, missing or not that of the record.
    """
    if not record.get("has_arrays"):
        return {}
    path = _inside(folder, f"{record['name']}.npz")
    if not path.exists():
        raise ValueError(f"{path}: the file is missing")
    if record.get("arrays_sha256", known := _digest(path)) != known:
        raise ValueError(f"{path}: it is damaged, or not the one that was kept with its record")
    return files.arrays(path)


def _inside(folder, name):
    """The path of a file directly in a folder; ValueError for a name that leads elsewhere."""
    path = folder / name
    plain = re.fullmatch(r"[\w.+-]+", name) is not None
    if not plain or path.resolve().parent != folder.resolve():
        raise ValueError(f"{str(path)!r} leads out of the folder of the records, {str(folder)!r}")
    return path


def _digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def keep(folder: Path, record: dict, arrays: dict[str, np.ndarray]) -> None:
    """Write a record, and its arrays before it, each complete or not at all.

    Raises OSError, which names the file, for a full disk and the like.
    """
    path = _inside(folder, f"{record['name']}.json")
    record |= {"has_arrays": bool(arrays), "format": FORMAT}
    if arrays:
        with replacing(_inside(folder, f"{record['name']}.npz")) as part:
            with part.open("wb") as file:
                np.savez_compressed(file, **arrays)
            record["arrays_sha256"] = _digest(part)
    with replacing(path) as part:
        part.write_text(files.sealed(record))


def _renamed(found):
    """A result in the words of today: `sparsity` is measured, what is asked for a target.

    Older records say sparsity for the target wherever they have measured_sparsity as well.
    """
    if isinstance(found, list):
        return [_renamed(each) for each in found]
    if not isinstance(found, dict):
        return found
    older = {"sparsity": "target_sparsity", "measured_sparsity": "sparsity"}
    names = older if "measured_sparsity" in found else {}
    return {names.get(key, key): _renamed(value) for key, value in found.items()}


def forget(folder: Path) -> None:
    """Delete the records in a folder, and nothing else that may be there."""
    for path in folder.glob("*seed*"):
        if RECORD.fullmatch(path.name):
            path.unlink()
