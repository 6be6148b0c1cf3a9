"""From the structures in a section to stain concentrations: what takes up haematoxylin, eosin and DAB, and how much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restain.synthetic.architecture import Tissue
from restain.synthetic.cells import Cells, Kind
from restain.synthetic.hashing import hash_uniform
from restain.synthetic.noise import Field, textures
from restain.synthetic.optics import SlideLook
from restain.synthetic.patient import Patient
from restain.synthetic.stamping import Bodies, Canvas, Nuclei

MEMBRANE_DENSITY = ((0.0, 0.0), (0.08, 0.2), (0.26, 0.6), (1.1, 2.2))
"""Optical density of DAB at the middle of a membrane seen on edge: from the weakest to the strongest of each class."""

CYTOPLASM = (0.0, 0.6, 1.3, 0.95)
"""Staining of the cytoplasm relative to the membrane, times the lab's blush, by class: weak staining is diffuse."""

MEMBRANE_WIDTH = (0.5, 0.5, 0.65, 1.0)
"""um from the middle of a membrane to where its density has fallen to 1/e, by class."""


@dataclass(frozen=True)
class Section:
    """Everything in a block of a section. Fields are arrays [H, W].

    Attributes:
        canvas: where the pixels lie.
        tissue: architecture at the pixels.
        tumour: tumour cells near the section, as ``bodies.owner`` counts them.
        classes: membrane class of each tumour cell.
        expression: 0 weakest to 1 strongest of its class, of each tumour cell.
        bodies: how tumour cells tile the section.
        adipocytes: the same of fat cells; None where there is no fat.
        nuclei: nuclei in the section.
        seen: cells as ``nuclei.owner`` counts them.
        patient: whose.
    """

    canvas: Canvas
    tissue: Tissue
    tumour: Cells
    classes: NDArray[np.uint8]
    expression: NDArray[np.float64]
    bodies: Bodies
    adipocytes: Bodies | None
    nuclei: Nuclei
    seen: Cells
    patient: Patient


@dataclass(frozen=True)
class Pigments:
    """Stain concentrations in optical-density units, and truth maps.

    Attributes:
        stains: one float32 [H, W] per stain of the slide (H&E: haematoxylin, eosin, blood; IHC: haematoxylin, DAB).
        membrane: uint8 [H, W], as in ``Block``.
        nuclei: uint8 [H, W], as in ``Block``.
    """

    stains: list[Field]
    membrane: NDArray[np.uint8]
    nuclei: NDArray[np.uint8]


@dataclass(frozen=True)
class _Compartments:
    """How much of each pixel belongs to what, 0 to 1 [H, W], and the textures that modulate it."""

    tumour: Field
    lumen: Field
    stroma: Field
    duct: Field
    wall: Field
    blood: Field
    necrosis: Field
    fat_wall: Field
    vacuole: Field
    bundle: Field
    fibril: Field
    grain: Field
    fibre: Field
    matrix: Field


def _step(values: Field, width: float) -> Field:
    """0 below -width / 2 to 1 above +width / 2, smoothly."""
    t = np.clip(values * np.float32(1 / width) + np.float32(0.5), 0.0, 1.0)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def _texture_place(section: Section) -> tuple[Field, Field]:
    """Where the patient's tissue lies on the shared textures of grain: each patient begins elsewhere."""
    x, y = section.canvas.world()
    return x + np.float32(section.patient.texture_x), y + np.float32(section.patient.texture_y)


