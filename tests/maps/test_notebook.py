"""Pictures, progress and reprs as a Jupyter kernel shows them, without ipywidgets."""

import nbformat
import pytest
from nbclient import NotebookClient

import microinfer as mi
from helpers.example_maps import random_map
from helpers.example_phases import PHASES

CELLS = {
    "open": "import microinfer as mi\nomap = mi.load_map('map.h5')\nomap",
    "position": "omap[2, 3]",
    "part": "omap[:4, 1:5]",
    "plot": "omap.plot(panels='z')",
    "middle": "print('before')\nomap.plot(panels='z')\nprint('after')",
    "loop": "for i in range(2):\n    print(i)\n    omap.plot_pattern(i, 1, 'peaks.h5')",
    "file": "omap.plot('map.png')",
    "figure": "figure = omap.plot(panels='z', return_figure=True)\n_ = figure.axes[0].set_title('mine')",
    "own": "import matplotlib.pyplot as plt\nfigure, ax = plt.subplots()\nomap.plot(panels='z')\n_ = ax.plot([1, 2])\n"
    "print(len(ax.lines), plt.get_fignums())",
    "progress": "_ = mi.map_orientations('peaks.h5', 'small.safetensors', device='cpu', block_rows=2, progress=True)",
    "models": "mi.models()",
    "inline": "%matplotlib inline",
    "plot again": "omap.plot(panels='z')",
    "own again": "figure, ax = plt.subplots()\nomap.plot(panels='z')\n_ = ax.plot([1, 2])",
}


@pytest.fixture(scope="module")
def outputs(small_model, scan, tmp_path_factory):
    """What each cell shows, in its order: kinds and texts."""
    folder = tmp_path_factory.mktemp("notebook")
    random_map("Cu", shape=scan.scan_shape, invalid=0.0, scan=scan.scan).save(folder / "map.h5")
    mi.write_peaks(folder / "peaks.h5", scan)
    small_model.save(folder / "small.safetensors")
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS.values()]
    notebook = nbformat.v4.new_notebook(cells=cells)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MPLBACKEND", raising=False)
        NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}).execute()
    assert (folder / "map.png").stat().st_size > 10_000
    shown = [[_shown(output) for output in cell.outputs] for cell in notebook.cells]
    return dict(zip(CELLS, shown, strict=True))


def _shown(output):
    if output.output_type == "stream":
        return output.name, output.text
    return ("image", "") if "image/png" in output.data else (output.output_type, output.data["text/plain"])


def test_a_picture_is_shown_once_wherever_it_is_drawn(outputs):
    picture = ("image", "")
    assert outputs["plot"] == [picture]
    assert outputs["middle"] == [("stdout", "before\n"), picture, ("stdout", "after\n")]
    assert outputs["loop"] == [("stdout", "0\n"), picture, ("stdout", "1\n"), picture]
    assert outputs["file"] == []
    assert outputs["figure"] == [picture]
    assert outputs["plot again"] == [picture]


def test_figures_of_the_user_stay_open(outputs):
    picture = ("image", "")
    assert outputs["own"] == [picture, ("stdout", "1 [1]\n"), picture]
    assert outputs["own again"] == [picture, picture]


def test_progress_is_one_line_without_widgets_and_warnings(outputs):
    ((kind, line),) = outputs["progress"]
    assert kind == "display_data"
    assert line.startswith("mapping ━━━")
    assert "100 %" in line
    assert "positions/s" in line
    assert "\n" not in line


def test_reprs_are_short_and_say_what_one_asks(outputs):
    ((_, omap),), ((_, position),), ((_, part),), ((_, models),) = (
        outputs[name] for name in ("open", "position", "part", "models")
    )
    copper = PHASES["Cu"].space_group
    assert omap.startswith("OrientationMap(13 x 7 positions, step 2.5 nm, 100.0% valid, mean confidence 0.")
    assert omap.endswith(f"phases: Cu ({copper}) 100.0%)")
    assert part.startswith("OrientationMap(4 x 4 positions")
    assert position.startswith("Position (2, 3): Cu near [")
    assert "confidence 0." in position
    assert models.startswith("Model('cu': Cu (Fm-3m), 300 kV, disks to 2.099 1/Å")
    assert "within 3 degrees" in models
