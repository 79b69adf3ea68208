"""The diffraction patterns of a scan, and the files of cameras and programs that hold them."""

from microinfer.frames.defects import find_defects, repair
from microinfer.frames.open import is_frames, open_frames
from microinfer.frames.reader import FrameReader
from microinfer.frames.source import Frames, FrameSource

__all__ = ["FrameReader", "FrameSource", "Frames", "find_defects", "is_frames", "open_frames", "repair"]
