"""Alignment from projections: as right as it says, of every image read once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stitchlib.align import align_pair
from stitchlib.core.boxes import Box
from stitchlib.core.mips import combined, projections
from stitchlib.core.register import register
from stitchlib.core.shifts import SearchRange
from stitchlib.errors import InputError
from stitchlib.io.views import ArrayImage
from stitchlib.matching import Options, Task, measure, measure_projections
from stitchlib.pairs import Pair
from stitchlib.phantom.links import HOPELESS, phantom_link

OK = 0.99


def blobs(shape, seed):
    """A picture of a few bright voxels and their surroundings."""
    rng = np.random.default_rng(seed)
    image = rng.random(shape) ** 8
    for axis in range(len(shape)):
        image = image + np.roll(image, 1, axis)
    return (1000 * image).astype(np.uint16)


@given(
    d=st.tuples(st.integers(14, 22), st.integers(-5, 5), st.integers(-3, 3)),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=25)
def test_projections_together_tell_all_axes(d, seed):
    scene = blobs((60, 40, 20), seed)
    pre = scene[:30, 5:35, 3:17]
    post = scene[d[0] : d[0] + 30, 5 + d[1] : 35 + d[1], 3 + d[2] : 17 + d[2]]
    search = SearchRange((12, -6, -4), (24, 6, 4))
    assert combined(projections((pre, post), (18, 0, 0)), search, 0.0, flat=False) == d


def test_projections_are_of_the_planes_that_both_show():
    pre, post = blobs((9, 8, 7), 0), blobs((9, 8, 7), 1)
    found = projections((pre, post), (3, -2, 0))
    assert np.array_equal(found[0][0], pre[3:].max(axis=0))
    assert np.array_equal(found[0][1], post[:6].max(axis=0))
    assert np.array_equal(found[1][0], pre[:, :6].max(axis=1))
    assert np.array_equal(found[1][1], post[:, 2:].max(axis=1))
    assert np.array_equal(found[2][0], pre.max(axis=2))


@pytest.mark.parametrize("kind", ["clean", "noise", "half-gain", "blobs", *HOPELESS])
def test_no_wrong_link_is_ok(kind):
    right = seen = 0
    for seed in range(6):
        link = phantom_link(kind, seed)
        match = register(link.pre, link.post, link.search, least=link.least, method="mip")
        if match.confidence >= OK:
            assert kind not in HOPELESS
            assert np.abs(np.subtract(match.refined, link.truth)).max() <= 1
            right += 1
        seen += kind == "clean"
    assert right >= seen - 1


def test_planes_are_compared_as_they_are():
    scene = blobs((80, 60, 1), 3)
    pre, post = scene[:50], scene[30:]
    search = SearchRange((25, -4, 0), (35, 4, 0))
    found = [register(pre, post, search, least=(5, 5, 1), method=m) for m in ("mip", "auto")]
    assert found[0] == found[1]
    assert found[0].displacement == (30, 0, 0)


def test_the_workflow_measures_by_projections():
    scene = blobs((150, 70, 30), 5)
    pre, post = ArrayImage(scene[:80, :64, :25]), ArrayImage(scene[60:140, 3:67, 2:27])
    pair = Pair("a", "b", 0, (62, 0, 0), SearchRange((54, -8, -4), (70, 8, 4)), 5)
    link = align_pair(pair, pre, post, "ncc", method="mip")
    assert link.status == "ok"
    assert link.displacement == pytest.approx((60, 3, 2), abs=0.2)
    assert link.confidence >= OK


class Counting:
    """A reader that counts the voxels that were read."""

    order = "C"

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.voxels = 0

    def read(self, box: Box):
        """Read and count."""
        self.voxels += box.size
        return self.array[box.slices()]


@pytest.mark.parametrize("normalize", [False, True])
def test_rigid_mips_read_every_image_once_and_agree_with_the_voxels(normalize):
    scene = blobs((150, 70, 30), 7)
    pre, post = Counting(scene[:80, :64, :25]), Counting(scene[60:140, 3:67, 2:27])
    task = Task("a-b", pre, post, (0, 0, 0), (62, 0, 0), SearchRange((-8, -8, -4), (8, 8, 4)))
    options = Options.parse(None, None, normalize, 5)
    found = measure_projections(task, 0, 18, options)
    assert pre.voxels <= pre.array.size
    assert post.voxels <= post.array.size
    assert found == measure(task, options)
    assert found.shift == (-2, 3, 2)


def test_tiles_with_voxels_that_are_no_numbers_are_named():
    scene = blobs((80, 60, 1), 3).astype(np.float32)
    scene[40, 20] = np.nan
    pair = Pair("a", "b", 0, (30, 0, 0), SearchRange((25, -4, 0), (35, 4, 0)), 5)
    with pytest.raises(InputError, match=r"tiles a \(pre\) and b \(post\): pre image .* NaN"):
        align_pair(pair, ArrayImage(scene[:50]), ArrayImage(scene[30:]), "ncc")
