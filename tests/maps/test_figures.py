import re
import subprocess
import sys
from dataclasses import replace
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.text import Text
from scipy.spatial.transform import Rotation

from helpers.example_maps import random_map
from helpers.example_phases import PHASES, turn
from microinfer.crystals.diffraction import diffracted_beams
from microinfer.maps.ipf import INVALID_GREY, ipf_colors
from microinfer.maps.orientation_map import OrientationMap
from microinfer.peaks import BraggPeaks, Scan, open_peaks


@pytest.fixture(autouse=True)
def _no_open_figures():
    yield
    plt.close("all")


def drawn(omap, **options):
    """The figure of a map that a user asks for."""
    return omap.plot(return_figure=True, **options)


def drawn_pattern(omap, *args, **options):
    return omap.plot_pattern(*args, return_figure=True, **options)


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
    figure = omap.plot(tmp_path / "map.png", return_figure=True)
    words = texts(figure)
    for title in ("IPF x  (along qx, scan rows)", "IPF z  (along the beam)", "Confidence", "Cu  (m-3m)"):
        assert title in words
    assert "Phase" not in words
    assert {"row Rx", "column Ry", "2 nm"} <= set(words)
    assert any("94.4% indexed" in word and "grey: not indexed" in word for word in words)
    assert not any("detector" in word for word in words)
    assert [entry.name for entry in tmp_path.iterdir()] == ["map.png"]
    picture = imread(tmp_path / "map.png")
    assert min(picture.shape[:2]) > 500
    assert np.ptp(picture[..., :3]) > 0.9


def test_map_of_several_phases_has_a_key_for_each():
    words = texts(drawn(grain_map("Cu", "Li2MnO3", "Ti")))
    assert {"Phase", "Cu  (m-3m)", "Li2MnO3  (2/m)", "Ti  (6/mmm)"} <= set(words)
    # corners are directions of the CIF's own cell: 2/m is bounded by +-c, since its two-fold axis is b
    assert r"[$0\,0\,1$]" in words
    assert r"[$0\,0\,\bar{1}$]" in words
    assert r"[$1\,0\,\bar{1}\,0$]" in words


def test_a_detector_frame_is_said_so():
    words = texts(drawn(grain_map("Cu", qr_calibrated=False)))
    assert "IPF x  (along qx, detector rows)" in words
    assert any("detector axes" in word for word in words)


def test_panels_show_rx_down_and_count_positions():
    ax = drawn(grain_map("Cu")).axes[0]
    image = ax.images[0]
    assert image.get_extent() == [-0.5, 8.5, 11.5, -0.5]
    np.testing.assert_array_equal(np.asarray(image.get_array())[:2, :3], INVALID_GREY)
    assert ax.get_ylim()[0] > ax.get_ylim()[1]


def test_panels_can_be_chosen():
    omap = grain_map("Cu", "Ti", score=np.full((12, 9), 0.5))
    words = texts(drawn(omap, panels="z"))
    assert "IPF z  (along the beam)" in words
    assert not {"Confidence", "Phase"} & set(words)
    figure = drawn(omap, panels=["phase", "score"])
    assert [ax.get_title(loc="left") for ax in figure.axes[:2]] == ["Phase", "Score"]
    np.testing.assert_allclose(figure.axes[1].images[0].get_array()[4], 0.5)
    assert {"Cu", "Ti"} <= set(texts(figure))  # what the colours mean, without the keys
    for wrong in ("w", [], ["z", "w"]):
        with pytest.raises(ValueError, match="panels must be of x, y, z, confidence, score, phase"):
            omap.plot(panels=wrong)


def test_rows_and_columns_without_answers_are_left_out():
    valid = np.zeros((40, 50), bool)
    valid[12:21, 30:42] = True
    omap = OrientationMap(
        np.tile(np.eye(3), (40, 50, 1, 1)), valid, np.zeros((40, 50), int), valid * 0.9, (PHASES["Cu"],)
    )
    figure = drawn(omap)
    for ax in figure.axes[:4]:
        assert ax.images[0].get_array().shape[:2] == (9, 12)
        assert ax.images[0].get_extent() == [29.5, 41.5, 20.5, 11.5]
    assert any("40 × 50 positions" in word for word in texts(figure))


