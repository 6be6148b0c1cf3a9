"""What is extracted from an IHC, against its parts."""

from __future__ import annotations

import numpy as np
import pytest

from restain.core.errors import RestainError
from restain.stains import (
    ClassicalNuclei,
    DensityScale,
    KnowledgeOptions,
    count,
    dab_only,
    density_map,
    extract,
    knowledge_picture,
    membrane_mask,
)

MPP = 0.5


def rings(side: int = 160, step: int = 40) -> np.ndarray:
    """Blue nuclei of 4 um radius in brown rings on grey glass."""
    y, x = np.mgrid[:side, :side] % step - step / 2
    radius = np.hypot(x, y)
    rgb = np.full((side, side, 3), (225, 224, 220), np.uint8)
    rgb[radius < 8] = (110, 125, 175)
    rgb[(radius > 13) & (radius < 17)] = (130, 85, 50)
    return rgb


def test_it_is_its_parts() -> None:
    ihc, options = rings(), KnowledgeOptions(threshold=0.2, sigma=6)
    found = extract(ihc, MPP, options, ClassicalNuclei())
    assert len(found.centroids) == 16
    np.testing.assert_array_equal(found.dab, (dab_only(ihc) * 255).astype(np.uint8))
    np.testing.assert_array_equal(found.dab_mask, membrane_mask(ihc, 0.2))
    np.testing.assert_array_equal(found.nuclei_map, density_map(found.centroids, (160, 160), 6))


def test_count_scale_counts() -> None:
    found = extract(rings(), MPP, KnowledgeOptions(density_scale=DensityScale.count), ClassicalNuclei())
    assert count(found.nuclei_map) == pytest.approx(16, rel=0.05)


def test_cells_of_the_dab_mask_are_an_option() -> None:
    ihc = np.full((120, 120, 3), 240, np.uint8)
    y, x = np.mgrid[:120, :120]
    ihc[np.hypot(x - 60, y - 60) < 8] = (110, 70, 40)
    without = extract(ihc, MPP, KnowledgeOptions(), ClassicalNuclei())
    added = extract(ihc, MPP, KnowledgeOptions(dab_centroids=True), ClassicalNuclei())
    assert len(added.centroids) == len(without.centroids) + 1
    np.testing.assert_allclose(added.centroids[-1], [60.5, 60.5], atol=1.5)


def test_empty_glass_has_no_knowledge() -> None:
    found = extract(np.full((64, 96, 3), 238, np.uint8), MPP, KnowledgeOptions(), ClassicalNuclei())
    assert found.centroids.shape == (0, 2)
    assert not found.nuclei_map.any()
    assert not found.dab_mask.any()


@pytest.mark.parametrize(("mpp", "words"), [(None, "um/px"), (0.0, "um/px"), (8.0, "um/px"), (float("nan"), "um/px")])
def test_resolution_is_needed(mpp: float | None, words: str) -> None:
    with pytest.raises(RestainError, match=words):
        extract(rings(), mpp, KnowledgeOptions(), ClassicalNuclei())


@pytest.mark.parametrize("options", [{"threshold": 1.0}, {"threshold": -0.1}, {"sigma": 0.0}, {"sigma": float("nan")}])
def test_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(RestainError, match=next(iter(options))):
        KnowledgeOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(160, 160), (700, 300), (9, 5)])
def test_picture_of_any_size(shape: tuple[int, int]) -> None:
    ihc = np.full((*shape, 3), 230, np.uint8)
    picture = knowledge_picture(ihc, extract(ihc, MPP, KnowledgeOptions(), ClassicalNuclei()), "name äöü.png")
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert picture.shape[0] < 560


def test_picture_marks_nuclei() -> None:
    ihc = rings()
    found = extract(ihc, MPP, KnowledgeOptions(), ClassicalNuclei())
    picture = knowledge_picture(ihc, found)
    panel = picture[-160:, :160]
    column, row = found.centroids.astype(int).T
    assert (panel[row, column] == (0, 255, 0)).all()
