"""What an exported file says of itself, as JSON in its record ``extra/microinfer.json``."""

import dataclasses
import json
from typing import Any

import torch

from microinfer import __version__
from microinfer.crystals.diffraction import electron_wavelength
from microinfer.export.seal import VERSION
from microinfer.models import OrientationModel
from microinfer.models.refinement import RefinementSettings

UNITS = {
    "qx": "1/Angstrom, along detector axis 0 (down the image), from the direct beam",
    "qy": "1/Angstrom, along detector axis 1 (right), from the direct beam",
    "intensity": "any",
    "matrix": "rotation, v_crystal = matrix @ v_lab; NaN where invalid",
    "phase": "index into phases; -1 where invalid",
    "confidence": "probability that phase and orientation (to 3 degrees) are right; 0 where invalid",
    "lattice": "Angstrom and degrees",
    "voltage": "V",
    "wavelength": "Angstrom",
    "k_max": "1/Angstrom",
}


def metadata(
    model: OrientationModel, file_format: str, dtype: torch.dtype, core: dict[str, Any] | None = None
) -> str:
    """Describe a model as JSON: versions, phases with their operators, units, ranges and calibration.

    Parameters
    ----------
    model : OrientationModel
        The model.
    file_format : str
        Name of the file's format.
    dtype : torch.dtype
        Of the network's matrix products.
    core : dict, optional
        What the core needs beside the file's arrays, where it can run the model.

    Returns
    -------
    str
        JSON.

    Raises
    ------
    ValueError
        Where the model's card holds NaN or infinity, for which JSON has no number.
    """
    spec, card = model.spec, model.card
    voltage = card.get("voltage")
    k_max = float(card.get("k_max", spec.radius_max))
    facts = {
        "format": file_format,
        "version": VERSION,
        "microinfer": __version__,
        "torch": torch.__version__,
        "device": model.operators.device.type,
        "processor": torch.backends.cpu.get_cpu_capability(),
        "dtype": str(dtype).removeprefix("torch."),
        "kind": model.config.kind,
        "name": card.get("name") or "",
        "voltage": voltage,
        "k_max": k_max,
        "tokens": spec.to_dict(),
        "ranges": {
            "radius": [spec.direct_beam_radius, min(k_max, spec.radius_max)],
            "relative_intensity": [spec.intensity_min, 1.0],
            "disks": [spec.min_disks, spec.max_disks],
        },
        "units": UNITS,
        "calibration": list(model.calibration),
        "core": core,
        "refinement": None
        if voltage is None
        else {"wavelength": electron_wavelength(voltage), **dataclasses.asdict(RefinementSettings())},
        "phases": [{**phase.to_dict(), "reciprocal": phase.reciprocal.tolist()} for phase in model.phases],
        "card": card,
    }
    try:
        return json.dumps(facts, allow_nan=False)
    except ValueError as error:
        raise ValueError(
            f"the card of the model {facts['name']!r} cannot be written as JSON: {error}"
        ) from error
