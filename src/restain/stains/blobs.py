"""The default detector of nuclei: dark, round, as large as nuclei are; no weights, one setting for every stain.

Everything happens at ``MPP`` um/px. The nuclear stain is the optical density of red: haematoxylin absorbs red, eosin
hardly does, and nuclei that are brown with DAB do too. From it goes what DAB shows in blue, for a stained membrane or
cytoplasm is no nucleus, and back comes brown that is solid over the size of a nucleus (``_nuclear_stain``). A centre is
a maximum of three kinds of evidence (``_evidence``), each of which sees what the others miss:

- gradients that point at it from a nucleus' radius away (as in the fast radial symmetry transform of Loy and Zelinsky
  2003), which tells overlapping nuclei apart;
- a difference of Gaussians of a nucleus' size, for nuclei that are faint;
- the distance to the edge of the stained area, for large nuclei whose texture has several dark spots.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from restain.slides import glass_colour
from restain.stains.deconvolution import optical_density

Plane = NDArray[np.float32]

MPP = 0.5
"""um/px that images are brought to; lengths below are in um, amounts in decadic optical density."""

_BLUE_OF_HAEMATOXYLIN = 0.6
"""Haematoxylin absorbs at most this much of blue for each unit of red; what is above is DAB's."""
_LESS_DAB = 0.7
_SOLID = (2.0, 7.0)
"""Radii of the openings: brown that is wider than a membrane, and narrower than a field of stained cytoplasm."""
_SOLID_FROM = 0.3
_MORE_SOLID = 3.0

_RADII = (2.5, 3.25, 4.0, 4.75)
"""From which distances gradients vote for a centre."""
_BLOB = 1.8
_ACROSS = 12.0
"""Sigma of the neighbourhood whose mean stain says, together with Otsu's threshold, what is dark."""
_OTSU = 0.5
_HOLE = 15.0
"""um^2: pale spots in a nucleus that are smaller are part of it."""
_WEIGHTS = (0.3, 1.0, 0.3)
"""Of votes, difference of Gaussians of the stain from 0 to 1, distance in um."""
_LEAST = 0.4
_OUTLINE = 2.5
"""Times the mean gradient (of square roots, so that few strong ones count little) within ``_AROUND`` um."""
_AROUND = 25.0
_LEAST_STAIN = 0.03
_LEAST_GRADIENT = 0.07
"""Sobel's gradient of the stain (as OpenCV scales it) that is an outline; the noise of empty glass has 0.01."""
_APART = 2.0


class ClassicalNuclei:
    """Finds nuclei in H&E and IHC by what they look like; see ``NucleusDetector`` and this module's text."""

    name = "classical"

    def __call__(self, rgb: NDArray[np.uint8], mpp: float) -> NDArray[np.float64]:
        """See ``NucleusDetector``."""
        height, width = rgb.shape[:2]
        density = _at_mpp(optical_density(rgb, glass_colour(rgb)), mpp)
        red, blue = np.ascontiguousarray(density[..., 0]), np.ascontiguousarray(density[..., 2])
        return _in_image(_centres(_nuclear_stain(red, blue)), density, width, height)

    def in_mask(self, mask: NDArray[np.uint8], mpp: float) -> NDArray[np.float64]:
        """See ``NucleusDetector``."""
        plane = _at_mpp(np.asarray(mask / 255, np.float32), mpp)
        return _in_image(_centres(plane), plane, mask.shape[1], mask.shape[0])


def _at_mpp(plane: Plane, mpp: float) -> Plane:
    """The plane [H, W] or [H, W, 3] at ``MPP``, at least one pixel."""
    if abs(mpp / MPP - 1) < 0.02:
        return plane
    size = max(1, round(plane.shape[1] * mpp / MPP)), max(1, round(plane.shape[0] * mpp / MPP))
    method = cv2.INTER_AREA if mpp < MPP else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(plane, size, interpolation=method), np.float32)


def _in_image(centres: NDArray[np.float64], plane: NDArray[np.float32], width: int, height: int) -> NDArray[np.float64]:
    """Centres of ``plane`` in pixels of the image it came from, none on its far edge."""
    scaled = centres * (width / plane.shape[1], height / plane.shape[0])
    return np.asarray(np.minimum(scaled, (width - 1e-3, height - 1e-3)), np.float64)


