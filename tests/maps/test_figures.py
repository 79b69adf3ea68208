import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread
from scipy.spatial.transform import Rotation

from helpers.example_phases import PHASES, turn
from microinfer.crystals.diffraction import diffracted_beams
from microinfer.maps.ipf import INVALID_GREY, ipf_colors
from microinfer.maps.orientation_map import OrientationMap
from microinfer.peaks import BraggPeaks, Scan


def grain_map(*names, shape=(12, 9), qr_calibrated=True, **kwargs):
    """Grains in bands of three rows, one corner without an answer."""
    grain = np.indices(shape)[0] // 3
    matrix = Rotation.random(4, random_state=5).as_matrix()[grain]
    valid = np.ones(shape, bool)
    valid[:2, :3] = False
    return OrientationMap(
        matrix=matrix,
        valid=valid,
        phase=grain % len(names),
        confidence=np.full(shape, 0.9),
        phases=tuple(PHASES[name] for name in names),
        scan=Scan(shape, 2.0, "nm", qr_calibrated),
        **{"model_card": {"voltage": 300e3}} | kwargs,
    )


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.findobj(lambda a: hasattr(a, "get_text"))]


def scan_of(omap, seed=0):
    """Peaks that the map's answers predict, blurred a little."""
    rng = np.random.default_rng(seed)
    patterns = []
    for i, j in np.ndindex(omap.scan_shape):
        if not omap.valid[i, j]:
            patterns.append(np.zeros((0, 3), np.float32))
            continue
        beams = diffracted_beams(omap.phases[omap.phase[i, j]], omap.matrix[i, j], 300e3)
        pattern = np.column_stack([beams.q, beams.intensity])
        patterns.append(
            (pattern + [[1e-3, 1e-3, 0.0]] * rng.standard_normal(pattern.shape)).astype(np.float32)
        )
    return BraggPeaks.from_patterns(patterns, omap.scan_shape)


@pytest.mark.parametrize("direction", np.eye(3))
def test_colours_are_those_of_orix(direction):
    from orix.plot import IPFColorKeyTSL
    from orix.vector import Vector3d

    omap = grain_map("Cu", "Li2MnO3", "P-31m")
    colors = ipf_colors(omap, direction)
    xmap = omap.to_orix()
    for index, name in enumerate(("Cu", "Li2MnO3", "P-31m")):
        orientations = xmap[name].orientations
        key = IPFColorKeyTSL(orientations.symmetry, Vector3d(direction))
        expected = key.orientation2color(orientations)
        here = (omap.phase == index).T
        np.testing.assert_allclose(colors.transpose(1, 0, 2)[here], expected, atol=1e-5)
    np.testing.assert_array_equal(colors[~omap.valid], INVALID_GREY)


@pytest.mark.parametrize("name", PHASES)
def test_colours_do_not_depend_on_the_choice_among_equivalents(name):
    omap, phase = grain_map(name), PHASES[name]
    for operator in phase.operators:
        same = omap.replace(matrix=operator @ omap.candidates.matrix)
        np.testing.assert_allclose(ipf_colors(same, np.eye(3)[2]), ipf_colors(omap, np.eye(3)[2]), atol=2e-3)


def test_cubic_corners_are_red_green_and_blue():
    axes = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 1]])
    matrix = [Rotation.align_vectors(axis[None], [[0, 0, 1]])[0].as_matrix() for axis in axes]
    one = np.ones((3, 1))
    omap = OrientationMap(
        np.reshape(matrix, (3, 1, 3, 3)), one > 0, 0 * one.astype(int), one, (PHASES["Cu"],)
    )
    np.testing.assert_allclose(ipf_colors(omap, np.array([0, 0, 1.0]))[:, 0], np.eye(3), atol=0.02)


def test_map_of_one_phase(tmp_path):
    omap = grain_map("Cu")
    figure = omap.plot(tmp_path / "map.png")
    words = texts(figure)
    for title in ("IPF x  (along qx, scan rows)", "IPF z  (along the beam)", "Confidence", "Cu  (m-3m)"):
        assert title in words
    assert "Phase" not in words
    assert {"Rx (nm)", "Ry (nm)"} <= set(words)
    assert any("94.4% indexed" in word and "grey: not indexed" in word for word in words)
    assert not any("detector" in word for word in words)
    assert [entry.name for entry in tmp_path.iterdir()] == ["map.png"]
    picture = imread(tmp_path / "map.png")
    assert min(picture.shape[:2]) > 500
    assert np.ptp(picture[..., :3]) > 0.9