@pytest.mark.parametrize(
    ("step", "units", "label"),
    [
        (2.0, "nm", "20 nm"),
        (200.0, "nm", "2 µm"),
        (20.0, "A", "20 nm"),
        (0.1, "A", "1 Å"),
    ],
)
def test_scale_bar(step, units, label):
    shape = (40, 40)
    valid = np.ones(shape, bool)
    omap = OrientationMap(
        np.tile(np.eye(3), (*shape, 1, 1)),
        valid,
        np.zeros(shape, int),
        valid * 1.0,
        (PHASES["Cu"],),
        scan=Scan(shape, step, units),
    )
    ax = drawn(omap, panels="z").axes[0]
    assert label in [text.get_text() for text in ax.texts]
    number, unit = label.split()
    metres = {"nm": 1e-9, "µm": 1e-6, "Å": 1e-10, "A": 1e-10}
    positions = np.ptp(ax.lines[0].get_xdata())
    assert positions * step * metres[units] == pytest.approx(float(number) * metres[unit])


def test_pixels_have_no_scale_bar():
    ax = drawn(grain_map("Cu").replace(scan=Scan((12, 9))), panels="z").axes[0]
    assert not ax.lines
    assert not ax.texts


def written(figure):
    """Every text that is drawn."""
    figure.canvas.draw()
    for ax in figure.axes:
        yield from (text for text in (*ax.texts, ax.title, ax._left_title) if text.get_text())
        if not ax.axison:
            continue
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = (tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high)
            yield from (text for text in (axis.label, *ticks) if text.get_visible() and text.get_text())


@pytest.mark.parametrize(
    ("shape", "phases", "panels"),
    [
        ((4, 2000), ["Ti"], None),
        ((4, 2000), ["Ti", "Cu"], "z"),
        ((1000, 3), ["Ti", "Cu"], None),
        ((12, 9), ["Cu", "Li2MnO3", "Ti"], None),
        ((30, 40), ["Cu", "Ti", "quartz", "forsterite", "ZnS", "calcite"], ["x", "phase"]),
        ((1, 1), ["Cu"], "confidence"),
    ],
)
def test_no_text_lies_on_another_or_on_a_panel(shape, phases, panels):
    rng = np.random.default_rng(0)
    figure = drawn(
        OrientationMap(
            np.tile(np.eye(3), (*shape, 1, 1)),
            rng.random(shape) > 0.01,
            rng.integers(0, len(phases), shape),
            np.full(shape, 0.5),
            [PHASES[name] for name in phases],
            scan=Scan(shape, 2.0, "nm"),
        ),
        panels=panels,
    )
    boxes = [(text.get_text(), text.get_window_extent()) for text in written(figure)]
    for (word, box), (other, other_box) in combinations(boxes, 2):
        assert not box.shrunk(0.9, 0.8).overlaps(other_box.shrunk(0.9, 0.8)), (word, other)
    maps = [ax.get_window_extent() for ax in figure.axes if ax.images and ax.axison]
    assert maps
    for word, box in boxes:
        assert figure.bbox.padded(1).containsx(box.x0), word
        assert figure.bbox.padded(1).containsx(box.x1), word
        assert not any(box.shrunk(0.9, 0.8).overlaps(panel) for panel in maps), word
    thin = min(min(panel.width, panel.height) for panel in maps) / figure.dpi
    assert thin > 0.5


def test_dots_per_inch(tmp_path):
    omap = grain_map("Cu", shape=(4, 4))
    for dpi in (50, 100):
        omap.plot(tmp_path / f"{dpi}.png", dpi=dpi)
    small, large = (np.array(imread(tmp_path / f"{dpi}.png").shape[:2]) for dpi in (50, 100))
    np.testing.assert_allclose(large, 2 * small, atol=2)


