"""What an exported file holds for the C++ core, which runs posterior models on CPUs without the file's graph."""

import zipfile
from pathlib import Path

from safetensors.numpy import save

from microinfer.models import OrientationModel, PosteriorModel
from microinfer.models.fused import arrays_of

RECORD = "microinfer.safetensors"
"""Name of the model's arrays inside the file."""
CPP_FORMATS = ("torchscript", "aoti")
"""The formats that C++ runs."""


def for_core(model: OrientationModel, file_format: str) -> PosteriorModel | None:
    """Return the model if the core can run it, else None: then the file's graph alone can.

    Parameters
    ----------
    model : OrientationModel
        On the device where the file will run.
    file_format : str
        Name of the file's format.
    """
    if not isinstance(model, PosteriorModel) or model.operators.device.type != "cpu":
        return None
    return model if file_format in CPP_FORMATS else None


def add_arrays(path: Path, model: PosteriorModel) -> None:
    """Add a model's arrays to an archive that torch wrote.

    They cannot be one of torch's extra records: loading a ``.pt2`` archive decodes those as text.
    """
    with zipfile.ZipFile(path, "a") as archive:
        folder = archive.namelist()[0].split("/")[0]
        archive.writestr(zipfile.ZipInfo(f"{folder}/{RECORD}"), save(arrays_of(model)))
