"""Rendering one slide of a patient, block by block.

A block is always rendered whole, from the world alone: the same pixels come out in any order and in any process. Pixel
(i, j) covers the square from i to i + 1 and j to j + 1 in level-0 pixels; its centre is looked up in the world.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.synthetic.architecture import GRID_STEP, Tissue
from restain.synthetic.artefacts import Artefacts, defocus, draw_artefacts, overlay, thickness_factor
from restain.synthetic.cells import REACH, Cells, Kind
from restain.synthetic.compose import Pigments, Section, compose_he, compose_ihc
from restain.synthetic.hashing import subseed
from restain.synthetic.noise import Field, textures
from restain.synthetic.optics import SlideLook, draw_look, scan, transmit
from restain.synthetic.stamping import Canvas, draw_bodies, draw_nuclei
from restain.synthetic.world import World

PIXEL_BLOCK = 1024
"""Side in px of the blocks in which slides are rendered."""

_MARGIN = 8.0
"""um around a block that are rendered for the optics' blur and cut off."""


@dataclass(frozen=True)
class Block:
    """A rendered piece of a slide; arrays [H, W].

    Attributes:
        rgb: uint8 [H, W, 3].
        membrane: uint8, 1, 2, 3: stained membrane of that class (IHC; all 0 for H&E); 0 elsewhere.
        nuclei: uint8, ``Kind`` of the nucleus at each pixel; 0 elsewhere.
    """

    rgb: NDArray[np.uint8]
    membrane: NDArray[np.uint8]
    nuclei: NDArray[np.uint8]


