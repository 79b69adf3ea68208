"""Pixels without a right signal are found, disks and spots are not taken for them, and they are filled."""

import numpy as np
import pytest

from microinfer.frames import Frames, find_defects, repair

SIZE = 64
POSITIONS = (6, 10)


def patterns(dose=20.0, sharpness=2.5, moving=True, seed=0):
    """Counted frames with a bright beam, spots and a background; `sharpness` is the spots' width in pixels."""
    rng = np.random.default_rng(seed)
    x, y = np.mgrid[:SIZE, :SIZE]
    frames = np.empty((*POSITIONS, SIZE, SIZE))
    fixed = rng.uniform(6, SIZE - 6, (12, 2))
    for place in np.ndindex(POSITIONS):
        spots = rng.uniform(6, SIZE - 6, (12, 2)) if moving else fixed
        frame = dose * (0.3 + np.exp(-((x - 32) ** 2 + (y - 32) ** 2) / 800))
        frame += 200 * dose * np.exp(-((x - 31.6) ** 2 + (y - 32.3) ** 2) / (2 * sharpness**2))
        for row, column in spots:
            frame += 20 * dose * np.exp(-((x - row) ** 2 + (y - column) ** 2) / (2 * sharpness**2))
        frames[place] = frame
    return rng.poisson(frames).astype(np.uint16)


@pytest.mark.parametrize("dose", [0.02, 1.0, 50.0])
@pytest.mark.parametrize("sharpness", [0.6, 1.0, 2.5])
@pytest.mark.parametrize("moving", [True, False])
def test_a_good_detector_has_no_defects(dose, sharpness, moving):
    assert not find_defects(Frames(patterns(dose, sharpness, moving))).any()


@pytest.mark.parametrize("moving", [True, False])
def test_hot_dead_and_stuck_pixels(moving):
    frames = patterns(moving=moving)
    expected = np.zeros((SIZE, SIZE), bool)
    rng = np.random.default_rng(1)
    for n, (row, column) in enumerate(
        [(5, 5), (10, 50), (40, 20), (60, 60), (0, 30), (63, 0), (50, 45), (22, 8)]
    ):
        expected[row, column] = True
        kinds = (0, 65535, 30, rng.poisson(2000, POSITIONS), rng.poisson(0.5, POSITIONS))
        frames[:, :, row, column] = kinds[n % len(kinds)]
    frames[:, :, 40, 20] = 1000
    frames[:, :, 22, 8] = 65535
    found = find_defects(Frames(frames))
    assert np.argwhere(found & ~expected).size == 0
    assert np.argwhere(expected & ~found).size == 0


@pytest.mark.parametrize("value", [0, 65535])
def test_gaps_between_chips(value):
    frames = patterns()
    gap = np.zeros((SIZE, SIZE), bool)
    gap[30:33] = gap[:, 40:42] = True
    frames[:, :, gap] = value
    assert np.array_equal(find_defects(Frames(frames)), gap)


def test_wide_pixels_between_chips():
    frames = patterns()
    frames[:, :, 31:33] *= 2
    frames[:, :, :, 31:33] *= 2
    found = find_defects(Frames(frames))
    assert found[31:33].all()
    assert found[:, 31:33].all()
    assert found.sum() == 4 * SIZE - 4


def test_a_beam_that_saturates_the_camera_is_no_defect():
    assert not find_defects(Frames(np.minimum(patterns(sharpness=4.0), 1500))).any()


def test_corners_that_no_electron_reached():
    frames = patterns(dose=5.0)
    x, y = np.mgrid[:SIZE, :SIZE] - 32
    frames = np.random.default_rng(2).binomial(frames, np.exp(-(x**2 + y**2) / 150))
    assert (frames.max(axis=(0, 1)) == 0).any()
    assert not find_defects(Frames(frames)).any()


def test_what_is_known_and_what_the_file_marks_are_added():
    source = Frames(patterns())
    known, marked = np.zeros((2, SIZE, SIZE), bool)
    known[20:30, 20:30] = marked[3, 4] = True
    source.mask = marked
    assert np.array_equal(find_defects(source, known), known | marked)
    with pytest.raises(ValueError, match=r"mask must be.*\(64, 64\).*\(3, 3\)"):
        find_defects(source, np.zeros((3, 3), bool))
    with pytest.raises(ValueError, match="no detector pixel is left"):
        find_defects(source, np.ones((SIZE, SIZE), bool))


def test_pixels_that_are_no_number():
    frames = patterns().astype(np.float32)
    frames[3, 4, 5, 6] = np.nan
    frames[:, :, 7, 8] = np.inf
    found = find_defects(Frames(frames[3:4, 4:5]))
    assert np.argwhere(found).tolist() == [[5, 6], [7, 8]]


def test_one_frame_shows_hot_pixels():
    frames = patterns(seed=3)[:1, :1]
    frames[:, :, 10, 50] = 65535
    assert np.argwhere(find_defects(Frames(frames))).tolist() == [[10, 50]]


def test_repaired_pixels_are_like_their_neighbours():
    x, y = np.mgrid[:SIZE, :SIZE]
    smooth = (100 + 2 * x + y).astype(np.uint16)
    frames = np.stack([smooth, 2 * smooth])[None]
    mask = np.zeros((SIZE, SIZE), bool)
    mask[10, 10] = mask[20:22] = mask[:, 40:43] = mask[50:53, 50:53] = mask[0, 0] = True
    broken = np.where(mask, 65535, frames).astype(np.uint16)
    repaired = repair(broken, mask)
    assert repaired.dtype == np.float32
    assert np.array_equal(repaired[..., ~mask], frames[..., ~mask])
    assert np.abs(repaired - frames).max() < 0.02 * frames.max()
    assert np.array_equal(broken[..., mask], np.full((1, 2, mask.sum()), 65535))


def test_repair_ignores_what_is_no_number():
    frames = np.ones((3, 8, 8), np.float64)
    mask = np.zeros((8, 8), bool)
    mask[3, 3:5] = True
    frames[:, mask] = np.nan
    assert np.array_equal(repair(frames, mask), np.ones((3, 8, 8)))


def test_repair_refuses_other_masks():
    frames = np.ones((2, 8, 8))
    assert np.array_equal(repair(frames, np.zeros((8, 8), bool)), frames)
    with pytest.raises(ValueError, match=r"\(8, 8\).*int64.*\(8, 8\)"):
        repair(frames, np.zeros((8, 8), int))
    with pytest.raises(ValueError, match="leaves no pixel"):
        repair(frames, np.ones((8, 8), bool))
