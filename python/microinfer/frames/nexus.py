"""The HDF5 files of DECTRIS' cameras, and NeXus files of the same layout."""

from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from microinfer.frames.hdf5 import require_readable
from microinfer.frames.reader import FrameReader
from microinfer.frames.stated import Axis, FrameOptions, Stated
from microinfer.frames.stored import ArrayFrames, Joined
from microinfer.hdf5 import dataset, find, open_hdf5
from microinfer.peaks.metadata import find_voltage

_MASTER = "_master.h5"  # how the names of DECTRIS' master files end


def is_nexus(path: Path) -> bool:
    """Whether a file has the entry of NeXus, as DECTRIS' have."""
    with open_hdf5(path) as file, file:
        return bool(file.get("entry/data", getclass=True))


def open_nexus(path: Path, options: FrameOptions) -> FrameReader:
    """Open the master file of a DECTRIS camera, or another NeXus file; errors as in `microinfer.open_frames`.

    A master file links the files of its frames. Those that lie beside it are followed, by their name alone.
    """
    with open_hdf5(path) as file, ExitStack() as stack:
        stack.callback(file.close)
        data = find(file, "entry/data")
        if not isinstance(data, h5py.Group):
            raise ValueError("entry/data is no group")
        items = [_linked(path, data, name, stack) for name in sorted(data) if name.startswith("data")]
        parts = []
        for item in items:
            if item.ndim > 2:
                require_readable(item)
                parts.append(ArrayFrames(item, chunk=item.chunks))
        if not parts:
            raise ValueError("entry/data has no frames, datasets data... of the shape (frames, Qx, Qy)")
        camera = find(file, "entry/instrument/detector/detectorSpecific")
        triggers, images = _number(camera, "ntrigger"), _number(camera, "nimages")
        missing = max(0, triggers * images - sum(part.count for part in parts))
        frames = Joined(parts, missing, stack.pop_all().close)
        stated = _stated(path, file, frames, parts[0].scan_shape if len(parts) == 1 else None)
        return FrameReader(
            path, "DECTRIS or NeXus", frames, stated, options, _pixel_mask(camera, frames.frame_shape)
        )


def _stated(path: Path, file: h5py.File, frames: Joined, shape: tuple[int, int] | None) -> Stated:
    """What the camera's file states, and the one beside that the microscope's program writes."""
    camera, beam = (find(file, f"entry/instrument/{name}") for name in ("detector/detectorSpecific", "beam"))
    energy = _number(camera, "photon_energy") or _number(beam, "incident_energy")
    voltage = find_voltage([("energy (eV)", energy)])
    steps: tuple[Axis, ...] = ()
    triggers, images = _number(camera, "ntrigger"), _number(camera, "nimages")
    if triggers > 1 and images > 1:
        shape = triggers, images  # a trigger for every row
    beside = path.with_name(path.name.removesuffix(_MASTER) + path.suffix)
    if path.name.endswith(_MASTER) and beside.is_file():
        with open_hdf5(beside) as other, other:
            if "STEM Metadata" in other:
                about = {name: np.ravel(value) for name, value in other["STEM Metadata"].attrs.items()}
                if "NumPixelsX" in about and "NumPixelsY" in about:
                    shape = int(about["NumPixelsY"][0]), int(about["NumPixelsX"][0])
                if "Pixel Size" in about:
                    steps = (Axis(float(about["Pixel Size"][0]), "nm"),)
                if "High Tension" in about:
                    voltage = find_voltage([("voltage (V)", float(about["High Tension"][0]))]) or voltage
    return Stated(shape, steps, voltage=voltage)


def _linked(path: Path, data: h5py.Group, name: str, stack: ExitStack) -> h5py.Dataset:
    """A dataset of a group, or of a file beside that the group links."""
    link = data.get(name, getlink=True)
    if not isinstance(link, h5py.ExternalLink):
        return dataset(data, name)
    if Path(link.filename).name != link.filename:
        raise ValueError(
            f"{data.name}/{name} is a link to {link.filename}, which is not followed: "
            "files of frames are looked for beside the master file alone"
        )
    beside = path.with_name(link.filename)
    if not beside.is_file():
        raise FileNotFoundError(f"{path} links {beside.name} as a file of its frames, which is not beside it")
    with open_hdf5(beside) as other:
        stack.callback(other.close)
        return dataset(other, link.path)


def _number(group: h5py.Group | h5py.Dataset | None, name: str) -> int:
    """A number that a dataset of a group has, to whole ones; 0 where there is none."""
    item = find(group, name) if isinstance(group, h5py.Group) else None
    if not isinstance(item, h5py.Dataset) or item.size != 1 or item.dtype.kind not in "iuf":
        return 0
    return int(np.ravel(item[()])[0])


def _pixel_mask(group: h5py.Group | h5py.Dataset | None, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    """The pixels that the camera marks as gaps or as defects."""
    item = find(group, "pixel_mask") if isinstance(group, h5py.Group) else None
    if not isinstance(item, h5py.Dataset) or item.shape != shape:
        return None
    require_readable(item)
    mask = np.asarray(item[()]) != 0
    return mask if mask.any() else None