class SlideRenderer:
    """Renders one of a patient's two slides.

    Args:
        world: the patient's tissue.
        stain: "he" or "ihc".
    """

    def __init__(self, world: World, stain: str) -> None:
        self.world = world
        self.stain = stain
        self.look: SlideLook = draw_look(world.options, world.patient, stain)
        self.artefacts: Artefacts = draw_artefacts(world.options, world.patient, stain)

    def block(self, column: int, row: int) -> Block:
        """Block ``column``, ``row``; blocks at the right and lower border are cut at the slide's size."""
        options = self.world.options
        x0, y0 = column * PIXEL_BLOCK, row * PIXEL_BLOCK
        width, height = min(PIXEL_BLOCK, options.size - x0), min(PIXEL_BLOCK, options.size - y0)
        margin = int(np.ceil(_MARGIN / options.mpp))
        x = (np.arange(-margin, width + margin) + x0 + 0.5) * options.mpp
        y = (np.arange(-margin, height + margin) + y0 + 0.5) * options.mpp
        pigments = self._pigments(x, y)
        thicker = thickness_factor(self.artefacts, x, y)
        stains: list[Field] = list(pigments.stains)
        if thicker is not None:
            stains = [stain * thicker for stain in stains]
        light = overlay(transmit(stains, self.look.staining), self.artefacts, x, y)
        blurred = defocus(self.artefacts, options.side, x, y)
        noise_seed = subseed(self.world.patient.seed, "noise", self.stain, column, row)
        rgb = scan(light, self.look.scanner, options.mpp, blurred, noise_seed)
        inner = (slice(margin, margin + height), slice(margin, margin + width))
        return Block(rgb[inner], pigments.membrane[inner], pigments.nuclei[inner])

    def region(self, x: int, y: int, width: int, height: int) -> Block:
        """Any rectangle of the slide in level-0 pixels, assembled from whole blocks."""
        rgb = np.zeros((height, width, 3), dtype=np.uint8)
        maps = np.zeros((2, height, width), dtype=np.uint8)
        for row in range(y // PIXEL_BLOCK, (y + height - 1) // PIXEL_BLOCK + 1):
            for column in range(x // PIXEL_BLOCK, (x + width - 1) // PIXEL_BLOCK + 1):
                block = self.block(column, row)
                left, top = column * PIXEL_BLOCK, row * PIXEL_BLOCK
                x0, x1 = max(x, left), min(x + width, left + block.rgb.shape[1])
                y0, y1 = max(y, top), min(y + height, top + block.rgb.shape[0])
                target = (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))
                source = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
                rgb[target] = block.rgb[source]
                maps[0][target] = block.membrane[source]
                maps[1][target] = block.nuclei[source]
        return Block(rgb, maps[0], maps[1])

    def _pigments(self, x: Field, y: Field) -> Pigments:
        """Stain concentrations at slide positions (um)."""
        world = self.world
        if self.stain == "he" and not world.options.no_deformation:
            world_x, world_y = world.deformation.grid_um(x, y)
        else:
            world_x, world_y = np.meshgrid(x, y)
        low_x, low_y = (float((np.floor(axis.min() / GRID_STEP) - 4) * GRID_STEP) for axis in (world_x, world_y))
        grid_x = low_x + GRID_STEP * np.arange(int((world_x.max() - low_x) / GRID_STEP) + 6)
        grid_y = low_y + GRID_STEP * np.arange(int((world_y.max() - low_y) / GRID_STEP) + 6)
        local_x = (world_x - low_x).astype(np.float32)
        local_y = (world_y - low_y).astype(np.float32)
        # Looked up at world positions modulo the texture in double precision first, then in float32.
        wobble = textures()["wobble"]
        period = wobble.texel[0] * (wobble.values.shape[0] - 1)
        patient = world.patient
        base_x = np.float32((low_x + patient.texture_x) % period)
        base_y = np.float32((low_y + patient.texture_y) % period)
        shift_x = wobble.sample(local_x + base_x, local_y + base_y)
        shift_y = wobble.sample(local_x + base_x + np.float32(131.3), local_y + base_y + np.float32(77.7))
        # Cell borders are bent more than nuclei.
        bent = Canvas(
            local_x + np.float32(0.95) * shift_x,
            local_y + np.float32(0.95) * shift_y,
            (low_x, low_y),
            world.options.mpp,
        )
        local_x += np.float32(0.5) * shift_x
        local_y += np.float32(0.5) * shift_y
        canvas = Canvas(local_x, local_y, (low_x, low_y), world.options.mpp)
        z0 = world.section(self.stain)
        middle = z0 + world.options.section_thickness / 2
        tissue = _to_pixels(world.architecture.fields(grid_x, grid_y, middle), local_x, local_y)
        cells = world.cells(grid_x[0] - REACH, grid_x[-1] + REACH, grid_y[0] - REACH, grid_y[-1] + REACH)
        section = self._section(canvas, bent, tissue, cells, z0, middle)
        return compose_he(section, self.look) if self.stain == "he" else compose_ihc(section, self.look)

    def _section(self, canvas: Canvas, bent: Canvas, tissue: Tissue, cells: Cells, z0: float, middle: float) -> Section:
        world = self.world
        tumour = cells.take((cells.kind == Kind.TUMOUR) & (np.abs(cells.z - middle) < 1.2 * cells.radius))
        fat = cells.take(cells.kind == Kind.ADIPOCYTE)
        visible = cells.section_area(z0, world.options.section_thickness) > 0
        seen = cells.take(visible & (cells.kind != Kind.ADIPOCYTE))
        return Section(
            canvas=canvas,
            tissue=tissue,
            tumour=tumour,
            classes=world.classes(tumour) if self.stain == "ihc" else np.zeros(len(tumour), dtype=np.uint8),
            expression=world.expression(tumour) if self.stain == "ihc" else np.zeros(len(tumour)),
            bodies=draw_bodies(bent, tumour, middle, 0.25),
            adipocytes=draw_bodies(canvas, fat, 0.0, 0.35) if float(tissue.fat.max()) > -6.0 else None,
            nuclei=draw_nuclei(canvas, seen, z0, world.options.section_thickness),
            seen=seen,
            patient=world.patient,
        )


def _to_pixels(tissue: Tissue, local_x: Field, local_y: Field) -> Tissue:
    """Fields interpolated bilinearly from the grid to pixels."""
    u = local_x * np.float32(1 / GRID_STEP)
    v = local_y * np.float32(1 / GRID_STEP)
    values: dict[str, Field] = {
        name: np.asarray(
            cv2.remap(
                np.ascontiguousarray(field, dtype=np.float32), u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            ),
            dtype=np.float32,
        )
        for name, field in vars(tissue).items()
    }
    return Tissue(**values)
