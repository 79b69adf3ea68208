"""EMPAD's frames of 128 x 128 pixels in a ``.raw``, and what is known of them in an ``.xml``."""

import re
import warnings
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from microinfer.crystals.diffraction import electron_wavelength
from microinfer.frames.reader import FrameReader
from microinfer.frames.stated import Axis, FrameOptions, ScanShape, Stated
from microinfer.frames.stored import Records, plain_record, whole_records
from microinfer.peaks.metadata import DIFFERENCE, find_voltage

_RECORD = plain_record((128, 128), np.dtype("<f4"), footer=2 * 128 * 4)  # two rows of numbers follow
_NAME = re.compile(r"scan_x(\d+)_y(\d+)")


def is_empad(path: Path) -> bool:
    """Whether a file describes frames of an EMPAD, or by its name has them."""
    if path.suffix.lower() == ".raw":
        return True
    if path.suffix.lower() != ".xml":
        return False
    with path.open("rb") as file:
        return b"<raw_file" in file.read(1 << 20)


def open_empad(path: Path, options: FrameOptions) -> FrameReader:
    """Open what an EMPAD wrote, by either of its files; errors as in `microinfer.open_frames`."""
    if path.suffix.lower() == ".raw":
        raw, stated = path, Stated(_named_shape(path.name))
    else:
        raw, stated = _read_xml(path, options)
    frames = Records([whole_records(raw, 0, _RECORD)], _RECORD)
    return FrameReader(path, "EMPAD", frames, stated, options)


def _read_xml(path: Path, options: FrameOptions) -> tuple[Path, Stated]:
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    element = root.find("raw_file")
    name = "" if element is None else element.get("filename", "")
    raw = path.with_name(Path(name).name)
    if not name or not raw.is_file():
        raise FileNotFoundError(f"{path} names {raw.name} as the file of its frames, which is not beside it")
    text = {item.tag: (item.text or "").strip() for item in root.find("iom_measurements") or ()}
    voltage = find_voltage([("voltage", text.get("source.get_voltage") or text.get("high_voltage", ""))])
    columns, rows = root.findtext("pix_x"), root.findtext("pix_y")
    shape = (int(rows), int(columns)) if rows and columns else _named_shape(name)
    pixel = _pixel(text, voltage, given=options.pixel_size is not None)
    return raw, Stated(shape, _steps(root, text, shape), pixel, voltage)


def _named_shape(name: str) -> ScanShape | None:
    match = _NAME.match(name)
    return (int(match[2]), int(match[1])) if match else None


def _steps(root: ElementTree.Element, text: dict[str, str], shape: ScanShape | None) -> tuple[Axis, ...]:
    """The field of view over the positions, as HyperSpy has it."""
    if shape is None:
        return ()
    if field := text.get("optics.get_full_scan_field_of_view"):
        fields = re.findall(r"[-+.\deE]+", field)
        if len(fields) != len(shape):
            raise ValueError(f"the field of view must be {len(shape)} numbers, got {field[:40]!r}")
        return tuple(Axis(float(f) / n, "m") for f, n in zip(fields, shape, strict=True))
    field = root.findtext("iom_measurements/full_scan_field_of_view/x")
    factor = root.findtext("iom_measurements/full_scan_field_of_view/scale_factor")
    return (Axis(float(field) / float(factor) / max(shape), "m"),) if field and factor else ()


def _pixel(text: dict[str, str], voltage: float | None, *, given: bool) -> tuple[Axis, ...]:
    """The pixel size, which older versions give twice: in 1/nm with a factor of 1e-9, and as an angle."""
    size, angle = (text.get(f"calibrated_{name}") for name in ("pixelsize", "diffraction_angle"))
    if not size:
        return ()
    axis = Axis(float(size) * 1e9, "1/nm")
    if angle and voltage:
        other = float(angle) / electron_wavelength(voltage)
        if abs(other - axis.scale / 10) > DIFFERENCE * other:
            if not given:
                warnings.warn(
                    f"the file gives its pixels as {axis.scale / 10:g} and as {other:g} 1/Angstrom: neither is taken; "
                    "give pixel_size= (--pixel-size), or find it from the rings of a known crystal",
                    UserWarning,
                    stacklevel=2,
                )
            return ()
    return (axis,)
