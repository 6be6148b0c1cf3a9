"""One patient's tissue block: everything both slides are cut from."""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from restain.synthetic.architecture import Architecture
from restain.synthetic.cells import BLOCK, Cells, CellSource, Kind, concatenate
from restain.synthetic.deformation import Deformation, draw_deformation
from restain.synthetic.her2 import class_thresholds, membrane_class
from restain.synthetic.options import SynthOptions
from restain.synthetic.patient import Patient, draw_patient

_CACHED_BLOCKS = 400


class World:
    """The tissue of one patient, seen through two sections.

    Args:
        options: of the cohort.
        index: of the patient.
    """

    def __init__(self, options: SynthOptions, index: int) -> None:
        self.options = options
        self.patient: Patient = draw_patient(options, index)
        self.architecture = Architecture(self.patient, options)
        self.deformation: Deformation = draw_deformation(options, self.patient.seed)
        self._source = CellSource(self.patient, options, self.architecture)
        self._blocks: OrderedDict[tuple[int, int], Cells] = OrderedDict()

    def section(self, stain: str) -> float:
        """Depth in um of the lower face of the section stained with ``stain`` ("he" or "ihc")."""
        return self.options.section_gap if stain == "he" and not self.options.same_section else 0.0

    def block(self, column: int, row: int) -> Cells:
        """The cells of one block (cached)."""
        key = (column, row)
        if key not in self._blocks:
            self._blocks[key] = self._source.block(column, row)
            if len(self._blocks) > _CACHED_BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(key)
        return self._blocks[key]

    def cells(self, x0: float, x1: float, y0: float, y1: float) -> Cells:
        """The cells of all blocks that touch a window of the world (um)."""
        columns = range(int(np.floor(x0 / BLOCK)), int(np.floor(x1 / BLOCK)) + 1)
        rows = range(int(np.floor(y0 / BLOCK)), int(np.floor(y1 / BLOCK)) + 1)
        return concatenate([self.block(column, row) for row in rows for column in columns])

    @cached_property
    def thresholds(self) -> tuple[float, float, float]:
        """Expression scores at which membrane class 1, 2 and 3 begin, so that the IHC slide has the wanted shares."""
        scores = [self._slide_scores(column, row) for row in self.block_range() for column in self.block_range()]
        return class_thresholds(np.concatenate(scores), self.patient.shares)

    def block_range(self, both: bool = False) -> range:
        """Columns (and rows) of the blocks that can hold cells of the IHC slide, or with ``both`` of either slide."""
        low, high = 0.0, self.options.side
        if both and not self.options.no_deformation:
            edge = np.linspace(0.0, high, 65)
            far = np.full_like(edge, high)
            border = np.concatenate(
                [np.stack(pair, 1) for pair in ((edge, 0 * far), (edge, far), (0 * far, edge), (far, edge))]
            )
            reached = self.deformation.he_to_ihc_um(border)
            low, high = min(low, float(reached.min())), max(high, float(reached.max()))
        stray = 24.0  # um that a cell may lie outside the block of its site
        return range(int(np.floor((low - stray) / BLOCK)), int(np.floor((high + stray) / BLOCK)) + 1)

    def _slide_scores(self, column: int, row: int) -> NDArray[np.float32]:
        cells = self.block(column, row)
        scores: NDArray[np.float32] = cells.score[self.on_ihc(cells) & (cells.kind == Kind.TUMOUR)]
        return scores

    def on_ihc(self, cells: Cells) -> NDArray[np.bool_]:
        """Which cells show their nucleus on the IHC slide."""
        side = self.options.side
        within = (cells.x >= 0) & (cells.x < side) & (cells.y >= 0) & (cells.y < side)
        visible: NDArray[np.bool_] = within & (cells.section_area(0.0, self.options.section_thickness) > 0)
        return visible

    def expression(self, cells: Cells) -> NDArray[np.float64]:
        """Where each tumour cell's score lies within its membrane class: 0 at the lower cut-off to 1 at the upper."""
        bounds = np.array([-2.0, *self.thresholds])
        upper = np.append(bounds[1:], np.inf)
        upper = np.where(np.isfinite(upper), upper, np.where(np.isfinite(bounds), bounds, 0.0) + 1.5)
        found = self.classes(cells)
        span = np.maximum(upper - np.where(np.isfinite(bounds), bounds, 0.0), 1e-6)
        lower = np.where(np.isfinite(bounds), bounds, 0.0)
        place: NDArray[np.float64] = np.clip((cells.score - lower[found]) / span[found], 0.0, 1.0)
        return place

    def classes(self, cells: Cells) -> NDArray[np.uint8]:
        """Membrane class of each cell (0 for cells that are not tumour)."""
        found = membrane_class(cells.score, self.thresholds)
        return np.where(cells.kind == Kind.TUMOUR, found, 0).astype(np.uint8)
