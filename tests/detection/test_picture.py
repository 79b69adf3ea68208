"""The picture of the disks that were found."""

import pytest

import microinfer as mi
from helpers.synthetic_frames import synthetic_frames
from microinfer.detection import DetectedScan
from microinfer.frames import Frames


@pytest.fixture(scope="module")
def truth():
    return synthetic_frames((4, 6), 96, electrons=1e5, radius=4.0)


def test_every_frame_is_drawn_with_its_disks(truth):
    scan = DetectedScan(Frames(truth.frames), pixel_size=0.02)
    figure = mi.plot_disks(scan, positions=[(0, 1), (3, 5)], return_figure=True)
    *frames, radii = figure.axes
    for ax, (rx, ry) in zip(frames, [(0, 1), (3, 5)], strict=True):
        peaks = scan.read_rows(rx, rx + 1)
        (circles,) = ax.collections
        assert len(circles.get_offsets()) == peaks.counts[ry]
        x, y = truth.centres[6 * rx + ry]
        column, row = (float(values[0]) for values in ax.lines[0].get_data())
        assert (row, column) == pytest.approx((x, y), abs=0.2)
    assert "1/Å" in radii.get_xlabel()


def test_a_picture_of_frames_of_unknown_pixel_size_is_in_pixels(truth, tmp_path):
    figure = mi.plot_disks(truth.frames, tmp_path / "disks.png", min_snr=4.0, return_figure=True)
    assert "pixels" in figure.axes[-1].get_xlabel()
    assert (tmp_path / "disks.png").stat().st_size > 10_000
    with pytest.raises(FileExistsError, match="overwrite=True replaces it"):
        mi.plot_disks(truth.frames, tmp_path / "disks.png")
    with pytest.raises(ValueError, match=r"\(4, 0\) lies outside the scan of shape \(4, 6\)"):
        mi.plot_disks(truth.frames, positions=[(4, 0)])
