"""The automatic projective step against the synthetic truth."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from restain.core.errors import MissingResolutionError, NoTissueError
from restain.registration.coarse import align
from restain.registration.pictures import look, stain_angle
from restain.registration.transform import project
from restain.slides import open_slide, read_image, write_image


def side(path, mpp=None):
    return look(open_slide(path, mpp))


def test_turned_and_mirrored_sections_are_found(patients):
    mirrored = []
    for patient in patients:
        found = align(side(patient.he), side(patient.ihc))
        places = project(patient.marks * patient.mpp, found.matrix)
        assert np.median(np.linalg.norm(places - patient.places * patient.mpp, axis=1)) < 12
        assert found.confidence > 0.4
        mirrored.append(np.linalg.det(found.matrix[:2, :2]) < 0)
    assert any(mirrored)


def test_different_tissue_gives_no_confidence(patients):
    found = align(side(patients[0].he), side(patients[1].ihc))
    assert found.confidence < 0.15


def test_different_um_per_px_on_the_two_sides(patients, tmp_path):
    patient = patients[0]
    he = read_image_of(patient.he)
    write_image(tmp_path / "he.png", cv2.resize(he, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    found = align(side(tmp_path / "he.png", 2 * patient.mpp), side(patient.ihc))
    places = project(patient.marks * patient.mpp, found.matrix)
    assert np.median(np.linalg.norm(places - patient.places * patient.mpp, axis=1)) < 14


def test_a_given_map_is_judged_not_changed(patients):
    he, ihc = side(patients[0].he), side(patients[0].ihc)
    right = align(he, ihc)
    again = align(he, ihc, right.matrix)
    np.testing.assert_array_equal(again.matrix, right.matrix)
    assert again.source == "landmarks"
    assert again.confidence == pytest.approx(right.confidence, abs=0.1)
    turned = np.array([[-1.0, 0, he.extent[0]], [0, -1, he.extent[1]], [0, 0, 1]]) @ right.matrix
    assert align(he, ihc, turned).confidence < 0.05


def test_stains_are_told_apart(patients):
    he, ihc = side(patients[0].he), side(patients[0].ihc)
    assert stain_angle(he, ihc) > 8
    assert stain_angle(he, side(patients[1].he)) < stain_angle(he, ihc)
    assert stain_angle(he, he) < 0.01


def test_an_empty_slide_and_one_without_um_per_px_are_refused(tmp_path):
    write_image(tmp_path / "empty.png", np.full((600, 600, 3), 240, np.uint8))
    with pytest.raises(NoTissueError, match=r"empty\.png: no tissue"):
        side(tmp_path / "empty.png", 1.0)
    with pytest.raises(MissingResolutionError, match="--mpp"):
        side(tmp_path / "empty.png")


def read_image_of(path):
    with open_slide(path) as slide:
        return slide.read(0, 0, *slide.size)


def test_landmarks_of_experts(shared):
    folder = shared / "data" / "landmarks" / "rat-kidney-panck"
    assert read_image(folder / "he.jpg").ndim == 3
    found = align(side(folder / "he.jpg", 5.0), side(folder / "ihc.jpg", 5.0))
    assert found.confidence > 0.4