def _compartments(section: Section) -> _Compartments:
    tissue, patient = section.tissue, section.patient
    pictures = textures()
    x, y = _texture_place(section)
    grain = pictures["grain"].sample(x, y)
    # A second set of fibres crosses the first, and fills places where the stream function is flat.
    cross_along = np.float32(0.82) * tissue.along + np.float32(0.57) * tissue.across
    cross = np.float32(0.82) * tissue.across - np.float32(0.57) * tissue.along
    bundle = 0.84 * pictures["bundle"].sample(tissue.along, tissue.across)
    bundle += 0.54 * pictures["bundle"].sample(cross_along + 311.0, cross + 97.0)
    fibril = pictures["fibril"].sample(tissue.along, tissue.across)
    inside = _step(tissue.edge + 1.8 * bundle, 1.6)
    nest_depth = nest_outline(section)
    nest = _step(nest_depth, 1.2)
    # Retraction: stroma lifts off parts of the nests' border; strands of it keep the contact.
    gap = np.float32(patient.cleft) * np.clip(0.5 + 1.2 * bundle + 0.4 * fibril, 0.0, 2.2)
    attached = 1 - 0.9 * _step(gap + nest_depth - 0.4, 1.2) * (1 - nest) * _step(gap - 0.6, 0.6)
    open_lumen = _step(tissue.lumen + 0.5 * grain, 1.4)
    dead = _step(tissue.necrosis + 2.0 * grain, 5.0)
    ducts = _step(tissue.duct_wall - tissue.duct, 1.0)
    duct_cells = ducts * _step(tissue.duct + 0.4 * grain, 1.2)
    vessel_wall_end = _step(2.6 - tissue.vessel, 1.0)
    vessel_lumen = _step(-tissue.vessel, 0.9)
    corpuscle = _step(pictures["wobble"].sample(x * np.float32(1.5), y * np.float32(1.5)) + 0.3, 1.1)
    corpuscle *= _step(
        pictures["wobble"].sample(x * np.float32(0.11), y * np.float32(0.11)) - 0.2, 0.4
    )  # most vessels are empty
    if section.adipocytes is None:
        vacuole = fat_wall = np.zeros_like(nest)
    else:
        fat = section.adipocytes
        free = np.minimum(np.minimum(fat.border, fat.depth), 8.0) - 0.7 - 0.25 * bundle
        vacuole = _step(free, 0.9) * (1 - nest) * (1 - ducts)
        fat_wall = _step(fat.depth + 1.5, 1.0) * (1 - vacuole) * (1 - nest)
    stroma = inside * (1 - nest) * (1 - ducts) * (1 - vessel_wall_end) * (1 - vacuole) * (1 - fat_wall) * attached
    # Bundles with slits between them; loose stroma has more and wider ones.
    opening = bundle + 0.6 * fibril + 0.25 * grain + np.float32(1.25) - 1.7 * tissue.loose
    fibre = _step(opening, 1.5)
    # Between fibres lies pale ground substance; only the widest gaps are torn open to the glass.
    matrix = (1 - fibre) * _step(opening + 1.0 + 0.8 * tissue.loose, 0.9)
    stroma = stroma * (1 - _step(np.float32(patient.brittle) - opening - tissue.loose, 0.35))
    return _Compartments(
        tumour=nest * inside * (1 - open_lumen) * (1 - dead),
        lumen=nest * inside * open_lumen,
        stroma=stroma,
        duct=duct_cells * inside,
        wall=vessel_wall_end * (1 - vessel_lumen) * inside * (1 - nest),
        blood=vessel_lumen * corpuscle * inside * (1 - nest),
        necrosis=nest * dead * inside,
        fat_wall=fat_wall * inside,
        vacuole=vacuole * inside,
        bundle=bundle,
        fibril=fibril,
        grain=grain,
        fibre=fibre,
        matrix=matrix,
    )


def nest_outline(section: Section) -> Field:
    """Distance into a tumour nest in um [H, W], scalloped by the cells that make up its border."""
    beyond = 0.62 * section.patient.cell_spacing - 0.95 * section.patient.cell_spacing
    scallop = np.maximum(section.bodies.depth, -12.0) + np.float32(beyond)
    near = np.clip(section.tissue.nest, -6.0, 6.0)
    return np.asarray(np.where(np.abs(section.tissue.nest) < 6.0, 0.6 * near + 0.4 * scallop, section.tissue.nest))


def _nuclei_map(section: Section) -> NDArray[np.uint8]:
    owner = section.nuclei.owner
    kinds = np.concatenate([section.seen.kind, np.zeros(1, dtype=np.uint8)])
    return kinds[owner]


