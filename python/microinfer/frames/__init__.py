"""The diffraction patterns of a scan, and the files of cameras and programs that hold them."""

from microinfer.frames.source import Frames, FrameSource

__all__ = ["FrameSource", "Frames"]
