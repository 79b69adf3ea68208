"""From a file of Bragg peaks to a map: the shipped model `cu` against py4DSTEM's template matching (ACOM).

The model maps the whole scan, reading included. Template matching takes a part of the same file, with
2 degree steps and one match for each pattern; neither its reading nor its orientation plan is counted.
"""

from pathlib import Path

import pytest

from microinfer.evaluation.timing import template_matcher
from microinfer.mapping import map_orientations
from microinfer.models import load_model, shipped_models
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.simulation.settings import SimulationConfig

MATCHED = 256  # patterns: what a call costs beside them no longer counts


@pytest.mark.skipif("cu" not in shipped_models(), reason="this version ships no model 'cu'")
def test_map_microinfer(benchmark, scan: BraggPeaks, scan_file: Path) -> None:
    benchmark.group = "map"
    benchmark.extra_info.update(side="microinfer", patterns=len(scan))
    model = load_model("cu")
    kwargs = {"device": "cpu"}
    result = benchmark.pedantic(map_orientations, (scan_file, model), kwargs, rounds=5, warmup_rounds=1)
    assert result.valid.any()


@pytest.mark.filterwarnings(
    "ignore:Converting `np.integer`:DeprecationWarning"
)  # py4DSTEM's orientation plan
def test_map_template_matching(benchmark, scan: BraggPeaks) -> None:
    config = SimulationConfig()
    match = template_matcher("Cu", config.voltage, config.k_max)
    positions = [divmod(index, scan.scan_shape[1]) for index in range(MATCHED)]
    first = BraggPeaks.from_patterns([scan.pattern(*position) for position in positions], (1, MATCHED))
    benchmark.group = "map"
    benchmark.extra_info.update(side="ACOM", patterns=MATCHED)
    assert benchmark.pedantic(match, (first,), rounds=3, warmup_rounds=1) > 0
