"""The C++ core on NumPy arrays, and on device addresses for torch.

Arrays are C-contiguous. A dtype that an argument never has raises TypeError, a wrong shape or value ValueError;
each names the argument.
"""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

_Real = TypeVar("_Real", np.float32, np.float64)
_Tokens = tuple[
    NDArray[np.float32],  # radius (N, length), 1/Angstrom
    NDArray[np.float32],  # angle (N, length), radians in (-pi, pi]
    NDArray[np.float32],  # intensity (N, length), relative
    NDArray[np.int32],  # radius_bin (N, length)
    NDArray[np.int32],  # angle_bin (N, length)
    NDArray[np.int32],  # intensity_bin (N, length)
    NDArray[np.bool_],  # mask (N, length)
    NDArray[np.int32],  # count (N,)
    NDArray[np.bool_],  # valid (N,)
]

# --- threads
def num_threads() -> int: ...
def set_num_threads(count: int) -> None: ...

# --- detection
class NotFiniteError(ValueError): ...

def transform_length(length: int) -> int: ...

class DiskSpec:
    def __init__(
        self,
        *,
        radius: float,
        background_inner: float,
        background_outer: float,
        min_snr: float,
        gain: float,
        kernel_square: float,
        noise_floor: float,
        min_relative: float,
        relative_to: int,
        min_spacing: float,
        max_disks: int,
        correlation_power: float,
        subpixel: str,
    ) -> None: ...

class DiskDetector:
    def __init__(
        self,
        *,
        floor: NDArray[np.float32],
        good: NDArray[np.bool_],
        fill: NDArray[np.int64],
        before: NDArray[np.complex64],
        after: NDArray[np.float32] | None,
        spec: DiskSpec,
    ) -> None: ...
    def find(
        self, frames: NDArray[Any], *, correlations: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]: ...
    def correlate(self, frames: NDArray[Any]) -> NDArray[np.float32]: ...

# --- device
def cuda_is_built() -> bool: ...

# --- models
def instruction_sets() -> list[str]: ...
def multiplies_bfloat16() -> bool: ...
def gains_by_bfloat16() -> bool: ...
def checksum(header: str, arrays: dict[str, NDArray[Any]]) -> str: ...

class Model:
    def __init__(
        self,
        header: str,
        arrays: dict[str, NDArray[Any]],
        *,
        bfloat16: bool = False,
        instructions: str = "auto",
    ) -> None: ...
    @property
    def candidates(self) -> int: ...
    @property
    def can_refine(self) -> bool: ...
    def answer(
        self,
        qx: NDArray[np.float32],
        qy: NDArray[np.float32],
        intensity: NDArray[np.float32],
        offsets: NDArray[np.int64],
        *,
        selected: NDArray[np.bool_] | None = None,
        min_disks: int = 0,
        refine: bool = True,
    ) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.int32]]: ...
    def rank(
        self,
        radius: NDArray[np.float32],
        angle: NDArray[np.float32],
        intensity: NDArray[np.float32],
        count: NDArray[np.int32],
        matrix: NDArray[np.float32],
        phase: NDArray[np.int64],
        probability: NDArray[np.float32],
        *,
        refine: bool = True,
    ) -> NDArray[Any]: ...