def test_map_of_several_phases_has_a_key_for_each():
    words = texts(grain_map("Cu", "Li2MnO3", "Ti").plot())
    assert {"Phase", "Cu  (m-3m)", "Li2MnO3  (2/m)", "Ti  (6/mmm)"} <= set(words)
    # corners are directions of the CIF's own cell: 2/m is bounded by +-c, since its two-fold axis is b
    assert r"[$0\,0\,1$]" in words
    assert r"[$0\,0\,\bar{1}$]" in words
    assert r"[$1\,0\,\bar{1}\,0$]" in words


def test_a_detector_frame_is_said_so():
    words = texts(grain_map("Cu", qr_calibrated=False).plot())
    assert "IPF x  (along qx, detector rows)" in words
    assert any("detector axes" in word for word in words)


def test_panels_show_rx_down():
    ax = grain_map("Cu").plot().axes[0]
    image = ax.images[0]
    assert image.get_extent() == [-1.0, 17.0, 23.0, -1.0]
    np.testing.assert_array_equal(np.asarray(image.get_array())[:2, :3], INVALID_GREY)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (60, 2)])
def test_any_shape_and_no_answers(shape):
    figure = OrientationMap(
        matrix=np.full((*shape, 3, 3), np.nan),
        valid=np.zeros(shape, bool),
        phase=np.full(shape, -1),
        confidence=np.zeros(shape),
        phases=(PHASES["Cu"],),
    ).plot()
    assert any("0.0% indexed" in word for word in texts(figure))


@pytest.mark.parametrize("suffix", ["pdf", "svg"])
def test_the_suffix_names_the_format(tmp_path, suffix):
    grain_map("Cu", shape=(4, 4)).plot(tmp_path / f"map.{suffix}")
    start = (tmp_path / f"map.{suffix}").read_bytes()[:60]
    assert {"pdf": b"%PDF", "svg": b"<?xml"}[suffix] in start


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"map\.txt must name a picture format"):
        grain_map("Cu", shape=(4, 4)).plot(tmp_path / "map.txt")
    assert list(tmp_path.iterdir()) == []


def offsets(figure, label):
    (points,) = (c for c in figure.axes[0].collections if c.get_label() == label)
    return np.asarray(points.get_offsets())


def test_predicted_reflections_lie_on_measured_disks(tmp_path):
    omap = grain_map("Cu", "Li2MnO3")
    figure = omap.plot_pattern(4, 5, scan_of(omap), path=tmp_path / "pattern.png")
    predicted, measured = offsets(figure, "predicted"), offsets(figure, "measured")
    assert len(predicted) > 5
    distance = np.linalg.norm(predicted[:, None] - measured[None], axis=2).min(axis=1)
    assert distance.max() < 0.01
    ax = figure.axes[0]
    assert ax.get_title(loc="left").startswith("Li2MnO3  near [")
    assert "scan position (4, 5), confidence 0.90" in texts(figure)
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # qx points down
    assert (tmp_path / "pattern.png").stat().st_size > 10000


def test_zone_axis_of_an_exact_orientation():
    omap = grain_map("Cu", shape=(3, 3))
    omap = omap.replace(matrix=np.tile(turn([0, 0, 1], 7), (3, 3, 1, 1, 1)))
    assert r"near [$0\,0\,1$]  (0.0° off)" in omap.plot_pattern(2, 2, scan_of(omap)).axes[0].get_title(
        loc="left"
    )


def test_k_max_bounds_the_pattern():
    omap = grain_map("Cu")
    figure = omap.plot_pattern(4, 5, scan_of(omap), k_max=0.8)
    assert figure.axes[0].get_xlim() == (-0.8, 0.8)
    for label in ("predicted", "measured"):
        assert np.linalg.norm(offsets(figure, label), axis=1).max() < 0.81


def test_a_position_without_an_answer():
    omap = grain_map("Cu")
    figure = omap.plot_pattern(0, 0, scan_of(omap))
    assert figure.axes[0].get_title(loc="left").startswith("Not indexed")


def test_pattern_needs_the_same_scan_a_position_and_a_voltage():
    omap = grain_map("Cu")
    peaks = scan_of(omap)
    with pytest.raises(IndexError, match=r"\(12, 0\) is outside"):
        omap.plot_pattern(12, 0, peaks)
    with pytest.raises(ValueError, match="scan shape"):
        grain_map("Cu", shape=(6, 4)).plot_pattern(3, 3, peaks)
    with pytest.raises(ValueError, match="voltage"):
        grain_map("Cu", model_card={}).plot_pattern(4, 5, peaks)


def test_import_needs_neither_matplotlib_nor_orix_nor_torch():
    code = (
        "import sys, microinfer.maps.overlay, microinfer.maps.map_file, microinfer.maps.to_ctf;"
        "print([name for name in ('matplotlib', 'orix', 'scipy', 'diffpy', 'torch') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
