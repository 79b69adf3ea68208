"""Writing a model in one of the formats that other programs load."""

import copy
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as fx_config

from microinfer.export.core import add_arrays, for_core
from microinfer.export.metadata import metadata
from microinfer.export.program import Program
from microinfer.export.seal import seal
from microinfer.files import atomic_output
from microinfer.models import OrientationModel, load_model
from microinfer.ops.procrustes import portable_operators

ENTRIES = ("forward", "ragged", "candidates")
"""The methods of `Program` that a file offers."""
RECORD = "microinfer.json"
"""Name of the metadata inside the file."""
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def export_model(
    model: OrientationModel | str | PathLike[str],
    path: str | PathLike[str],
    *,
    format: str = "torchscript",
    dtype: str = "float32",
    device: str = "cpu",
) -> None:
    """Write a model as one file that turns Bragg peaks into orientations without this package.

    Tokenization, network, decoding and calibration are all inside, in torch's own operators. Refinement is not:
    the answers are those of ``map_orientations(..., refine=None)``.

    The file offers three entries; the numbers of patterns and of peaks are free, and may be 0:

    - ``forward(peaks, count)``: padded peaks (B, N, 3) float32, that is qx and qy in 1/Angstrom and intensity,
      and how many peaks each pattern has, (B,) int64;
    - ``ragged(values, offsets)``: peaks (P, 3) float32, pattern i being ``values[offsets[i]:offsets[i + 1]]``;
    - ``candidates(peaks, count)``: as ``forward``, for whoever refines the answers.

    The first two return matrix (B, 3, 3) float32, phase (B,) int64, confidence (B,) float32 and valid (B,) bool,
    the last one the fields of `microinfer.models.Candidates`.

    A model for the CPU is there a second time, as arrays for the C++ core, which runs it several times faster than
    the graph; `microinfer::Mapper` does so.

    Parameters
    ----------
    model : OrientationModel, str or path
        A model, a shipped model's name, or a checkpoint's path.
    path : str or path
        The file to write.
    format : str, default: "torchscript"
        ``"torchscript"``: for ``torch::jit::load`` and ``torch.jit.load``; the entries are methods (on a GPU call
        them within ``torch.jit.optimized_execution(False)``, or they are compiled first). ``"pt2"``: for
        ``torch.export.load``, and the core in C++. ``"aoti"``: compiled by AOTInductor (this needs a C++ compiler
        and takes minutes) for this machine's kind of processor or GPU, for ``torch._inductor.package.load_package`` and
        its C++ twin (a file for a GPU crashed torch 2.11 on loading it in Python, not in C++). In the last two
        ``forward`` is the model named "model", and the others have their own names.
    dtype : str, default: "float32"
        What the network's matrix products multiply, ``"float32"`` or ``"bfloat16"``. The answers are those of
        ``map_orientations(..., dtype=dtype)`` on the same device. A graph in bfloat16 is slower than one in float32;
        the core is faster on AMD's CPUs, and slower on Intel's.
    device : str, default: "cpu"
        Where the file will run, ``"cpu"`` or ``"cuda"``.

    Raises
    ------
    ValueError
        For an unknown format, dtype or device, and a model whose card holds NaN or infinity.
    OSError
        If the file cannot be written.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    if dtype not in _DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}")
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device must be cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda': torch finds no CUDA GPU here")
    if not isinstance(model, OrientationModel):
        model = load_model(str(model))
    model = copy.deepcopy(model).to(device).eval().requires_grad_(False)
    core = for_core(model)
    facts = metadata(model, format, _DTYPES[dtype], None if core is None else core.settings)
    with atomic_output(path) as temporary:
        with torch.no_grad(), portable_operators(), _known_warnings():
            FORMATS[format](Program(model, _DTYPES[dtype]), temporary, {RECORD: facts})
        if core is not None:
            add_arrays(temporary, core.arrays)
        seal(temporary, format)


def _write_torchscript(program: Program, path: Path, extra: dict[str, str]) -> None:
    traced = torch.jit.trace_module(  # type: ignore[no-untyped-call]
        program, {entry: _example(program, entry) for entry in ENTRIES}, check_trace=False
    )
    torch.jit.save(traced, path, _extra_files=extra)


def _write_pt2(program: Program, path: Path, extra: dict[str, str]) -> None:
    _write_archive(path, extra, exported_programs=exported_programs(program))


def _write_aoti(program: Program, path: Path, extra: dict[str, str]) -> None:
    from torch._inductor import aot_compile

    options: dict[str, Any] = {"aot_inductor.package": True}
    if program.model.operators.device.type == "cuda":
        # or loops merged over both axes of (B + 1, n) are to be split again, and Inductor does not see that they can
        options["loop_ordering_after_fusion"] = False
    compiled: Any = {}
    for name, exported in exported_programs(program).items():
        inputs, _ = exported.example_inputs
        compiled[name] = aot_compile(exported.module(check_guards=False), inputs, options=options)
    _write_archive(path, extra, aoti_files=compiled)


def _write_archive(path: Path, extra: dict[str, str], **contents: Any) -> None:
    from torch.export.pt2_archive._package import package_pt2

    buffer = io.BytesIO()  # a path would have to end in .pt2
    package_pt2(buffer, extra_files=extra, **contents)
    path.write_bytes(buffer.getvalue())


FORMATS = {"torchscript": _write_torchscript, "pt2": _write_pt2, "aoti": _write_aoti}
"""Names of the formats, and what writes them."""


def exported_programs(program: Program) -> dict[str, ExportedProgram]:
    """Export every entry, the first one under the name "model" that loaders expect."""
    # oblivious: sizes of 0 and 1 are no cases of their own
    with fx_config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        return {
            "model" if entry == "forward" else entry: torch.export.export(
                _Entry(program, entry), _example(program, entry), dynamic_shapes=(_FREE[entry],)
            )
            for entry in ENTRIES
        }


class _Entry(nn.Module):
    """One method of a program as a module of its own."""

    def __init__(self, program: Program, entry: str) -> None:
        super().__init__()
        self.program, self.entry = program, entry

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(getattr(self.program, self.entry)(*inputs))


_PADDED = ({0: Dim.DYNAMIC, 1: Dim.DYNAMIC}, {0: Dim.DYNAMIC})
_FREE: dict[str, Any] = {
    "forward": _PADDED,
    "candidates": _PADDED,
    "ragged": ({0: Dim.DYNAMIC}, {0: Dim.DYNAMIC}),
}
"""The dimensions of each entry's inputs that may have any size."""


def _example(program: Program, entry: str) -> tuple[Tensor, Tensor]:
    """Inputs to trace an entry with: three patterns of unlike length."""
    device = program.model.operators.device
    angle = torch.arange(15, device=device)
    values = torch.stack([angle.cos(), angle.sin(), 1.0 / (1.0 + angle)], -1)
    if entry == "ragged":
        return values, torch.tensor([0, 4, 9, 15], device=device)
    return values.view(3, 5, 3), torch.tensor([5, 4, 3], device=device)


@contextmanager
def _known_warnings() -> Iterator[None]:
    """Torch calls TorchScript deprecated; acquisition tools load it all the same.

    The tracer warns of sizes taken as constants, too: those of the model's own tables, which are. AOTInductor warns
    of torch's own use of what torch will drop, that it could round the factors of products, and of how it splits sums.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.jit")
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")
        warnings.filterwarnings("ignore", message=r"\s*Online softmax is disabled")
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        yield
