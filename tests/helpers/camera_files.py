"""Files of camera frames: the field's own programs write them, or they are written by their public description."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from helpers.optional import import_py4dstem

SHAPE = (3, 4, 8, 10)
STEP, PIXEL, VOLTAGE = 2.5, 0.02, 200e3  # nm, 1/Angstrom, V


def counts(dtype: Any = np.uint16, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    """Frames of which no two are alike, nor any two rows of a frame."""
    kind = np.dtype(dtype).kind
    values = np.random.default_rng(seed).integers(-100 if kind == "i" else 0, 120, shape)
    return values.astype(dtype)


def signal(data: np.ndarray, **axes: Any) -> dict[str, Any]:
    """A signal as HyperSpy hands it to RosettaSciIO; `axes` change the units and scales of the axes."""
    pixel_units = axes.get("pixel_units", "1/nm")
    pixel = axes.get("pixel", PIXEL * 10)
    names = ["y", "x", "ky", "kx"][-data.ndim :]
    return {
        "data": data,
        "axes": [
            {
                "name": name,
                "size": size,
                "index_in_array": n,
                "scale": pixel if name.startswith("k") else axes.get("step", STEP),
                "offset": 0.0,
                "units": pixel_units if name.startswith("k") else axes.get("step_units", "nm"),
                "navigate": not name.startswith("k"),
            }
            for n, (name, size) in enumerate(zip(names, data.shape, strict=True))
        ],
        "metadata": {
            "General": {"title": axes.get("title", "scan")},
            "Signal": {"signal_type": "electron_diffraction"},
            "Acquisition_instrument": {"TEM": {"beam_energy": VOLTAGE / 1e3, "camera_length": 80.0}},
        },
        "original_metadata": {},
        "attributes": {"_lazy": False, "ragged": False},
        "tmp_parameters": {},
        "learning_results": {},
        "package": "hyperspy",
        "package_info": "",
        "package_version": "2.4",
        "models": {},
    }


def write_npy(path: Path, data: np.ndarray) -> Path:
    np.save(path, data)
    return path


def write_hspy(path: Path, data: np.ndarray, **options: Any) -> Path:
    from rsciio.hspy import file_writer

    file_writer(str(path), signal(data), **options)
    return path


def write_zspy(path: Path, data: np.ndarray) -> Path:
    from rsciio.zspy import file_writer

    file_writer(str(path), signal(data), show_progressbar=False)
    return path


def write_blo(path: Path, data: np.ndarray) -> Path:
    """Pixels of 2 per millimetre at a camera length that makes them `PIXEL` at `VOLTAGE`."""
    from rsciio.blockfile import file_writer
    from rsciio.blockfile._api import get_default_header
    from rsciio.utils._array import sarray2dict

    header = sarray2dict(get_default_header())
    length = 0.05 / 100 / (PIXEL * 0.025079340450548) * 1e4  # tenths of a millimetre
    header.update(Beam_energy=int(VOLTAGE), Camera_length=round(length), Note="")
    content = signal(data, pixel_units="cm", pixel=0.05)
    content["original_metadata"] = {"blockfile_header": header}
    file_writer(str(path), content, show_progressbar=False)
    return path


def write_tvips(path: Path, data: np.ndarray, **options: Any) -> Path:
    from rsciio.tvips import file_writer

    file_writer(str(path), signal(data, pixel=1.0), show_progressbar=False, **options)
    return path


def write_tiff(path: Path, data: np.ndarray) -> Path:
    from rsciio.tiff import file_writer

    file_writer(str(path), signal(data))
    return path


def write_ncem(path: Path, data: np.ndarray) -> Path:
    from rsciio.emd import file_writer

    file_writer(str(path), signal(data))
    return path


def write_py4dstem(path: Path, data: np.ndarray, **calibration: Any) -> Path:
    """A datacube of py4DSTEM 0.14, saved by it."""
    py4dstem = import_py4dstem()
    cube = py4dstem.DataCube(data)
    chosen = {
        "R_pixel_size": STEP,
        "R_pixel_units": "nm",
        "Q_pixel_size": PIXEL,
        "Q_pixel_units": "A^-1",
    } | calibration
    for name, value in chosen.items():
        getattr(cube.calibration, f"set_{name}")(value)
    py4dstem.save(str(path), cube, mode="o")
    return path


def write_py4dstem_13(path: Path, data: np.ndarray) -> Path:
    """A datacube in the layout of py4DSTEM 0.13."""
    with h5py.File(path, "w") as file:
        root = file.create_group("4DSTEM")
        root.attrs.update(emd_group_type="root", version_major="0", version_minor="13", version_release="11")
        cube = root.create_group("datacube")
        cube.attrs.update(emd_group_type=1, py4dstem_class="DataCube")
        cube.create_dataset("data", data=data).attrs["units"] = "pixel intensity"
        axes = (("Rx", STEP, "nm"), ("Ry", STEP, "nm"), ("Qx", PIXEL, "A^-1"), ("Qy", PIXEL, "A^-1"))
        for n, (name, size, units) in enumerate(axes):
            cube.create_dataset(f"dim{n}", data=[0.0, size]).attrs.update(name=name, units=units)
    return path


def write_py4dstem_12(path: Path, data: np.ndarray) -> Path:
    """A datacube in the layout of py4DSTEM 0.9 to 0.12."""
    with h5py.File(path, "w") as file:
        top = file.create_group("4DSTEM_experiment")
        top.attrs.update(emd_group_type=2, version_major=0, version_minor=12, version_release=6)
        cube = top.create_group("data/datacubes/datacube_0")
        cube.attrs.update(emd_group_type=1)
        cube.create_dataset("data", data=data)
        axes = (
            ("R_x", STEP, "[n_m]"),
            ("R_y", STEP, "[n_m]"),
            ("Q_x", PIXEL, "A^-1"),
            ("Q_y", PIXEL, "A^-1"),
        )
        for n, (name, size, units) in enumerate(axes):
            item = cube.create_dataset(f"dim{n + 1}", data=np.arange(data.shape[n]) * size)
            item.attrs.update(name=np.bytes_(name), units=np.bytes_(units))
    return path


def write_mib(
    path: Path, data: np.ndarray, *, chips: int = 1, hdr: bool = True, frames: int | None = None
) -> Path:
    """A file of Merlin, by the headers of real ones; `frames` are announced in the ``.hdr``."""
    rows, columns, height, width = data.shape
    depth = {1: "U08", 2: "U16", 4: "U32"}[data.dtype.itemsize]
    length = {1: 384, 4: 768}[chips]
    layout = {1: "   1x1", 4: "   2x2"}[chips]
    with path.open("wb") as file:
        for n, frame in enumerate(data.reshape(-1, height, width), 1):
            text = (
                f"MQ1,{n:06d},{length:05d},{chips:02d},{width:04d},{height:04d},{depth},{layout},01,"
                f"2024-07-02 13:49:{n % 60:02d}.390226,0.001000,0,0,0,1.2E+1,MQ1A,"
                f"2024-07-02T11:49:{n % 60:02d}.390226675Z,1000000ns,12,"
            )
            file.write(text.encode().ljust(length))
            file.write(frame[::-1].astype(frame.dtype.newbyteorder(">")).tobytes())
    if hdr:
        path.with_suffix(".hdr").write_text(
            "HDR,\t\nAssembly Size (NX1, 2X2):\t   1x1\n"
            f"Frames in Acquisition (Number):\t{frames or rows * columns}\n"
            f"Frames per Trigger (Number):\t{columns}\nScanX:\t{columns}\nScanY:\t{rows}\nEnd\t"
        )
    return path


def write_mrc(path: Path, data: np.ndarray, order: str = "<", extended: bytes = b"") -> Path:
    """An MRC file: NX, NY, NZ and MODE, an extended header, frames."""
    mode = {"u1": 0, "i2": 1, "f4": 2, "u2": 6}[data.dtype.str[1:]]
    frames = data.reshape(-1, *data.shape[-2:])
    header = bytearray(1024)
    struct.pack_into(f"{order}4I", header, 0, frames.shape[2], frames.shape[1], len(frames), mode)
    struct.pack_into(f"{order}I", header, 92, len(extended))
    header[208:214] = b"MAP " + (b"DD" if order == "<" else b"\x11\x11")
    path.write_bytes(bytes(header) + extended + frames.astype(data.dtype.newbyteorder(order)).tobytes())
    return path


def write_empad(path: Path, data: np.ndarray, *, old: bool = True) -> Path:
    """The ``.xml`` and ``.raw`` of an EMPAD, in the words of versions 0.51 and 1.2.2."""
    rows, columns = data.shape[:2]
    raw = path.with_name(f"scan_x{columns}_y{rows}.raw")
    padded = np.zeros((rows * columns, 130, 128), "<f4")
    padded[:, :128] = data.reshape(-1, 128, 128)
    padded[:, 128:] = -1.0
    padded.tofile(raw)
    if old:
        about = (
            f"<pix_x>{columns}</pix_x><pix_y>{rows}</pix_y><iom_measurements>"
            f"<optics.get_cameralength>0.72</optics.get_cameralength><source.get_voltage>{VOLTAGE}</source.get_voltage>"
            f"<optics.get_full_scan_field_of_view>[{rows * STEP}e-9, {columns * STEP}e-9]"
            f"</optics.get_full_scan_field_of_view><calibrated_pixelsize>{PIXEL * 1e-8}</calibrated_pixelsize>"
        )
    else:
        about = (
            f"<iom_measurements><full_scan_field_of_view><scale_factor>0.72</scale_factor>"
            f"<x>{0.72 * STEP * max(rows, columns)}e-9</x><y>1</y></full_scan_field_of_view>"
            f"<high_voltage_state>True</high_voltage_state><high_voltage>{VOLTAGE}</high_voltage>"
        )
    path.write_text(
        f'<root name="a"><timestamp isoformat="2019-06-06T13:30:00.164675"/><raw_file filename="{raw.name}"/>'
        f"{about}</iom_measurements></root>"
    )
    return path


def write_dectris(
    path: Path, data: np.ndarray, *, files: int = 2, beside: bool = True, **layout: Any
) -> Path:
    """A master file of DECTRIS and its files of frames; with the microscope's file beside."""
    rows, columns = data.shape[:2]
    frames = data.reshape(-1, *data.shape[-2:])
    base = path.name.removesuffix("_master.h5")
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = np.bytes_("NXentry")
        for n, part in enumerate(np.array_split(frames, files), 1):
            name = f"{base}_data_{n:06d}.h5"
            with h5py.File(path.with_name(name), "w") as other:
                other.create_dataset("entry/data/data", data=part, chunks=(1, *part.shape[1:]), **layout)
            entry[f"data/data_{n:06d}"] = h5py.ExternalLink(name, "/entry/data/data")
        camera = entry.create_group("instrument/detector/detectorSpecific")
        camera.create_dataset("nimages", data=1)
        camera.create_dataset("ntrigger", data=len(frames))
        camera.create_dataset("photon_energy", data=VOLTAGE)
        mask = np.zeros(frames.shape[1:], np.uint32)
        mask[2, 3] = 2
        camera.create_dataset("pixel_mask", data=mask)
    if beside:
        with h5py.File(path.with_name(f"{base}.h5"), "w") as file:
            file.create_group("STEM Metadata").attrs.update(
                {"NumPixelsX": columns, "NumPixelsY": rows, "Pixel Size": [STEP], "High Tension": [VOLTAGE]}
            )
    return path


