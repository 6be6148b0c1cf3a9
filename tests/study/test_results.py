from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from restain.cli.main import main
from restain.core.errors import RestainError
from restain.core.files import read_csv
from restain.evaluate.bootstrap import INTERVAL, estimate
from restain.report.study import write_study_report
from restain.slides import read_image
from restain.study.answers import read_answers
from restain.study.files import write_results
from restain.study.results import study_results
from restain.study.store import Opinion, StudyStore

from .studies import LEVELS, answer_all, answers, make_study


def table_five() -> np.ndarray:
    """Two pathologists, 40 pairs: 15 and 16 generated images graded like their partners."""
    real = np.tile(np.arange(4), 10)
    wrong = (real + 1) % 4
    pairs = np.arange(40)
    readers = [np.where(pairs < equal, real, wrong) for equal in (15, 16)]
    return np.stack([np.stack([real, generated], axis=1) for generated in readers])


def test_table_5_of_the_bci_paper() -> None:
    results = study_results(answers(table_five(), truth=np.tile(np.arange(4), 10)))
    one, two = (results.get("accuracy", name, "pairs") for name in ("r1", "r2"))
    assert (one.value, two.value) == (0.375, 0.400)
    assert one.n == two.n == 40
    assert results.get("accuracy", "all", "pairs").value == pytest.approx(31 / 80)
    assert results.document()["accuracy"] == {"r1": 0.375, "r2": 0.4, "all": 31 / 80}


def test_accuracy_has_the_interval_of_the_evaluation() -> None:
    results = study_results(answers(table_five()))
    hits = (np.arange(40) < 15).astype(float)
    wanted = estimate(hits, [f"pair{i:03d}" for i in range(40)], INTERVAL)
    found = results.get("accuracy", "r1", "pairs")
    assert (found.low, found.high) == (wanted.low, wanted.high)
    assert found.low is not None
    assert 0.2 < found.low < 0.375 < (found.high or 0) < 0.55


def test_patients_are_resampled_where_they_are_known() -> None:
    grades = table_five()
    alone = study_results(answers(grades)).get("accuracy", "r1", "pairs")
    units = [f"p{i // 10}" for i in range(40)]
    together = study_results(answers(grades, patients=units)).get("accuracy", "r1", "pairs")
    assert together.low is not None
    assert alone.low is not None
    assert (together.high or 0) - together.low > (alone.high or 0) - alone.low


def test_what_is_not_readable_or_missing() -> None:
    # accurate, wrong, generated not readable, real not readable, generated missing, real missing
    pairs = [[1, 1], [1, 2], [1, -1], [-1, 1], [1, -2], [-2, 1]]
    results = study_results(answers([pairs]))
    accuracy, readable = (results.get(key, "r1", "pairs") for key in ("accuracy", "accuracy_if_readable"))
    assert (accuracy.value, accuracy.n) == (pytest.approx(1 / 3), 3)
    assert (readable.value, readable.n) == (pytest.approx(1 / 2), 2)
    assert results.get("pairs_left_out", "r1", "pairs").value == 1
    assert results.get("pairs_missing", "r1", "pairs").value == 2
    assert results.get("not_readable", "r1", "real").value == pytest.approx(1 / 5)
    assert results.get("not_readable", "r1", "generated").value == pytest.approx(1 / 5)
    assert not results.complete
    assert any("10 of 12" in note for note in results.notes())


