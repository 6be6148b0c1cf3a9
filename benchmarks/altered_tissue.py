"""The same synthetic tissue stained otherwise, and images altered in known ways: the fakes of metric_validity.py."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from restain.slides import glass_colour
from restain.synthetic import SlideRenderer, SynthOptions, World
from restain.synthetic.cells import Cells, Kind
from restain.synthetic.hashing import hash_uniform, subseed
from restain.synthetic.her2 import sample_shares

Image = NDArray[np.uint8]

MARGIN = 24.0
"""um around a picture that are rendered too, so that a shifted picture shows true tissue at its edges."""


class Altered(World):
    """One patient's tissue with another expression of HER2; everything else stays as it is.

    Args:
        options: of the cohort.
        index: of the patient.
        level: 0 to 3; None for the patient's own. Another level comes with shares of its own, drawn once a patient.
        wrong: share of the tumour cells whose membrane class is one step off (3 becomes 2), or, where ``anyhow``, any
            of the other three.
        anyhow: see ``wrong``.
        moved: um; every tumour cell takes class and expression of the one that lies so far to its right.
        depth: um between the section shown and the patient's own.
        like: the same patient otherwise altered, whose cells need not be drawn again.
    """

    def __init__(
        self,
        options: SynthOptions,
        index: int,
        level: int | None = None,
        wrong: float = 0.0,
        anyhow: bool = False,
        moved: float = 0.0,
        depth: float = 0.0,
        like: Altered | None = None,
    ) -> None:
        super().__init__(options, index)
        self.wrong, self.anyhow, self.moved, self.depth = wrong, anyhow, moved, depth
        if level is not None and level != self.patient.level:
            rng = np.random.default_rng(subseed(self.patient.seed, "other-level", level))
            self.patient = replace(self.patient, level=level, shares=sample_shares(level, rng))
        self.plain = World(options, index)
        self.plain.patient = self.patient
        if like is not None:
            self._blocks = like._blocks
        self.plain._blocks = self._blocks

    def section(self, stain: str) -> float:
        """Depth of the section in um."""
        return self.depth if stain == "ihc" else super().section(stain)

    def classes(self, cells: Cells) -> NDArray[np.uint8]:
        """Membrane classes after the alteration."""
        found = self._from_elsewhere(cells)[0] if self.moved else self.plain.classes(cells)
        if self.anyhow:
            other = (found + 1 + (3 * hash_uniform(992, cells.id)).astype(np.int64)) % 4
        else:
            other = np.where(found == 3, 2, found + 1)
        chosen = self._chosen(cells) & (cells.kind == Kind.TUMOUR)
        return np.where(chosen, other, found).astype(np.uint8)

    def expression(self, cells: Cells) -> NDArray[np.float64]:
        """Place within the class; anywhere in it for a cell whose class was changed."""
        place = self._from_elsewhere(cells)[1] if self.moved else self.plain.expression(cells)
        return np.where(self._chosen(cells), hash_uniform(993, cells.id), place)

    def _chosen(self, cells: Cells) -> NDArray[np.bool_]:
        return hash_uniform(991, cells.id) < self.wrong

    def _from_elsewhere(self, cells: Cells) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        here = np.column_stack([cells.x + self.moved, cells.y, cells.z])
        edge = self.moved + 60.0
        around = self.cells(cells.x.min() - edge, cells.x.max() + edge, cells.y.min() - edge, cells.y.max() + edge)
        around = around.take(around.kind == Kind.TUMOUR)
        if not len(around):
            return np.zeros(len(cells), np.uint8), np.zeros(len(cells))
        nearest = cKDTree(np.column_stack([around.x, around.y, around.z])).query(here)[1]
        classes = np.where(cells.kind == Kind.TUMOUR, self.plain.classes(around)[nearest], 0)
        return classes.astype(np.uint8), self.plain.expression(around)[nearest]

    def shares(self) -> NDArray[np.float64]:
        """Share of the IHC's tumour cells in each membrane class, [4]."""
        cells = self.cells(0, self.options.side, 0, self.options.side)
        cells = cells.take(self.on_ihc(cells) & (cells.kind == Kind.TUMOUR))
        return np.bincount(self.classes(cells), minlength=4) / max(len(cells), 1)