def compose_he(section: Section, look: SlideLook) -> Pigments:
    """Haematoxylin and eosin."""
    parts, tissue, patient = _compartments(section), section.tissue, section.patient
    grain, fibre = parts.grain, parts.fibre
    nucleus = section.nuclei.amount
    clear = 1 - 0.5 * np.minimum(nucleus, 1.0)
    border = _cell_border(section)
    body = _per_cell(section, 61, 0.14)
    x, y = _texture_place(section)
    smooth = textures()["wobble"].sample(x * np.float32(0.45), y * np.float32(0.45))
    immune = np.minimum(1.3 * tissue.immune, 1.0)
    collagen = 0.31 + 0.05 * parts.bundle + 0.06 * parts.fibril + 0.025 * grain + 0.035 * smooth
    collagen *= (1 - 0.35 * tissue.loose) * (1 - 0.6 * immune)
    loose = 0.085 + 0.025 * parts.fibril + 0.02 * grain
    eosin = parts.stroma * (fibre * collagen + parts.matrix * loose)
    eosin += (
        patient.cytoplasmic_eosin
        * parts.tumour
        * (0.17 + 0.035 * grain + 0.025 * smooth)
        * (1 - 0.2 * border)
        * clear
        * body
    )
    eosin += parts.duct * (0.26 + 0.03 * grain) * clear
    eosin += parts.necrosis * (0.4 + 0.07 * grain + 0.05 * smooth)
    eosin += parts.wall * (0.34 + 0.04 * parts.fibril) + 0.24 * parts.fat_wall
    if patient.secretion:
        eosin += parts.lumen * np.maximum(0.05 + 0.05 * smooth + 0.01 * grain, 0.0)
    eosin *= tissue.eosin
    ground = np.float32(0.03 * look.staining.background)
    haematoxylin = parts.stroma * (ground * (0.5 + fibre) + 0.04 * immune + parts.matrix * (0.05 + 0.015 * smooth))
    haematoxylin += (
        patient.amphophilia * parts.tumour * (0.165 + 0.033 * grain + 0.045 * smooth) * (1 - 0.22 * border) * body
    )
    haematoxylin += parts.duct * (0.11 + 0.025 * grain) + parts.necrosis * (0.09 + 0.05 * grain)
    haematoxylin += 0.74 * nucleus * (1 - parts.vacuole)
    blood = parts.blood * (0.42 + 0.05 * grain)
    stains = [np.maximum(stain, 0.0).astype(np.float32) for stain in (haematoxylin, eosin, blood)]
    return Pigments(stains, np.zeros(nucleus.shape, dtype=np.uint8), _nuclei_map(section))


def compose_ihc(section: Section, look: SlideLook) -> Pigments:
    """Haematoxylin counterstain and DAB on HER2."""
    parts = _compartments(section)
    grain, fibre = parts.grain, parts.fibre
    nucleus = section.nuclei.amount
    membrane, cytoplasm, label = _her2(section, parts)
    ground = np.float32(look.staining.background)
    haematoxylin = parts.stroma * (0.012 + 0.008 * fibre + 0.005 * parts.fibril + 0.006 * grain)
    haematoxylin += parts.tumour * (0.03 + 0.01 * grain)
    haematoxylin += parts.duct * 0.035 + parts.wall * 0.035 + parts.necrosis * 0.045 + 0.02 * parts.fat_wall
    haematoxylin += 0.185 * nucleus * _counterstain(section) * (1 - parts.vacuole) + 0.03 * parts.blood
    dab = parts.stroma * ground * (0.032 + 0.014 * fibre + 0.006 * parts.fibril + 0.008 * grain)
    dab += parts.necrosis * ground * (0.05 + 0.02 * grain) + parts.duct * ground * (0.045 + 0.012 * grain)
    dab += ground * (0.03 * parts.fat_wall + 0.04 * parts.wall + 0.05 * parts.blood) + (
        ground * (0.05 + 0.012 * grain) + section.patient.granular * np.clip(1 + 0.4 * grain, 0.1, 2.0)
    ) * parts.tumour * (1 - 0.5 * np.minimum(nucleus, 1.0))
    dab += membrane + np.float32(look.staining.blush) * cytoplasm + _brown_cells(section)
    stains = [np.maximum(stain, 0.0).astype(np.float32) for stain in (haematoxylin, dab)]
    return Pigments(stains, label, _nuclei_map(section))


def _per_cell(section: Section, seed: int, spread: float) -> Field:
    """A factor around 1 that differs from tumour cell to tumour cell [H, W]."""
    u = hash_uniform(seed, section.tumour.id) if len(section.tumour) else np.zeros(0)
    factors = np.append(1 + spread * 3.46 * (u - 0.5), 1.0).astype(np.float32)
    return factors[section.bodies.owner]


def _cell_border(section: Section) -> Field:
    """1 on the border between tumour cells, 0 away from it."""
    return np.asarray(np.exp(-((section.bodies.border / np.float32(0.7)) ** 2)), dtype=np.float32)


