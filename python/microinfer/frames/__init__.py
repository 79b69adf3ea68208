"""The diffraction patterns of a scan, and the files of cameras and programs that hold them."""

from microinfer.frames.open import is_frames, open_frames
from microinfer.frames.reader import FrameReader
from microinfer.frames.source import Frames, FrameSource

__all__ = ["FrameReader", "FrameSource", "Frames", "is_frames", "open_frames"]
