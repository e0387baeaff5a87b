"""Files with checksums, and files of arrays that claim more than they hold."""

import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest

from activation_pruning.support import files

pytestmark = pytest.mark.lowest


def test_what_is_sealed_comes_back(tmp_path):
    entries = {"b": [1, 0.1, None, "é\ud800"], "a": {"x": float("inf")}, "format": 1}
    (tmp_path / "a.json").write_text(files.sealed(entries))
    assert files.unsealed(tmp_path / "a.json", (), 1) == entries
    (tmp_path / "a.json").write_text(files.sealed({"at": tmp_path}, default=str))
    assert files.unsealed(tmp_path / "a.json", (), 1) == {"at": str(tmp_path)}


def test_other_formats_are_left_to_their_programs(tmp_path):
    (tmp_path / "a.json").write_text('{"format": 2, "sha256": "another kind", "new": 1}')
    assert files.unsealed(tmp_path / "a.json", ("format",), 1)["format"] == 2
    with pytest.raises(ValueError, match="is damaged"):
        files.unsealed(tmp_path / "a.json", ("format",), 2)


def test_older_files_have_no_checksum(tmp_path):
    (tmp_path / "a.json").write_text('{"seed": 1}')
    assert files.unsealed(tmp_path / "a.json", ("seed",), 1) == {"seed": 1}
    with pytest.raises(ValueError, match=r"a\.json' is damaged: it holds 'seed', which is unknown"):
        files.unsealed(tmp_path / "a.json", ("name",), 1)


@pytest.mark.parametrize(
    "text", [b"[" * 10**6, b'{"a":' * 10**5, b"1" * 10**5, b"", b"3", b"\xff", b"\0", b'{"a":1}{']
)
def test_what_is_no_json_is_named(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"a\.json' is damaged"):
        files.unsealed(tmp_path / "a.json", (), 1)


def test_arrays_come_back(tmp_path):
    given = {"w0": np.arange(6.0).reshape(2, 3), "w1": np.array(3), "b": np.zeros((0, 4), "i2")}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **given)
        found = files.arrays(tmp_path / "a.npz")
        assert list(found) == list(given)
        for name, array in given.items():
            np.testing.assert_array_equal(found[name], array, strict=True)


def zipped(path, header, data=b"x" * 8):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, header)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", stream.getvalue() + data)


@pytest.mark.parametrize(
    ("shape", "descr"),
    [((10**10,), "<f8"), ((10**6, 10**6, 10**6), "<f8"), ((0,), "<f8"), ((2,), "<f8"), ((1,), "|O"),
     ((1,), "<f4"), ((-1,), "<f8")],
)  # fmt: skip
def test_arrays_that_claim_more_or_less_than_they_hold(tmp_path, shape, descr):
    zipped(tmp_path / "a.npz", {"descr": descr, "fortran_order": False, "shape": shape})
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"a\.npz' is damaged"):
            files.arrays(tmp_path / "a.npz")
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


def test_what_is_no_file_of_arrays_is_named(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    for data in (b"", b"PK", (tmp_path / "a.npy").read_bytes()):
        (tmp_path / "a.npz").write_bytes(data)
        with pytest.raises(ValueError, match=r"a\.npz' is damaged"):
            files.arrays(tmp_path / "a.npz")
    with pytest.raises(FileNotFoundError):
        files.arrays(tmp_path / "nothing.npz")
    assert json.loads(files.sealed({}))