def _counterstain(section: Section) -> Field:
    """Tumour nuclei take up less counterstain than small dense ones: a factor [H, W]."""
    factor = np.where(section.seen.kind == Kind.TUMOUR, 0.85, 1.1)
    return np.append(factor, 1.0).astype(np.float32)[section.nuclei.owner]


def _brown_cells(section: Section) -> Field:
    """DAB in the odd stromal cell that stains unspecifically [H, W]."""
    u = hash_uniform(83, section.seen.id) if len(section.seen) else np.zeros(0)
    stroma = np.isin(section.seen.kind, (Kind.LYMPHOCYTE, Kind.FIBROBLAST))
    amount = np.append(np.where(stroma & (u < 0.02), 0.25 + 15 * u, 0.0), 0.0).astype(np.float32)
    return np.asarray(amount[section.nuclei.owner] * section.nuclei.amount)


def _her2(section: Section, parts: _Compartments) -> tuple[Field, Field, NDArray[np.uint8]]:
    """DAB on membranes, DAB in cytoplasm (before the lab's blush) and the membrane truth map, each [H, W]."""
    bodies, tissue, cells = section.bodies, section.tissue, section.tumour
    owned = np.where(bodies.owner >= 0, bodies.owner, len(cells))
    classes = np.append(section.classes, 0)[owned]
    low, high = np.asarray(MEMBRANE_DENSITY)[section.classes].T.reshape(2, -1)
    base = (low + (high - low) * section.expression) * section.patient.intensity
    density = np.append(base, 0.0).astype(np.float32)[owned]
    # A membrane that is not on edge is smeared over the section's thickness and paler for it.
    edge_on = np.asarray(MEMBRANE_WIDTH, dtype=np.float32)[classes] * np.clip(1 + 0.25 * parts.bundle, 0.6, 1.6)
    width = np.sqrt(edge_on**2 + (0.8 * np.minimum(bodies.tilt, 1.2)) ** 2)
    border, outer = np.abs(bodies.border), np.abs(nest_outline(section))
    middle = np.minimum(border, np.minimum(outer, 3.0 + np.abs(tissue.lumen)))
    basal = np.where(outer < border, np.clip(0.55 + 0.3 * parts.bundle, 0.15, 1.0), 1.0)
    profile = np.exp(-((middle / width) ** 2)) * np.sqrt(edge_on / width) * basal
    present = _completeness(section, parts, owned, classes)
    membrane = parts.tumour * density * profile * present
    # Stained cytoplasm also lies above and below a nucleus.
    clear = 1 - np.where(classes >= 2, 0.3, 0.6) * np.minimum(section.nuclei.amount, 1.0)
    diffuse = density * np.asarray(CYTOPLASM, dtype=np.float32)[classes] * (0.8 + 0.25 * parts.grain)
    cytoplasm = parts.tumour * clear * diffuse
    shown = (middle < 0.85 * edge_on) & (present > 0.35) & (basal > 0.3) & (parts.tumour > 0.5)
    label = np.where(shown, classes, 0).astype(np.uint8)
    return np.asarray(membrane, dtype=np.float32), np.asarray(cytoplasm, dtype=np.float32), label


def _completeness(
    section: Section, parts: _Compartments, owned: NDArray[np.int64], classes: NDArray[np.uint8]
) -> Field:
    """How strongly each place around a cell is stained [H, W]: in class 1 only stretches, else all around, unevenly."""
    cells, c, s = section.tumour, section.bodies.cosine, section.bodies.sine
    u = hash_uniform(72, cells.id[:, None], np.arange(3)) if len(cells) else np.zeros((0, 3))
    turns = np.append(2 * np.pi * u, np.zeros((1, 3)), axis=0)
    turn_cosine, turn_sine = np.cos(turns).astype(np.float32), np.sin(turns).astype(np.float32)
    pattern = np.zeros_like(c)
    cosine, sine = c, s
    for order in range(3):
        pattern += (cosine * turn_cosine[:, order][owned] - sine * turn_sine[:, order][owned]) * np.float32(0.75)
        cosine, sine = cosine * c - sine * s, cosine * s + sine * c
    stretches = _step(pattern + 0.45 * parts.grain - 0.35, 0.7) * (0.8 + 0.4 * parts.grain)
    uneven = np.where(classes == 2, 0.26, 0.15).astype(np.float32)
    around = 1 + uneven * (pattern + parts.grain)
    return np.where(classes == 1, np.clip(stretches, 0.0, 1.6), np.clip(around, 0.4, 1.6)).astype(np.float32)
