"""Arrays of `.npz` files: what fits its specification comes back as it was, everything else is named and refused."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from unite_mm.errors import UsageError
from unite_mm.kit.arrays import ArraySpec, npz_names, read_npz

SPECS = {
    "pixels": ArraySpec(np.uint8, (("N", "H", "W", 3), ("N", "H", "W")), empty=False),
    "labels": ArraySpec(np.integer, (("N",),), required=False, least=0),
}


def save(path: Path, **content: Any) -> Path:
    np.savez(path, **content)
    return path


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), count=st.integers(1, 4), grey=st.booleans(), labelled=st.booleans())
def test_what_fits_comes_back(data: st.DataObject, count: int, grey: bool, labelled: bool, tmp_path: Path) -> None:
    height, width = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    shape = (count, height, width) if grey else (count, height, width, 3)
    content = {"pixels": data.draw(arrays.arrays(np.uint8, shape))}
    if labelled:
        kind = data.draw(st.sampled_from([np.int64, np.int32, np.uint8]))
        content["labels"] = data.draw(arrays.arrays(kind, (count,), elements=st.integers(0, 100)))
    found = read_npz(save(tmp_path / "a.npz", **content, other=np.zeros(3)), SPECS)
    assert found.keys() == content.keys()
    for name, array in content.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


PIXELS = np.zeros((2, 5, 4, 3), dtype=np.uint8)

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"labels": np.zeros(2, int)}, "holds no array pixels"),
    "type": ({"pixels": PIXELS.astype(float)}, r"pixels is float64 \(2, 5, 4, 3\), not uint8 \(N, H, W, 3\) or"),
    "dimensions": ({"pixels": PIXELS[0, 0]}, r"pixels is uint8 \(4, 3\), not uint8"),
    "channels": ({"pixels": PIXELS[..., :2]}, r"pixels is uint8 \(2, 5, 4, 2\), not"),
    "nothing": ({"pixels": PIXELS[:0]}, r"pixels is uint8 \(0, 5, 4, 3\): it holds nothing"),
    "count": (
        {"pixels": PIXELS, "labels": np.zeros(3, int)},
        r"labels is int64 \(3,\), not integer \(N,\) with N = 2",
    ),
    "kind": ({"pixels": PIXELS, "labels": np.zeros(2)}, r"labels is float64 \(2,\), not integer \(N,\)"),
    "below": ({"pixels": PIXELS, "labels": np.array([0, -1])}, "labels holds values below 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_another_array_is_refused(name: str, tmp_path: Path) -> None:
    content, message = WRONG[name]
    with pytest.raises(UsageError, match=f"a.npz: {message}") as caught:
        read_npz(save(tmp_path / "a.npz", **content), SPECS, "images are (N, H, W, 3) uint8")
    assert "\n" not in caught.value.message and caught.value.hint == "images are (N, H, W, 3) uint8"


def test_sizes_are_bound_by_the_shape_that_fits(tmp_path: Path) -> None:
    square = {"mean": ArraySpec(np.floating, (("D",),), finite=True), "both": ArraySpec(np.floating, (("D", "D"),))}
    assert len(read_npz(save(tmp_path / "a.npz", mean=np.zeros(3), both=np.eye(3)), square)) == 2
    for both in (np.eye(2), np.zeros((3, 2)), np.zeros(3)):
        with pytest.raises(UsageError, match=r"both is .*, not floating \(D, D\) with D = 3"):
            read_npz(save(tmp_path / "a.npz", mean=np.zeros(3), both=both), square)
    with pytest.raises(UsageError, match="mean holds values that are not finite"):
        read_npz(save(tmp_path / "a.npz", mean=np.array([0, np.nan]), both=np.eye(2)), square)


def broken(kind: str, path: Path) -> Path:
    save(path, pixels=np.array([{}], dtype=object) if kind == "objects" else PIXELS)
    content = path.read_bytes()
    if kind == "page":
        path.write_bytes(b"<html>")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut":
        path.write_bytes(content[:-30])
    elif kind == "flipped":
        middle = content.index(b"\x93NUMPY") + 150
        path.write_bytes(content[:middle] + b"\xff" + content[middle + 1 :])
    elif kind == "single":
        with path.open("wb") as file:
            np.save(file, PIXELS)
    elif kind == "huge":
        header = str({"descr": "|u1", "fortran_order": False, "shape": (1 << 48,)}).ljust(117) + "\n"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("pixels.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    elif kind == "text":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("pixels.npy", b"no array")
    elif kind == "gone":
        path.unlink()
    return path


@pytest.mark.parametrize("kind", ["page", "empty", "cut", "flipped", "single", "huge", "text", "objects", "gone"])
def test_a_damaged_file_is_named_in_one_line(kind: str, tmp_path: Path) -> None:
    path = broken(kind, tmp_path / "a.npz")
    with pytest.raises(UsageError, match=r"a.npz: (cannot be read: |pixels is no array)") as caught:
        read_npz(path, SPECS)
    assert "\n" not in caught.value.message


def test_names_are_told_without_reading(tmp_path: Path) -> None:
    assert npz_names(save(tmp_path / "a.npz", b=np.zeros(1), a=np.array([{}], dtype=object))) == ("b", "a")
    with pytest.raises(UsageError, match="cannot be read"):
        npz_names(broken("cut", tmp_path / "c.npz"))
