"""From a file of Bragg peaks to a map: the shipped model `cu` against py4DSTEM's template matching (ACOM).

The model maps the whole scan, reading included. Template matching takes a part of the same file, with
2 degree steps and one match for each pattern; neither its reading nor its orientation plan is counted.
"""

from pathlib import Path

import numpy as np
import pytest

from microinfer.config import SimulationConfig
from microinfer.mapping import map_orientations
from microinfer.models import load_model, shipped_models
from microinfer.peaks import BraggPeaks
from microinfer.simulation import load_structure

MATCHED = 32  # patterns


@pytest.mark.skipif("cu" not in shipped_models(), reason="this version ships no model 'cu'")
def test_map_microinfer(benchmark, scan: BraggPeaks, scan_file: Path) -> None:
    benchmark.group = "map"
    benchmark.extra_info.update(side="microinfer", patterns=len(scan))
    model = load_model("cu")
    kwargs = {"device": "cpu"}
    result = benchmark.pedantic(map_orientations, (scan_file, model), kwargs, rounds=3, warmup_rounds=1)
    assert result.valid.any()


@pytest.mark.filterwarnings(
    "ignore:Converting `np.integer`:DeprecationWarning"
)  # py4DSTEM's orientation plan
def test_map_template_matching(benchmark, scan_file: Path) -> None:
    import py4DSTEM

    config = SimulationConfig()
    crystal = load_structure("Cu").to_py4dstem()
    crystal.calculate_structure_factors(config.k_max)
    crystal.orientation_plan(
        zone_axis_range=np.array([[0, 1, 1], [1, 1, 1]]),  # the cubic cell: corners [001], [011], [111]
        angle_step_zone_axis=2.0,
        angle_step_in_plane=2.0,
        accel_voltage=config.voltage,
        progress_bar=False,
    )
    vectors = py4DSTEM.read(str(scan_file))

    def match() -> list:
        """The loop of `match_orientations`, on the first positions of the scan."""
        calibration = {"center": True, "ellipse": False, "pixel": True, "rotate": False}
        positions = [divmod(index, vectors.Rshape[1]) for index in range(MATCHED)]
        return [
            crystal.match_single_pattern(vectors.get_vectors(rx, ry, **calibration), num_matches_return=1)
            for rx, ry in positions
        ]

    benchmark.group = "map"
    benchmark.extra_info.update(side="ACOM", patterns=MATCHED)
    matches = benchmark.pedantic(match, rounds=3, warmup_rounds=1)
    assert any(match.corr[0] > 0 for match in matches)
