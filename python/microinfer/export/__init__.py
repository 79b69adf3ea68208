"""Models as files that run without this package: TorchScript, torch.export and AOTInductor."""

from microinfer.export.writer import FORMATS, export_model

__all__ = ["FORMATS", "export_model"]