def write_dm(path: Path, data: np.ndarray, *, units: tuple[str, ...] = ("nm", "nm", "1/nm", "1/nm")) -> Path:
    """A file of Gatan's Digital Micrograph 3 or 4, by its suffix: the tags that say what the frames are."""
    version = int(path.suffix[3])
    codes = {"u1": (6, 10), "u2": (10, 4), "u4": (11, 5), "i2": (1, 2), "i4": (7, 3), "f4": (2, 6)}
    kind, element = codes[data.dtype.str[1:]]
    size = ">q" if version == 4 else ">i"

    def number(value: int) -> bytes:
        return struct.pack(size, value)

    def tag(name: str, code: int, body: bytes) -> bytes:
        length = struct.pack(">q", len(body)) if version == 4 else b""
        return struct.pack(">bh", code, len(name)) + name.encode() + length + body

    def group(name: str, *tags: bytes) -> bytes:
        return tag(name, 20, b"\1\0" + number(len(tags)) + b"".join(tags))

    def value(name: str, *info: int, content: bytes) -> bytes:
        return tag(name, 21, b"%%%%" + number(len(info)) + b"".join(map(number, info)) + content)

    def integer(name: str, content: int) -> bytes:
        return value(name, 5, content=struct.pack("<I", content))

    def real(name: str, content: float) -> bytes:
        return value(name, 6, content=struct.pack("<f", content))

    def text(name: str, content: str) -> bytes:
        return value(name, 20, 4, len(content), content=content.encode("utf-16-le"))

    scales = {"nm": STEP, "1/nm": PIXEL * 10, "": 1.0}
    dimensions = [
        group("", real("Origin", 0.0), real("Scale", scales[unit]), text("Units", unit))
        for unit in units[-data.ndim :][::-1]
    ]
    image = group(
        "ImageData",
        group(
            "Calibrations",
            group("Brightness", real("Origin", 0.0), real("Scale", 1.0), text("Units", "")),
            group("Dimension", *dimensions),
        ),
        value("Data", 20, element, data.size, content=data.astype(data.dtype.newbyteorder("<")).tobytes()),
        integer("DataType", kind),
        group("Dimensions", *(integer("", n) for n in data.shape[::-1])),
        integer("PixelDepth", data.dtype.itemsize),
    )
    tags = group("ImageTags", group("Microscope Info", real("Voltage", VOLTAGE)))
    root = (group("ImageList", group("", image, tags)),)
    body = b"\1\0" + number(len(root)) + b"".join(root)
    path.write_bytes(
        struct.pack(">i", version) + number(len(body) + 12) + struct.pack(">i", 1) + body + bytes(8)
    )
    return path


Writer = Callable[[Path, np.ndarray], Path]