def test_a_figure_is_returned_where_it_is_asked_for(tmp_path):
    omap = grain_map("Cu", shape=(4, 4))
    assert omap.plot(tmp_path / "map.png") is None
    assert plt.get_fignums() == []  # a file needs no display
    assert omap.plot() is None
    figure = omap.plot(return_figure=True)
    assert plt.gcf() is figure
    assert omap.plot(tmp_path / "map.png", return_figure=True, overwrite=True) is not figure


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (60, 2)])
def test_any_shape_and_no_answers(shape):
    figure = drawn(
        OrientationMap(
            matrix=np.full((*shape, 3, 3), np.nan),
            valid=np.zeros(shape, bool),
            phase=np.full(shape, -1),
            confidence=np.zeros(shape),
            phases=(PHASES["Cu"],),
        )
    )
    assert any("0.0% indexed" in word for word in texts(figure))


def test_fonts_of_vector_graphics_are_text(tmp_path):
    omap = grain_map("Ti", shape=(4, 4))
    omap.plot(tmp_path / "map.pdf")
    omap.plot_pattern(2, 3, scan_of(omap), path=tmp_path / "pattern.pdf")
    for name in ("map", "pattern"):
        content = (tmp_path / f"{name}.pdf").read_bytes()
        assert b"/FontFile2" in content
        assert b"/Type3" not in content
    omap.plot(tmp_path / "map.svg")
    written = re.findall(r"<text[^>]*>([^<]*)</text>", (tmp_path / "map.svg").read_text(encoding="utf-8"))
    assert {"IPF z  (along the beam)", "Confidence", "row Rx"} <= set(written)


@pytest.mark.parametrize("suffix", ["pdf", "svg"])
def test_the_suffix_names_the_format(tmp_path, suffix):
    grain_map("Cu", shape=(4, 4)).plot(tmp_path / f"map.{suffix}")
    start = (tmp_path / f"map.{suffix}").read_bytes()[:60]
    assert {"pdf": b"%PDF", "svg": b"<?xml"}[suffix] in start


@pytest.mark.parametrize("name", ["$x$", "a_b^2", "1 $", r"$\frac{", "{}$\\bar$"])
def test_any_name_of_a_phase_stands_as_it_is(name):
    phases = tuple(replace(PHASES[one], name=name + one) for one in ("Cu", "Ti"))
    omap = random_map("Cu", "Ti", shape=(4, 4), invalid=0.0).replace(phases=phases)
    pictures = [drawn(omap), drawn(omap, panels="phase"), drawn_pattern(omap, 1, 2, scan_of(omap))]
    for figure in pictures:
        figure.canvas.draw()
        shown = [text.get_text().replace(r"\$", "$") for text in figure.findobj(Text)]
        assert any(name in text for text in shown)


def test_an_unknown_suffix_is_refused(tmp_path):
    omap = grain_map("Cu", shape=(4, 4))
    for draw in (omap.plot, lambda path: omap.plot_pattern(0, 0, scan_of(omap), path=path)):
        with pytest.raises(
            ValueError, match=r"map\.txt: the name of the picture must end in \.png, .*got '\.txt'"
        ):
            draw(tmp_path / "map.txt")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_is_replaced_only_where_that_is_asked_for(tmp_path):
    omap = grain_map("Cu", shape=(4, 4))
    path = tmp_path / "map.png"
    for draw in (
        omap.plot,
        lambda path, **options: omap.plot_pattern(0, 0, scan_of(omap), path=path, **options),
    ):
        path.write_text("precious")
        with pytest.raises(
            FileExistsError, match=r"the picture is there already; overwrite=True replaces it.*map\.png"
        ):
            draw(path)
        assert path.read_text() == "precious"
        draw(path, overwrite=True)
        assert path.read_bytes()[1:4] == b"PNG"


def offsets(figure, label):
    (points,) = (c for c in figure.axes[0].collections if c.get_label() == label)
    return np.asarray(points.get_offsets())


def test_predicted_reflections_lie_on_measured_disks(tmp_path):
    omap = grain_map("Cu", "Li2MnO3")
    figure = drawn_pattern(omap, 4, 5, scan_of(omap), path=tmp_path / "pattern.png")
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
    title = drawn_pattern(omap, 2, 2, scan_of(omap)).axes[0].get_title(loc="left")
    assert r"near [$0\,0\,1$]  (0.0° off)" in title


def test_k_max_bounds_the_pattern():
    omap = grain_map("Cu")
    figure = drawn_pattern(omap, 4, 5, scan_of(omap), k_max=0.8)
    assert figure.axes[0].get_xlim() == (-0.8, 0.8)
    for label in ("predicted", "measured"):
        assert np.linalg.norm(offsets(figure, label), axis=1).max() < 0.81


