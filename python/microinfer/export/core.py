"""What an exported file holds for the C++ core, which runs models on CPUs without the file's graph."""

import zipfile
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors.numpy import save

from microinfer.models import OrientationModel, PosteriorModel, ReferenceModel
from microinfer.models.fused import CoreForm, core_form

RECORD = "microinfer.safetensors"
"""Name of the model's arrays inside the file."""


def for_core(model: OrientationModel) -> CoreForm | None:
    """Return the model as the core takes it, None where the file's graph alone can run it.

    Parameters
    ----------
    model : OrientationModel
        On the device where the file will run.
    """
    if not isinstance(model, PosteriorModel | ReferenceModel) or model.operators.device.type != "cpu":
        return None
    return core_form(model)


def add_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Add a model's arrays to an archive that torch wrote.

    They cannot be one of torch's extra records: loading a ``.pt2`` archive decodes those as text.
    """
    with zipfile.ZipFile(path, "a") as archive:
        folder = archive.namelist()[0].split("/")[0]
        archive.writestr(zipfile.ZipInfo(f"{folder}/{RECORD}"), save(arrays))