def test_kappas_are_scikit_learns() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 4, 30)
    grades = np.clip(truth[None, :, None] + random.integers(-1, 2, (2, 30, 2)), 0, 3)
    results = study_results(answers(grades, truth))
    for suffix, weights in (("", None), ("_quadratic", "quadratic")):

        def wanted(a: np.ndarray, b: np.ndarray) -> float:
            return float(cohen_kappa_score(a.ravel(), b.ravel(), labels=range(4), weights=weights))  # noqa: B023

        checks = {
            ("kappa", "r1 | r2", "all"): wanted(grades[0], grades[1]),
            ("kappa", "r1 | r2", "real"): wanted(grades[0, :, 0], grades[1, :, 0]),
            ("kappa", "r1 | r2", "generated"): wanted(grades[0, :, 1], grades[1, :, 1]),
            ("accuracy_kappa", "r2", "pairs"): wanted(grades[1, :, 0], grades[1, :, 1]),
            ("truth_kappa", "r1", "generated"): wanted(truth, grades[0, :, 1]),
            ("truth_kappa", "all", "real"): wanted(np.tile(truth, 2), grades[:, :, 0]),
        }
        for (measure, readers, images), value in checks.items():
            found = results.get(measure + suffix, readers, images)
            assert found.value == pytest.approx(value), measure
            assert found.low is not None
            assert found.low < value < (found.high or 0)


def test_an_undefined_kappa_is_not_computed() -> None:
    results = study_results(answers(np.ones((3, 6, 2)), truth=np.ones(6)))
    measures = [one for one in results.measures if "kappa" in one.measure]
    assert len(measures) > 20
    for one in measures:
        assert one.value is None, one
        assert "not defined" in one.why
    assert results.get("accuracy", "r1", "pairs").value == 1.0
    json.dumps(results.document(), allow_nan=False)


def test_by_level() -> None:
    truth = np.tile(np.arange(4), 10)
    grades = table_five()
    results = study_results(answers(grades, truth))
    for index, level in enumerate(LEVELS):
        own = [bool(grades[0, i, 0] == grades[0, i, 1]) for i in range(40) if truth[i] == index]
        found = results.get("accuracy", "r1", "pairs", level)
        assert (found.value, found.n) == (pytest.approx(np.mean(own)), 10)
    assert results.get("truth_agreement", "r1", "real", "2+").value == 1.0


def test_real_and_generated_told_apart() -> None:
    said = np.zeros((1, 20, 2), int)
    said[0, :13, 1] = 1  # 13 of 20 generated ones found
    said[0, :4, 0] = 1  # 4 of 20 real ones taken for generated
    said[0, 19, 0] = -1  # of one, nothing was said
    results = study_results(answers(np.ones((1, 20, 2)), origins=said))
    accuracy = results.get("origin_accuracy", "r1")
    assert (accuracy.value, accuracy.n) == (pytest.approx(28 / 39), 39)
    assert accuracy.p == pytest.approx(binomtest(28, 39, 0.5).pvalue)
    assert results.get("origin_sensitivity", "r1").value == pytest.approx(13 / 20)
    assert results.get("origin_specificity", "r1").value == pytest.approx(15 / 19)
    assert results.get("origin_accuracy", "r1").low is not None


def test_chance() -> None:
    results = study_results(answers(table_five()))
    expected, dealt = (results.get(f"accuracy_{key}", "r1", "pairs") for key in ("expected", "permuted"))
    assert expected.value == pytest.approx(0.25, abs=0.005)
    assert dealt.value == pytest.approx(expected.value, abs=0.005)
    p = results.get("accuracy", "r1", "pairs").p
    assert p is not None
    assert 0.005 < p < 0.1
    same = np.tile(np.arange(4), 10)[None, :, None].repeat(2, 2)
    assert study_results(answers(same)).get("accuracy", "r1", "pairs").p == pytest.approx(1 / 10_001)


def test_chance_of_all_readers_weighs_them_as_their_accuracy_does() -> None:
    grades = np.full((2, 40, 2), -2)
    grades[0, :, 0] = np.tile(np.arange(4), 10)
    grades[0, :, 1] = np.repeat(np.arange(4), 10)
    grades[1, :2] = 1  # one who has just begun
    found = study_results(answers(grades)).get("accuracy_expected", "all", "pairs")
    assert (found.value, found.n) == (pytest.approx((40 * 0.25 + 2 * 1.0) / 42), 42)


def test_patients_with_several_pairs_are_said_to_spoil_p() -> None:
    notes = study_results(answers(table_five(), patients=[f"p{i // 2}" for i in range(40)])).notes()
    assert any("p does not" in note for note in notes)
    assert not any("p does not" in n for n in study_results(answers(table_five(), patients=range(40))).notes())