def test_a_position_without_an_answer():
    omap = grain_map("Cu")
    figure = drawn_pattern(omap, 0, 0, scan_of(omap))
    assert figure.axes[0].get_title(loc="left").startswith("Not indexed")


def labels(figure):
    return {text.get_text() for text in figure.axes[0].texts if text.get_text().startswith("$")}


def test_strong_reflections_bear_their_indices():
    omap = grain_map("Cu").replace(matrix=np.tile(np.eye(3), (12, 9, 1, 1)))
    figure = drawn_pattern(omap, 4, 5, scan_of(omap))
    assert {r"$2\,0\,0$", r"$0\,\bar{2}\,0$", r"$2\,2\,0$"} <= labels(figure)
    # where they stand: along qx, which points down
    (first,) = (text for text in figure.axes[0].texts if text.get_text() == r"$2\,0\,0$")
    np.testing.assert_allclose(first.xy, (0.0, 2 / 3.61), atol=1e-6)


def test_hexagonal_crystals_have_four_indices():
    omap = grain_map("Ti").replace(matrix=np.tile(np.eye(3), (12, 9, 1, 1)))
    figure = drawn_pattern(omap, 4, 5, scan_of(omap))
    assert r"near [$0\,0\,0\,1$]" in figure.axes[0].get_title(loc="left")
    assert {r"$1\,1\,\bar{2}\,0$", r"$1\,\bar{2}\,1\,0$"} <= labels(figure)
    tilted = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]])  # the beam along a, which is [2 -1 -1 0]
    omap = omap.replace(matrix=np.tile(tilted, (12, 9, 1, 1)))
    title = drawn_pattern(omap, 4, 5, scan_of(omap)).axes[0].get_title(loc="left")
    assert r"near [$2\,\bar{1}\,\bar{1}\,0$]" in title
    # rhombohedral axes have three
    omap = grain_map("calcite").replace(matrix=np.tile(np.eye(3), (12, 9, 1, 1)))
    assert {label.count("\\,") for label in labels(drawn_pattern(omap, 4, 5, scan_of(omap)))} == {2}


def test_alternatives_are_drawn_beside_the_answer():
    omap = random_map("Cu", "Ti", shape=(2, 2), candidates=4, invalid=0.0, seed=3)
    omap = omap.replace(probability=np.maximum(omap.candidates.probability, 0.01))
    i, j = np.argwhere((omap.candidates.phase >= 0).all(axis=2))[0]
    peaks = scan_of(omap)
    for alternatives, count in ((False, 1), (0, 1), (2, 3), (True, 4), (9, 4)):
        figure = drawn_pattern(omap, i, j, peaks, alternatives=alternatives)
        assert len(figure.axes) == count
    for ax, answer in zip(figure.axes, omap[i, j].answers, strict=True):
        assert ax.get_title(loc="left").startswith(f"{answer.phase.name}  near")
    assert any(
        f"alternative 2, confidence {omap[i, j].alternatives[1].confidence:.2f}" in t for t in texts(figure)
    )
    probability = omap.candidates.probability.copy()
    probability[..., 2:] = 0.004  # 0.00
    none = omap.replace(probability=probability)
    assert len(drawn_pattern(none, i, j, peaks, alternatives=True).axes) == 2


def test_pattern_takes_what_the_mapper_takes(tmp_path):
    omap = grain_map("Cu")
    peaks = scan_of(omap)
    peaks.save(tmp_path / "peaks.h5")
    expected = offsets(drawn_pattern(omap, 4, 5, peaks), "measured")
    with open_peaks(tmp_path / "peaks.h5") as reader:
        for source in (tmp_path / "peaks.h5", str(tmp_path / "peaks.h5"), reader):
            np.testing.assert_array_equal(offsets(drawn_pattern(omap, 4, 5, source), "measured"), expected)
    with pytest.raises(
        TypeError, match="peaks must be BraggPeaks, BraggVectors of py4DSTEM, a reader or a path"
    ):
        omap.plot_pattern(4, 5, np.zeros(3))


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
