"""The native HDF5 form: round trips, streaming, versions, malformed files."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import microinfer as mi
from helpers.scans import calibrated_vectors, equal, peaks_of_scans, save_vectors
from microinfer.peaks import BraggPeaks, PeakWriter, Scan, convert_peaks, native


@pytest.fixture
def scan() -> BraggPeaks:
    """Peaks of 5 x 7 positions: 0 to 5 each, 85 in all."""
    rng = np.random.default_rng(3)
    patterns = [rng.uniform(-1, 1, (n % 6, 3)) for n in range(35)]
    return BraggPeaks.from_patterns(patterns, Scan((5, 7), 2.5, "nm"))


@pytest.fixture
def native_file(tmp_path: Path, scan: BraggPeaks) -> Path:
    mi.write_peaks(tmp_path / "peaks.h5", scan)
    return tmp_path / "peaks.h5"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(peaks=peaks_of_scans())
def test_what_is_written_is_read(tmp_path: Path, peaks: BraggPeaks) -> None:
    path = tmp_path / "peaks.h5"
    peaks.save(path)
    assert equal(mi.read_peaks(path), peaks)


def test_blocks_of_rows_equal_those_of_the_peaks(native_file: Path, scan: BraggPeaks) -> None:
    with mi.open_peaks(native_file) as reader:
        assert reader.scan == scan.scan
        for start, stop in ((0, 1), (1, 4), (4, 5), (0, 5)):
            assert equal(reader.read_rows(start, stop), scan.read_rows(start, stop))


def test_whole_scan_is_joined_from_blocks(
    native_file: Path, scan: BraggPeaks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microinfer.peaks.scan.BLOCK_POSITIONS", 20)  # two rows of 7 positions
    assert equal(mi.read_peaks(native_file), scan)


def test_the_file_says_what_it_is(native_file: Path) -> None:
    with h5py.File(native_file) as file:
        assert file.attrs["format"] == b"microinfer-peaks"
        assert file.attrs["format_version"] == native.FORMAT_VERSION
        assert file["qx"].attrs["units"] == b"1/Angstrom"
        assert file["qx"].chunks is not None
    with mi.open_peaks(native_file) as reader:
        assert reader.description == {
            "format": "microinfer-peaks 3",
            "found": {"units": "1/Angstrom", "qr_calibrated": "False"},
            "applied": [],
        }
        assert repr(reader) == f"{type(reader).__name__}({str(native_file)!r}, {reader.scan})"


def test_a_closed_reader_says_so(native_file: Path) -> None:
    reader = mi.open_peaks(native_file)
    reader.close()
    with pytest.raises(ValueError, match="the reader is closed"):
        reader.read_rows(0, 1)


def replace(name: str, values: np.ndarray) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        del file[name]
        file[name] = values

    return edit


def set_values(name: str, where: int, value: float) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        file[name][where] = value

    return edit


def set_attribute(name: str, value: object) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__setitem__(name, value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_attribute("format_version", 4), "version 4 of the format microinfer-peaks.*install a newer one"),
        (set_attribute("format_version", "one"), "format_version of / must be a whole number, got 'one'"),
        (set_attribute("scan_shape", (5, 8)), r"/offsets must be integers of the shape \(41,\)"),
        (set_attribute("scan_shape", (5, 0)), "shape must be two numbers of at least 1"),
        (set_attribute("scan_step", -1.0), "step must be a positive number"),
        (lambda file: file.attrs.__delitem__("scan_units"), "there is no attribute scan_units of /"),
        (lambda file: file.__delitem__("qy"), "there is no dataset qy"),
        (replace("qx", np.zeros(7, np.float32)), r"/qx must be real numbers of the shape \(85,\)"),
        (replace("qx", np.full(85, b"x")), "/qx must be real numbers"),
        (replace("offsets", np.zeros(36)), "/offsets must be integers"),
        (set_values("offsets", 0, 1), "/offsets must begin with 0, got 1"),
        (set_values("offsets", 9, 9999), r"/offsets must not decrease.* got 9999 before .* \(1, 2\)"),
        (set_values("qx", 40, np.nan), r"qx must be finite, got nan at scan position \(2, 3\)"),
        (set_values("intensity", 0, np.inf), r"intensity must be finite, got inf at scan position \(0, 1\)"),
    ],
)
def test_malformed_files_are_refused(
    native_file: Path, edit: Callable[[h5py.File], None], message: str
) -> None:
    with h5py.File(native_file, "r+") as file:
        edit(file)
    with pytest.raises(ValueError, match=message) as caught:
        mi.read_peaks(native_file)
    assert str(native_file) in str(caught.value)


def test_a_flipped_bit_is_found(native_file: Path) -> None:
    with h5py.File(native_file) as file:
        place = file["qy"].id.get_chunk_info(0).byte_offset
    content = bytearray(native_file.read_bytes())
    content[place + 100] ^= 1
    native_file.write_bytes(content)
    with pytest.raises(OSError, match=r"peaks\.h5 is damaged: /qy: "):
        mi.read_peaks(native_file)


@pytest.mark.parametrize("argument", [{"name": "qx"}, {"pixel_size": 0.1}])
def test_arguments_for_other_files_are_refused(native_file: Path, argument: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(argument))} must not be given"):
        mi.open_peaks(native_file, **argument)


# --- conversion ---------------------------------------------------------------------------------------------


@pytest.fixture
def py4dstem_file(tmp_path: Path) -> Path:
    return save_vectors(tmp_path / "scan.h5", calibrated_vectors((9, 4)))


def test_a_converted_file_holds_the_same_peaks(
    tmp_path: Path, py4dstem_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "microinfer.peaks.scan.BLOCK_POSITIONS", 8
    )  # two rows of 4 positions: the last block is shorter
    done: list[int] = []
    with mi.open_peaks(py4dstem_file, pixel_size=0.03) as reader:
        convert_peaks(reader, tmp_path / "peaks.h5", done.append)
    assert done == [8, 8, 8, 8, 4]
    assert equal(mi.read_peaks(tmp_path / "peaks.h5"), mi.read_peaks(py4dstem_file, pixel_size=0.03))


def test_a_copy_never_replaces_its_original(native_file: Path) -> None:
    before = native_file.read_bytes()
    with mi.open_peaks(native_file) as reader, pytest.raises(ValueError, match="would replace the scan"):
        convert_peaks(reader, native_file)
    assert native_file.read_bytes() == before


def test_blocks_must_make_up_the_scan(tmp_path: Path, scan: BraggPeaks) -> None:
    def write(*blocks: BraggPeaks) -> None:
        with PeakWriter(tmp_path / "peaks.h5", (5, 7)) as writer:
            for block in blocks:
                writer.write_rows(block)

    three = scan.read_rows(0, 3)
    with pytest.raises(ValueError, match=r"3 x 7 positions after 3 rows do not fit a scan of shape \(5, 7\)"):
        write(three, three)
    with pytest.raises(ValueError, match="only 3 of 5 scan rows were written"):
        write(three)
    assert list(tmp_path.iterdir()) == []
