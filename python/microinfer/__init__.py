"""Crystal orientation and phase maps from the Bragg peaks of 4D-STEM scans."""

from importlib.metadata import version as _version

__version__ = _version("microinfer")