def test_names_are_no_formulas(tmp_path: Path) -> None:
    found = replace(answers(np.ones((1, 2, 2))), pairs=("=1+1", "b"), patients=("@x", 'p,"q'))
    write_results(study_results(found), tmp_path)
    rows = read_csv(tmp_path / "answers.csv", ["pair", "patient"])
    assert {(row["pair"], row["patient"]) for row in rows} == {("'=1+1", "'@x"), ("b", 'p,"q')}


def test_nothing_answered_yet(tmp_path: Path) -> None:
    results = study_results(answers(np.full((2, 5, 2), -2), truth=[0, 1, 2, 3, 0], origins=np.full((2, 5, 2), -1)))
    values = {one.measure: one.value for one in results.measures}
    counts = {"answered", "pairs_left_out", "pairs_missing"}
    assert {key for key, value in values.items() if value is not None} == counts
    write_results(results, tmp_path)
    write_study_report(results, tmp_path / "report.html")
    assert "not computed" in (tmp_path / "report.html").read_text()


def test_a_study_read_and_summed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_study(tmp_path, title="<b>HER2 & more</b>")
    store = StudyStore(tmp_path / "study")
    items = answer_all(store, made.codes["alice"], ["2+"] * 8)
    visit = store.log_in(made.codes["alice"]) or ""
    store.put(visit, items[3], Opinion("1+", True, "real"), 1, "a new key")  # the last one counts
    store.put(visit, items[4], Opinion(None, False, "generated"), 1, "another key")
    answer_all(store, made.codes["bob"], ["0"] * 5)
    assert main(["study", "results", str(tmp_path / "study"), "--out", str(tmp_path / "out"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["answered"] == {"alice": 8, "bob": 5}
    assert document == json.loads((tmp_path / "out" / "summary.json").read_text())
    rows = read_csv(tmp_path / "out" / "answers.csv", ["reader", "pair", "image", "grade"])
    own = [row for row in rows if row["reader"] == "alice"]
    assert [row["place"] for row in own] == [str(place + 1) for place in range(8)]
    assert [row["grade"] for row in own] == ["2+", "2+", "2+", "1+", "", "2+", "2+", "2+"]
    assert (own[3]["answers"], own[3]["origin"], own[4]["readable"]) == ("2", "real", "no")
    for row in rows:
        assert row["level"] == row["pair"].rsplit("_", 1)[1]
    by_pair: dict[str, dict[str, str]] = {}
    for row in own:
        by_pair.setdefault(row["pair"], {})[row["image"]] = row["grade"]
    counted = [pair for pair in by_pair.values() if pair["real"]]
    wanted = np.mean([pair["real"] == pair["generated"] for pair in counted])
    assert document["accuracy"]["alice"] == pytest.approx(wanted)
    html = (tmp_path / "out" / "report.html").read_text()
    assert "&lt;b&gt;HER2 &amp; more&lt;/b&gt;" in html
    assert "<b>HER2" not in html
    assert "under way" in html


def test_the_truth_in_answers_is_that_of_the_files(tmp_path: Path) -> None:
    make_study(tmp_path, readers=("alice",))
    found = read_answers(tmp_path / "study")
    for pair, name in enumerate(found.pairs):
        for side, folder in enumerate(("real", "fake")):
            copy = read_image(tmp_path / "study" / "images" / f"{found.images[pair, side]}.png")
            assert np.array_equal(copy, read_image(tmp_path / folder / f"{name}.png"))


def test_results_are_kept_out_of_a_study(tmp_path: Path) -> None:
    make_study(tmp_path)
    for out in ("study", "study/out", "study/images/out"):
        assert main(["study", "results", str(tmp_path / "study"), "--out", str(tmp_path / out)]) == 2
    assert main(["study", "results", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    with pytest.raises(RestainError, match="is no study"):
        read_answers(tmp_path)