# --- refinement
class Refinement:
    def __init__(
        self,
        reflections: NDArray[np.float64],
        offsets: NDArray[np.int64],
        wavelength: float,
        *,
        tilt_error: float = ...,
    ) -> None: ...
    @property
    def match_radius(self) -> float: ...
    @property
    def excitation_error(self) -> float: ...
    def polish(
        self,
        radius: NDArray[np.float32],
        angle: NDArray[np.float32],
        intensity: NDArray[np.float32],
        count: NDArray[np.int32],
        matrix: NDArray[np.float32],
        phase: NDArray[np.int64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]: ...

# --- records
class DamagedFileError(OSError): ...

def read_lists(
    descriptor: int, base: int, file_bytes: int, references: NDArray[np.uint8], item_bytes: int
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]: ...
def require_collection(descriptor: int, place: int) -> None: ...

# --- tokens
class TokenSpec:
    def __init__(
        self,
        *,
        radius_max: float,
        radius_bins: int,
        angle_bins: int,
        intensity_min: float,
        intensity_bins: int,
        direct_beam_radius: float,
        max_disks: int,
        min_disks: int,
    ) -> None: ...

def count_disks(
    qx: NDArray[np.float32],
    qy: NDArray[np.float32],
    intensity: NDArray[np.float32],
    offsets: NDArray[np.int64],
    spec: TokenSpec,
) -> NDArray[np.int32]: ...
def tokenize(
    qx: NDArray[np.float32],
    qy: NDArray[np.float32],
    intensity: NDArray[np.float32],
    offsets: NDArray[np.int64],
    spec: TokenSpec,
    length: int,
) -> _Tokens: ...
def count_disks_cuda(
    qx: int,
    qy: int,
    intensity: int,
    offsets: int,
    patterns: int,
    peaks: int,
    spec: TokenSpec,
    count: int,
    device: int,
    stream: int,
    /,
) -> None: ...
def tokenize_cuda(
    qx: int,
    qy: int,
    intensity: int,
    offsets: int,
    patterns: int,
    peaks: int,
    spec: TokenSpec,
    length: int,
    out: list[int],
    device: int,
    stream: int,
    /,
) -> None: ...

# --- rotations
def symmetry_min_geodesic(
    predicted: NDArray[_Real], label: NDArray[_Real], operators: NDArray[_Real]
) -> tuple[NDArray[_Real], NDArray[np.int64]]: ...
def symmetry_min_geodesic_backward(
    predicted: NDArray[_Real],
    label: NDArray[_Real],
    operators: NDArray[_Real],
    index: NDArray[np.int64],
    upstream: NDArray[_Real],
) -> tuple[NDArray[_Real], NDArray[_Real]]: ...
def project_to_so3(matrix: NDArray[_Real]) -> NDArray[_Real]: ...
def project_to_so3_backward(
    matrix: NDArray[_Real], rotation: NDArray[_Real], upstream: NDArray[_Real]
) -> NDArray[_Real]: ...
def symmetry_min_geodesic_cuda(
    is_double: bool,
    predicted: int,
    label: int,
    operators: int,
    batch_size: int,
    operator_count: int,
    angle: int,
    index: int,
    device: int,
    stream: int,
    /,
) -> None: ...
def symmetry_min_geodesic_backward_cuda(
    is_double: bool,
    predicted: int,
    label: int,
    operators: int,
    batch_size: int,
    operator_count: int,
    index: int,
    upstream: int,
    predicted_gradient: int,
    label_gradient: int,
    device: int,
    stream: int,
    /,
) -> None: ...
def project_to_so3_cuda(
    is_double: bool, matrix: int, batch_size: int, rotation: int, device: int, stream: int, /
) -> None: ...
def project_to_so3_backward_cuda(
    is_double: bool,
    matrix: int,
    rotation: int,
    upstream: int,
    batch_size: int,
    gradient: int,
    device: int,
    stream: int,
    /,
) -> None: ...

class RefinementSpec:
    def __init__(
        self,
        *,
        wavelength: float,
        match_radius: float,
        position_error: float,
        excitation_error: float,
        excitation_slope: float,
        tilt_error: float,
        in_plane_error: float,
        false_share: float,
        steps: int,
    ) -> None: ...

def refine(
    radius: NDArray[np.float32],
    angle: NDArray[np.float32],
    intensity: NDArray[np.float32],
    count: NDArray[np.int32],
    matrix: NDArray[np.float64],
    phase: NDArray[np.int64],
    selected: NDArray[np.bool_],
    vectors: NDArray[np.float64],
    offsets: NDArray[np.int64],
    spec: RefinementSpec,
) -> tuple[
    NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]
]: ...