def _nuclear_stain(red: Plane, blue: Plane) -> Plane:
    """How much of a nuclear stain there is, from the optical densities of red and blue [H, W]."""
    brown = np.maximum(blue - _BLUE_OF_HAEMATOXYLIN * red, 0)
    wide = cv2.morphologyEx(_smooth(brown, 0.5), cv2.MORPH_OPEN, _disk(_SOLID[0]))
    # A square can be opened in constant time a pixel, however large it is.
    field = cv2.morphologyEx(wide, cv2.MORPH_OPEN, np.ones((2 * round(_SOLID[1] / MPP) + 1,) * 2, np.uint8))
    solid = np.maximum(_smooth(wide - field, 0.5) - _SOLID_FROM, 0)
    return np.asarray(red - _LESS_DAB * brown + _MORE_SOLID * solid, np.float32)


def _centres(stain: Plane) -> NDArray[np.float64]:
    """Centres of nuclei (x, y) [n, 2] in pixels of ``stain``, [H, W] at ``MPP``."""
    evidence = _evidence(stain)
    peak = (evidence == cv2.dilate(evidence, _disk(_APART))) & (evidence > _LEAST)
    top, number = ndimage.label(peak, np.ones((3, 3)))  # a flat top is one
    centres = ndimage.center_of_mass(peak, top, np.arange(1, number + 1))
    return np.asarray(centres, np.float64).reshape(-1, 2)[:, ::-1] + 0.5


def _evidence(stain: Plane) -> Plane:
    """How much a pixel looks like the centre of a nucleus, [H, W]."""
    smooth = _smooth(stain, 0.4)
    otsu = float(threshold_otsu(np.maximum(smooth[::2, ::2], 0)))  # type: ignore[no-untyped-call]
    dark = np.maximum(_OTSU * otsu + (1 - _OTSU) * _smooth(np.maximum(smooth, 0), _ACROSS), _LEAST_STAIN)
    inside = cv2.morphologyEx((smooth > dark).astype(np.uint8), cv2.MORPH_OPEN, _disk(MPP))
    holes, _ = ndimage.label(inside == 0)
    inside[(np.bincount(holes.ravel()) * MPP**2 < _HOLE)[holes]] = 1
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5) * MPP
    even = np.tanh(smooth / (2 * dark))
    parts = _votes(stain), _blobs(even, _BLOB), _smooth(distance, 0.5)
    return np.asarray(sum(weight * part for weight, part in zip(_WEIGHTS, parts, strict=True)), np.float32)


def _blobs(plane: Plane, sigma: float) -> Plane:
    """Difference of Gaussians, scaled to be about Lindeberg's normalised Laplacian, positive where there is more."""
    return np.asarray((_smooth(plane, sigma) - _smooth(plane, 1.26 * sigma)) / 0.26, np.float32)


def _votes(stain: Plane) -> Plane:
    """Each pixel votes for the points that its gradient points at, a nucleus' radius away."""
    smooth = _smooth(stain, 0.5)
    across, down = (cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3) for order in ((1, 0), (0, 1)))
    strength = np.hypot(across, down)
    # Outlines are as strong as those around: one strong membrane must not hide pale nuclei elsewhere.
    strong = np.maximum(_OUTLINE * _smooth(np.sqrt(strength), _AROUND) ** 2, _LEAST_GRADIENT)
    relative = np.minimum(strength / strong, 2).ravel()
    voters = np.flatnonzero(relative > 0.05)
    x, y = (gradient.ravel()[voters] / strength.ravel()[voters] for gradient in (across, down))
    weight = relative[voters] ** 0.7
    height, width = stain.shape
    row, column = np.divmod(voters, width)
    votes = np.zeros(stain.size)
    for radius in _RADII:
        there = np.rint(row + y * radius / MPP).astype(np.int64), np.rint(column + x * radius / MPP).astype(np.int64)
        seen = (there[0] >= 0) & (there[0] < height) & (there[1] >= 0) & (there[1] < width)
        place = there[0][seen] * width + there[1][seen]
        votes += np.bincount(place, weights=weight[seen] / radius, minlength=stain.size)
    return _smooth(votes.reshape(stain.shape).astype(np.float32), 1.0)


def _smooth(plane: Plane, sigma: float) -> Plane:
    """Under a Gaussian of ``sigma`` um."""
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma / MPP), np.float32)


def _disk(radius: float) -> NDArray[np.uint8]:
    """A disk of ``radius`` um."""
    side = 2 * round(radius / MPP) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)
