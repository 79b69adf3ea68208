"""Orientation maps for other programs: py4DSTEM, orix, .ang (EDAX, MTEX) and .ctf (HKL, MTEX)."""

from microinfer.mapping.exports.ang import to_ang
from microinfer.mapping.exports.ctf import to_ctf
from microinfer.mapping.exports.frame import ExportFrame, export_frame
from microinfer.mapping.exports.orix import to_orix
from microinfer.mapping.exports.py4dstem import to_py4dstem

__all__ = ["ExportFrame", "export_frame", "to_ang", "to_ctf", "to_orix", "to_py4dstem"]