def render(tissue: World, noise: int, dab: float = 1.0, stain: str = "ihc") -> Image:
    """The whole slide, JPEG of the laboratory's quality.

    Args:
        tissue: whose.
        noise: seed of the camera's noise: no two pictures have the same.
        dab: factor on the concentration of DAB.
        stain: "ihc" or "he".
    """
    renderer = SlideRenderer(tissue, stain)
    scanner, staining = renderer.look.scanner, renderer.look.staining
    if stain == "ihc":
        staining = replace(staining, strength=(staining.strength[0], dab * staining.strength[1]))
    renderer.look = replace(renderer.look, scanner=replace(scanner, noise=0.0), staining=staining)
    rgb = renderer.region(0, 0, tissue.options.size, tissue.options.size).rgb
    rng = np.random.default_rng([noise, tissue.patient.index])
    grain = rng.standard_normal(rgb.shape, dtype=np.float32) * scanner.noise * (0.45 + 0.55 * rgb / 255.0)
    return jpeg(np.clip(np.rint(rgb + grain), 0, 255).astype(np.uint8), scanner.quality)


def inner(image: Image, mpp: float, x: float = 0.0, y: float = 0.0) -> Image:
    """The picture without its margin, shifted by (x, y) um."""
    margin, right, down = (round(length / mpp) for length in (MARGIN, x, y))
    height, width = (side - 2 * margin for side in image.shape[:2])
    return image[margin + down : margin + down + height, margin + right : margin + right + width].copy()


def bend(image: Image, mpp: float, largest: float, wavelength: float, seed: int) -> Image:
    """A smooth random deformation whose largest displacement is ``largest`` um."""
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    noise = [rng.standard_normal((height, width), dtype=np.float32) for _ in range(2)]
    field = np.stack([cv2.GaussianBlur(one, (0, 0), wavelength / mpp / 4) for one in noise])
    field *= largest / mpp / np.hypot(*field).max()
    row, column = np.mgrid[:height, :width].astype(np.float32)
    return cv2.remap(image, column + field[0], row + field[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def shrunk(image: Image, enlarge: int = cv2.INTER_CUBIC) -> Image:
    """Shrunk to a quarter and enlarged again, as arptidec5's images are."""
    small = cv2.resize(image, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, image.shape[1::-1], interpolation=enlarge)


def jpeg(image: Image, quality: int) -> Image:
    """Coded and decoded."""
    coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1])


def noisy(image: Image, sigma: float) -> Image:
    """With Gaussian noise of ``sigma`` grey values."""
    grain = np.random.default_rng(0).normal(0, sigma, image.shape)
    return np.clip(np.rint(image + grain), 0, 255).astype(np.uint8)


def restained(image: Image, dab: float = 1.0, counterstain: float = 1.0, roll: int = 0) -> Image:
    """A real image with other amounts of stain, by scikit-image's H-DAB vectors and not the metric's.

    Args:
        image: IHC.
        dab: factor on DAB.
        counterstain: factor on the counterstain.
        roll: px by which the DAB is moved to the right, around the edge; counterstain and the rest stay.
    """
    white = glass_colour(image).astype(np.float64)
    vectors = np.array([[0.65, 0.70, 0.29], [0.27, 0.57, 0.78], [0.0, 0.0, 0.0]])
    vectors[2] = np.cross(vectors[0], vectors[1])
    density = np.log10(white) - np.log10(np.maximum(image.astype(np.float64), 1))
    amounts = density @ np.linalg.inv(vectors)
    brown = np.maximum(amounts[..., 1], 0)
    moved = np.roll(brown, roll, axis=1) if roll else brown
    amounts[..., 1] += dab * moved - brown
    amounts[..., 0] *= counterstain
    return np.clip(np.rint(white * 10 ** -(amounts @ vectors)), 0, 255).astype(np.uint8)


def constant(image: Image) -> Image:
    """The mean colour everywhere."""
    return np.full_like(image, np.rint(image.mean((0, 1))).astype(np.uint8))
