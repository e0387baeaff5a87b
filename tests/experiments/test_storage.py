"""Records: read as they were written, or done again; never from or to another folder."""

import json

import numpy as np
import pytest

from lab import storage

SETTINGS = {"arm": "a", "sparsity": 0.5, "events": 2, "seed": 3}


def kept(folder, **more):
    record = {"name": storage.name_of(SETTINGS), "settings": SETTINGS, "result": {"x": 0.1, **more}}
    storage.keep(folder, record, {"w": np.arange(6.0).reshape(2, 3)})
    return folder / f"{record['name']}.json"


def test_records_and_arrays_come_back(tmp_path):
    kept(tmp_path)
    record = storage.stored(tmp_path, SETTINGS)
    assert record["result"] == {"x": 0.1}
    assert storage.arrays_of(tmp_path, record)["w"].tolist() == [[0, 1, 2], [3, 4, 5]]


OUTSIDE = ["../secret", "/tmp/secret", "a/../../secret", "../", "a\0b", "a\\b", "link", "\n"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_records_name_no_files_outside(tmp_path, name):
    folder = tmp_path / "runs"
    folder.mkdir()
    np.savez(tmp_path / "secret.npz", w=np.ones(2))
    (tmp_path / "secret.json").write_text("{}")
    for suffix in ("npz", "json"):
        (folder / f"link.{suffix}").symlink_to(tmp_path / f"secret.{suffix}")
    before = sorted(tmp_path.rglob("*"))
    record = {"name": name, "settings": SETTINGS, "result": {}, "has_arrays": True}
    with pytest.raises(ValueError, match="leads out of the folder"):
        storage.arrays_of(folder, record)
    with pytest.raises(ValueError, match="leads out of the folder"):
        storage.keep(folder, record, {"w": np.zeros(3)})
    assert sorted(tmp_path.rglob("*")) == before
    assert np.load(tmp_path / "secret.npz")["w"].tolist() == [1, 1]


def test_a_record_that_bears_another_name_is_not_believed(tmp_path, capsys):
    path = kept(tmp_path)
    record = json.loads(path.read_text())
    del record["sha256"], record["arrays_sha256"]  # as before there were checksums
    path.write_text(json.dumps(record | {"name": "../other"}))
    assert storage.stored(tmp_path, SETTINGS) is None
    assert "cannot be used" in capsys.readouterr().out
    path.write_text(json.dumps(record))
    assert storage.stored(tmp_path, SETTINGS)["result"] == {"x": 0.1}


def test_a_record_that_is_a_link_to_elsewhere_is_not_read(tmp_path):
    (tmp_path / "runs").mkdir()
    path = kept(tmp_path)
    (tmp_path / "runs" / path.name).symlink_to(path)
    with pytest.raises(ValueError, match="leads out of the folder"):
        storage.stored(tmp_path / "runs", SETTINGS)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 10_000, "[]", "\xff", ""])
def test_what_is_no_record_is_done_again(tmp_path, capsys, text):
    path = kept(tmp_path)
    path.write_bytes(text.encode("latin-1"))
    assert storage.stored(tmp_path, SETTINGS) is None
    assert path.name in capsys.readouterr().out
    (tmp_path / storage.STUDY).write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"study\.json"):
        storage.claim(tmp_path, "trials.nap")


def test_a_digit_that_has_changed_is_noticed(tmp_path, capsys):
    path = kept(tmp_path)
    path.write_text(path.read_text().replace("0.1", "0.2"))
    assert storage.stored(tmp_path, SETTINGS) is None
    assert "its checksum is that of another content" in capsys.readouterr().out


def test_arrays_of_another_record_are_noticed(tmp_path, capsys):
    path = kept(tmp_path)
    with path.with_suffix(".npz").open("wb") as file:
        np.savez_compressed(file, w=np.zeros((2, 3)))
    assert storage.stored(tmp_path, SETTINGS) is None
    assert "not the one that was kept with its record" in capsys.readouterr().out
