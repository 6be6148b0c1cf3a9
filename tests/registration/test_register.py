"""Registration end to end: what it writes, resumes, keeps and rejects."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from restain.core.errors import ItemError, MissingResolutionError, NoTissueError, RestainError
from restain.core.files import read_json, write_csv
from restain.registration import RegisterOptions, Transform, blocks, register, stages
from restain.registration import warp as warp_module
from restain.slides import open_slide, read_image, write_image

OPTIONS = RegisterOptions(blocks=2)


@pytest.fixture(scope="module")
def registered(patients, tmp_path_factory):
    """The first patient, registered."""
    out = tmp_path_factory.mktemp("registered")
    return register(patients[0].he, patients[0].ihc, out, options=OPTIONS)


def test_it_finds_the_truth_and_writes_everything(patients, registered):
    assert registered.status == "ok", registered.reason
    transform = Transform.load(registered.transform)
    assert patients[0].error_um(transform) < 3
    with open_slide(patients[0].ihc) as ihc, open_slide(registered.he_registered) as he:
        assert he.size == ihc.size
        assert he.mpp == pytest.approx(ihc.mpp, rel=1e-6)
    assert registered.filled.exists()
    assert max(read_image(registered.folder / "overlay.png").shape) > 500
    stages_ = registered.quality["stages"]
    assert stages_["blocks"]["mutual_information"] > stages_["unaligned"]["mutual_information"]
    assert stages_["projective"]["haematoxylin_ncc"] > stages_["unaligned"]["haematoxylin_ncc"] + 0.2
    assert len(registered.quality["blocks"]) == 4
    assert registered.quality["folding"]["share"] == 0
    assert registered.quality == read_json(registered.folder / "quality.json")


def test_the_elastic_steps_help(patients, registered, tmp_path):
    plain = register(patients[0].he, patients[0].ihc, tmp_path, options=RegisterOptions(blocks=2, elastic=False))
    assert plain.quality["stage"] == "projective"
    before, after = (patients[0].error_um(Transform.load(found.transform)) for found in (plain, registered))
    assert after < 0.6 * before


def test_called_again_it_does_nothing(patients, registered, monkeypatch):
    monkeypatch.setattr(stages, "align", lambda *_: pytest.fail("aligned again"))
    again = register(patients[0].he, patients[0].ihc, registered.folder, options=OPTIONS)
    assert again.quality == registered.quality


def test_a_folder_of_other_settings_is_refused(patients, registered):
    with pytest.raises(RestainError, match="other settings"):
        register(patients[0].he, patients[0].ihc, registered.folder, options=RegisterOptions(blocks=3))


def test_interrupted_it_goes_on_at_the_block(patients, registered, tmp_path, monkeypatch):
    done, real = [], blocks.register_block

    def until_the_third(he, ihc, box, *rest):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(box.name)
        return real(he, ihc, box, *rest)

    monkeypatch.setattr(blocks, "register_block", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        register(patients[0].he, patients[0].ihc, tmp_path, options=OPTIONS)
    assert not (tmp_path / "quality.json").exists()
    rest = []

    def the_rest(he, ihc, box, *more):
        rest.append(box.name)
        return real(he, ihc, box, *more)

    monkeypatch.setattr(blocks, "register_block", the_rest)
    monkeypatch.setattr(stages, "align", lambda *_: pytest.fail("aligned again"))
    found = register(patients[0].he, patients[0].ihc, tmp_path, options=OPTIONS)
    assert not set(done) & set(rest)
    assert len(done) + len(rest) == 5
    one, other = (Transform.load(each.transform).displacement for each in (found, registered))
    np.testing.assert_allclose(one, other, atol=0.5)


def test_different_tissue_is_rejected_with_scores(patients, tmp_path):
    found = register(patients[0].he, patients[1].ihc, tmp_path, options=OPTIONS)
    assert found.status == "rejected"
    assert found.exit_code == 1
    assert "--landmarks" in found.reason
    assert "confidence" in found.reason
    assert found.quality["stages"]["unaligned"]["mutual_information"] is not None
    assert {path.name for path in tmp_path.iterdir()} == {".lock", ".state", "overlay.png", "quality.json"}


def test_one_stain_twice(patients, tmp_path):
    with pytest.raises(RestainError, match="given as H&E and as IHC"):
        register(patients[0].he, patients[0].he, tmp_path)
    copy = tmp_path / "copy.ome.tif"
    shutil.copy(patients[0].he, copy)
    found = register(patients[0].he, copy, tmp_path / "out", options=OPTIONS)
    assert found.status == "rejected"
    assert "same stain" in found.reason


def test_landmarks_by_hand(patients, tmp_path):
    patient = patients[0]
    middle = patient.marks - 500
    chosen = [int(np.argmax(middle @ [np.cos(turn), np.sin(turn)])) for turn in np.arange(8) * np.pi / 4]
    assert len(set(chosen)) == 8
    rows = [
        {"x_he": hx, "y_he": hy, "x_ihc": ix, "y_ihc": iy}
        for (hx, hy), (ix, iy) in zip(patient.places[chosen], patient.marks[chosen], strict=True)
    ]
    rows[0]["x_he"] = (rows[0]["x_he"] + 300) % 1000  # a slip
    write_csv(tmp_path / "marks.csv", ("x_he", "y_he", "x_ihc", "y_ihc"), rows)
    options = RegisterOptions(blocks=2, elastic=False)
    found = register(patient.he, patient.ihc, tmp_path / "out", landmarks=tmp_path / "marks.csv", options=options)
    assert found.status == "ok", found.reason
    assert "1 of 8 landmarks" in found.reason
    assert found.quality["projective"]["source"] == "landmarks"
    assert patient.error_um(Transform.load(found.transform)) < 12
    write_csv(tmp_path / "few.csv", ("x_he", "y_he", "x_ihc", "y_ihc"), rows[:3])
    with pytest.raises(RestainError, match=r"few\.csv: 3 point pairs"):
        register(patient.he, patient.ihc, tmp_path / "other", landmarks=tmp_path / "few.csv", options=options)


def test_a_stage_that_makes_it_worse_is_not_kept(patients, tmp_path, monkeypatch):
    def spoilt(transform, *_):
        matrix = np.array([[1, 0, 40.0], [0, 1, 40.0], [0, 0, 1]]) @ transform.matrix
        return (
            Transform(**{**vars(transform), "matrix": matrix}),
            [{"name": "b", "before": 0.5, "after": 0.6, "reason": ""}],
            0.0,
        )

    monkeypatch.setattr(stages, "step", spoilt)
    found = register(patients[0].he, patients[0].ihc, tmp_path, options=OPTIONS)
    assert found.status == "ok"
    assert found.quality["stage"] == "projective"
    assert "mutual information fell" in found.reason
    assert "rejected" in found.quality["stages"]["elastic"]


def test_absurd_maps_are_rejected(patients, tmp_path):
    corners = np.array([[100, 100], [900, 100], [900, 900], [100, 900]], float)
    squeezed = corners * [1, 0.3]
    rows = [
        {"x_he": hx, "y_he": hy, "x_ihc": ix, "y_ihc": iy} for (hx, hy), (ix, iy) in zip(squeezed, corners, strict=True)
    ]
    write_csv(tmp_path / "marks.csv", ("x_he", "y_he", "x_ihc", "y_ihc"), rows)
    found = register(
        patients[0].he, patients[0].ihc, tmp_path / "out", landmarks=tmp_path / "marks.csv", options=OPTIONS
    )
    assert found.status == "rejected"
    assert "absurd" in found.reason


def test_empty_and_unmeasured_slides(patients, tmp_path):
    write_image(tmp_path / "empty.png", np.full((600, 600, 3), 240, np.uint8))
    with pytest.raises(NoTissueError):
        register(patients[0].he, tmp_path / "empty.png", tmp_path / "out", ihc_mpp=1.0)
    with pytest.raises(MissingResolutionError, match="mpp"):
        register(patients[0].he, tmp_path / "empty.png", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing_half_written(patients, tmp_path, monkeypatch):
    real = warp_module.PyramidWriter.write

    def full(self, *given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(warp_module.PyramidWriter, "write", full)
    options = RegisterOptions(blocks=2, elastic=False)
    with pytest.raises((ItemError, OSError)):
        register(patients[0].he, patients[0].ihc, tmp_path, options=options)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", ".state"}
    monkeypatch.setattr(warp_module.PyramidWriter, "write", real)
    assert register(patients[0].he, patients[0].ihc, tmp_path, options=options).status == "ok"


def test_landmarks_that_make_it_worse_are_rejected(patients, registered, tmp_path):
    marks = np.array([[200, 200], [800, 220], [790, 780], [210, 800]], float)
    rows = [{"x_he": x + 100, "y_he": y + 80, "x_ihc": x, "y_ihc": y} for x, y in marks]
    write_csv(tmp_path / "marks.csv", ("x_he", "y_he", "x_ihc", "y_ihc"), rows)
    found = register(
        registered.he_registered, patients[0].ihc, tmp_path / "out", landmarks=tmp_path / "marks.csv", options=OPTIONS
    )
    assert found.status == "rejected"
    assert "made it worse" in found.reason
    far = [(500, 500, 500, 500), (600, 500, 600, 500), (600, 600, 570, 600), (500, 600, 530, 600)]
    rows = [dict(zip(("x_he", "y_he", "x_ihc", "y_ihc"), row, strict=True)) for row in far]
    write_csv(tmp_path / "far.csv", ("x_he", "y_he", "x_ihc", "y_ihc"), rows)
    found = register(patients[0].he, patients[0].ihc, tmp_path / "far", landmarks=tmp_path / "far.csv", options=OPTIONS)
    assert found.status == "rejected"
    assert "infinity" in found.reason


def test_what_it_reads_and_what_others_wrote_stays(patients, tmp_path):
    inside = tmp_path / "filled.ome.tif"
    shutil.copy(patients[0].he, inside)
    before = inside.read_bytes()
    with pytest.raises(RestainError, match="would be overwritten"):
        register(inside, patients[0].ihc, tmp_path)
    inside.rename(tmp_path / "he.ome.tif")
    (tmp_path / "overlay.png").write_text("mine")
    with pytest.raises(RestainError, match="something else"):
        register(tmp_path / "he.ome.tif", patients[0].ihc, tmp_path)
    assert (tmp_path / "he.ome.tif").read_bytes() == before
    assert (tmp_path / "overlay.png").read_text() == "mine"


def test_a_lost_field_is_made_again(patients, registered, tmp_path):
    shutil.copytree(registered.folder, tmp_path / "copy")
    (tmp_path / "copy" / "field.npz").unlink()
    again = register(patients[0].he, patients[0].ihc, tmp_path / "copy", options=OPTIONS)
    assert patients[0].error_um(Transform.load(again.transform)) < 3


def test_tiny_slides_and_absurd_um_per_px_are_refused(patients, tmp_path):
    write_image(tmp_path / "one.png", np.full((1, 1, 3), 100, np.uint8))
    with pytest.raises(ItemError, match="too few to align"):
        register(tmp_path / "one.png", patients[0].ihc, tmp_path / "out", he_mpp=2.0)
    with pytest.raises(RestainError, match="cannot be"):
        register(patients[0].he, patients[0].ihc, tmp_path / "out", he_mpp=1e-300)
