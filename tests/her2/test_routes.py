"""Virtual IHC in a cross-validation: its level, its reading, and joined with models; nobody's answer leaks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from restain.cli import her2_crossval
from restain.core.errors import RestainError
from restain.core.files import read_csv, read_json
from restain.her2.crossval_scores import Training
from restain.her2.fusion import Pool, Reader, percent_rows
from restain.her2.labels import HER2, ClassSet
from restain.her2.routes import HeModel, Route, check_virtual, route_names, virtual_routes
from restain.her2.splits import Plan, make_plan
from restain.her2.virtual_table import Virtual, read_virtual
from tests.her2.cohort import LEVELS, write_cohort
from tests.her2.virtual_tables import level, percentages, write_virtual

LABELS = {f"p{number:03d}": number % 4 for number in range(80)}
PLAN = make_plan(LABELS, LEVELS, 4, 0.3, 0)


def table(percent: Mapping[str, tuple[float, ...] | None], **more: object) -> Virtual:
    scores = {name: level(shares) for name, shares in percent.items()}
    return replace(Virtual(Path("v.csv"), scores, dict(percent), trained_on=frozenset()), **more)  # type: ignore[arg-type]


def answers(names: tuple[str, ...], seed: int) -> np.ndarray:
    raw = np.random.default_rng(seed).normal(size=(len(names), 4))
    raw[np.arange(len(names)), [LABELS[name] for name in names]] += 1
    return softmax(raw, axis=1)


def model(plan: Plan = PLAN, seeds: tuple[int, ...] = (0,)) -> HeModel:
    trainings = [
        Training(
            fold + 1, seed, answers(plan.test, 100 * seed + fold), answers(names, 100 * seed + 50 + fold),
            np.array([LABELS[name] for name in names]),
        )
        for seed in seeds
        for fold, names in enumerate(plan.folds)
    ]  # fmt: skip
    return HeModel("H&E", "abmil", trainings)


def routes(virtual: Virtual, labels: Mapping[str, int] = LABELS, **more: object) -> dict[str, Route]:
    given = {"classes": HER2, "models": {"abmil": model()}} | more
    found, _ = virtual_routes({"v": virtual}, plan=PLAN, labels=labels, seed=0, **given)  # type: ignore[arg-type]
    return {one.name: one for one in found}


def test_three_routes_with_their_own_words() -> None:
    found = routes(table(percentages(LABELS)), models={"abmil": model(seeds=(0, 1)), "clam": model()})
    assert list(found) == ["v_rule", "v", "abmil+v", "clam+v"] == route_names(["v"], ["abmil", "clam"])
    assert [one.learns for one in found.values()] == ["stainer", "stainer, labels", *["H&E + stainer"] * 2]
    assert [len(one.trainings) for one in found.values()] == [4, 4, 8, 4]
    assert found["clam+v"].parts == ("clam", "v")
    for one in found.values():
        for training in one.trainings:
            np.testing.assert_allclose(training.test.sum(1), 1)
            assert training.val is not None
            assert training.val_labels is not None
            assert len(training.val) == len(training.val_labels) == len(PLAN.folds[training.fold - 1])


def test_the_rule_is_the_guidelines_and_blank_patients_get_the_folds_frequencies() -> None:
    percent = percentages(LABELS)
    blank = PLAN.test[0]
    percent[blank] = None
    found = routes(table(percent))
    for fold, training in enumerate(found["v_rule"].trainings):
        for name, values in zip(PLAN.test[1:], training.test[1:], strict=True):
            assert LEVELS[int(values.argmax())] == level(percent[name])
            assert values.max() == 1
        learn = [LABELS[name] for name in PLAN.training(fold)]
        frequency = np.bincount(learn, minlength=4) / len(learn)
        np.testing.assert_allclose(training.test[0], frequency)
        np.testing.assert_allclose(found["v"].trainings[fold].test[0], frequency)
        own = model().trainings[fold].test
        np.testing.assert_array_equal(found["abmil+v"].trainings[fold].test[0], own[0])
        assert not np.allclose(found["abmil+v"].trainings[fold].test[1], own[1])


def test_a_fusion_is_stacked_on_what_nobody_had_learned() -> None:
    """Said again by hand: readers of the other folds, weights of all validation answers of the seed."""
    percent = percentages(LABELS)
    found, he = routes(table(percent))["abmil+v"], model()

    def numbers(names: tuple[str, ...]) -> np.ndarray:
        return np.array([LABELS[name] for name in names])

    readers = [Reader.fit(percent_rows(PLAN.training(k), percent), numbers(PLAN.training(k)), 4) for k in range(4)]
    evidence = [readers[k].evidence(percent_rows(PLAN.folds[k], percent)) for k in range(4)]
    own = [one.val for one in he.trainings]
    pool = Pool.fit(np.concatenate(own), np.concatenate(evidence), np.concatenate([numbers(f) for f in PLAN.folds]))  # type: ignore[arg-type]
    for k in range(4):
        wanted = pool.join(he.trainings[k].test, readers[k].evidence(percent_rows(PLAN.test, percent)))
        np.testing.assert_allclose(found.trainings[k].test, wanted)
    others = [0, 1, 3]
    pools = np.concatenate([own[k] for k in others]), np.concatenate([evidence[k] for k in others])  # type: ignore[misc]
    alone = Pool.fit(*pools, np.concatenate([numbers(PLAN.folds[k]) for k in others]))
    np.testing.assert_allclose(found.trainings[2].val, alone.join(own[2], evidence[2]))  # type: ignore[arg-type]
    assert found.document is not None
    assert found.document["trainings"][2]["pool"] == vars(pool)
    assert found.document["trainings"][2]["run"] == "seed_0/fold_3"


def test_no_route_learns_from_whom_it_is_judged_on() -> None:
    percent = percentages(LABELS)
    before = routes(table(percent))
    swapped = LABELS | {name: 3 - LABELS[name] for name in PLAN.test}
    after = routes(table(percent), swapped)
    for name in before:
        for one, two in zip(before[name].trainings, after[name].trainings, strict=True):
            np.testing.assert_array_equal(one.test, two.test)
    held = PLAN.folds[1]
    after = routes(table(percent), LABELS | {name: 3 - LABELS[name] for name in held})
    for name in ("v_rule", "v"):
        np.testing.assert_array_equal(before[name].trainings[1].val, after[name].trainings[1].val)
    assert not np.allclose(before["v"].trainings[0].test, after["v"].trainings[0].test)  # who trains does count


@pytest.mark.parametrize(("signal", "informed"), [(0, False), (1, False), (1, True)])
def test_what_nobody_knows_is_not_found_and_what_each_knows_adds_up(signal: float, informed: bool) -> None:
    areas: dict[str, list[float]] = {"v": [], "m": [], "m+v": []}
    for seed in range(6):
        rng = np.random.default_rng(seed)
        labels = {f"p{number:03d}": number % 4 for number in range(160)}
        plan = make_plan(labels, LEVELS, 5, 0.3, seed)
        source = labels if informed else dict(zip(labels, rng.permutation(list(labels.values())), strict=True))

        def answer(names: tuple[str, ...], rng=rng, labels=labels) -> np.ndarray:  # type: ignore[no-untyped-def]
            raw = rng.normal(size=(len(names), 4))
            raw[np.arange(len(names)), [labels[name] for name in names]] += signal
            return softmax(raw, axis=1)

        held = [(answer(fold), np.array([labels[name] for name in fold])) for fold in plan.folds]
        he = HeModel("H&E", "m", [Training(k + 1, 0, answer(plan.test), *one) for k, one in enumerate(held)])
        virtual = table(percentages({name: int(label) for name, label in source.items()}, noise=1.2, seed=seed))
        found = virtual_routes({"v": virtual}, {"m": he}, plan, labels, HER2, 0)[0]
        wanted = [labels[name] for name in plan.test]
        for name, trainings in [("m", he.trainings), *((one.name, one.trainings) for one in found[1:])]:
            areas[name] += [roc_auc_score(wanted, one.test, multi_class="ovr") for one in trainings]
    area = {name: float(np.mean(values)) for name, values in areas.items()}
    if not informed:
        assert area["v"] == pytest.approx(0.5, abs=0.06)
        assert area["m+v"] == pytest.approx(area["m"], abs=0.03)
    else:
        assert area["m+v"] > max(area["m"], area["v"]) + 0.02


def test_patients_that_the_stainer_knows_are_refused_or_left_out() -> None:
    percent = percentages(LABELS)
    leaked = table(percent, trained_on=frozenset([PLAN.test[3], PLAN.folds[0][0]]))
    with pytest.raises(RestainError, match=f"trained on 1 of the test patients \\({PLAN.test[3]}\\)"):
        check_virtual({"v": leaked}, PLAN, LABELS, 4)
    seen = frozenset(PLAN.folds[0][:3] + PLAN.folds[2][:1])
    (warning,) = check_virtual({"v": table(percent, trained_on=seen)}, PLAN, LABELS, 4)
    assert "trained on 4 patients of the folds" in warning
    other = percent | dict.fromkeys(seen, (0.0, 0.0, 0.0, 100.0))
    found = [routes(table(values, trained_on=seen)) for values in (percent, other)]
    for name in found[0]:
        for one, two in zip(found[0][name].trainings, found[1][name].trainings, strict=True):
            np.testing.assert_array_equal(one.test, two.test)
            np.testing.assert_array_equal(one.val, two.val)
    assert len(found[0]["abmil+v"].trainings[0].val) == len(PLAN.folds[0]) - 3  # type: ignore[arg-type]
    everyone = table(percent, trained_on=frozenset(name for fold in PLAN.folds for name in fold))
    with pytest.raises(RestainError, match="fold 1: 0 of 0 patients"):
        check_virtual({"v": everyone}, PLAN, LABELS, 4)


def test_what_a_reader_must_know_is_said() -> None:
    percent = percentages(LABELS)
    (unknown,) = check_virtual({"v": table(percent, trained_on=None)}, PLAN, LABELS, 4)
    assert "not known which patients" in unknown
    chosen = table(percent, selected_on=frozenset(PLAN.test[:1]), doubts=("it may be split anew.",))
    doubt, epoch = check_virtual({"v": chosen}, PLAN, LABELS, 4)
    assert doubt == "v: it may be split anew."
    assert PLAN.test[0] in epoch
    assert check_virtual({"v": table(percent)}, PLAN, LABELS, 4) == []
    blank = percent | {PLAN.test[1]: None}
    (missing,) = check_virtual({"v": table(blank)}, PLAN, LABELS, 4)
    assert f"1 of {len(PLAN.test)} patients (test)" in missing
    lacking = {name: shares for name, shares in percent.items() if name != PLAN.folds[1][2]}
    with pytest.raises(RestainError, match=f"lacks 1 of the patients \\({PLAN.folds[1][2]}\\)"):
        check_virtual({"v": table(lacking)}, PLAN, LABELS, 4)


def test_levels_that_are_no_class_leave_the_rule_out() -> None:
    classes = ClassSet.parse("negative=0|1+,positive=3+")
    labels = {name: int(number == 3) for name, number in LABELS.items()}
    percent = percentages(LABELS)
    halves = [replace(one, test=one.test[:, :2], val=one.val[:, :2]) for one in model().trainings]  # type: ignore[index]
    found, warnings = virtual_routes(
        {"v": table(percent)}, {"m": HeModel("H&E", "m", halves)}, PLAN, labels, classes, 0
    )
    assert [one.name for one in found] == ["v", "m+v"]
    assert "v_rule: not computed" in warnings[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("patient,score,0,1+,2+\na,0,100,0,0\n", "no column 3+"),
        ("patient,score,0,1+,2+,3+\n", "no rows"),
        ("patient,score,0,1+,2+,3+\na,0,100,0,0,0\na,0,100,0,0,0\n", "line 3: patient a is there twice"),
        ("patient,score,0,1+,2+,3+\n,0,100,0,0,0\n", "line 2: has no patient"),
        ("patient,score,0,1+,2+,3+\na,equivocal,100,0,0,0\n", "line 2, patient a: score 'equivocal'"),
        ("patient,score,0,1+,2+,3+\na,0,90,0,0,0\n", "do not add up to 100"),
        ("patient,score,0,1+,2+,3+\na,0,nan,0,0,0\n", "do not add up to 100"),
        ("patient,score,0,1+,2+,3+\na,0,110,-10,0,0\n", "do not add up to 100"),
        ("patient,score,0,1+,2+,3+\na,0,100,,0,0\n", "are no numbers"),
    ],
)
def test_tables_that_make_no_sense_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "virtual.csv").write_text(text)
    with pytest.raises(RestainError) as error:
        read_virtual(tmp_path)
    assert said in str(error.value)
    assert "virtual.csv" in str(error.value)


def test_tables_are_read_with_or_without_their_stainer(tmp_path: Path) -> None:
    percent = percentages({"a": 0, "b": 3}) | {"c": None}
    found = read_virtual(write_virtual(tmp_path / "v", percent, ["x"]))
    assert found.trained_on == {"x"}
    assert found.scores["c"] is found.percent["c"] is None
    assert found.percent["b"] == pytest.approx(percent["b"], abs=0.01)
    (tmp_path / "alone.csv").write_text("patient,score,0,1+,2+,3+\na,HER2 2,60,20,20,0\n")
    alone = read_virtual(tmp_path / "alone.csv")
    assert (alone.scores["a"], alone.trained_on) == ("2+", None)
    (tmp_path / "v" / "virtual.json").write_text('{"stainer": {}}')
    with pytest.raises(RestainError, match=r"virtual\.json"):
        read_virtual(tmp_path / "v")


def test_crossval_compares_all_routes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cohort(tmp_path, 48, signal=1.0)
    labels = {f"p{number:03d}": number % 4 for number in range(48)}
    percent = percentages(labels, noise=0.9) | {"p005": None}
    out = tmp_path / "out"
    words = ["--cohort", tmp_path / "cohort.csv", "--features", tmp_path / "he", "--out", out, "--models", "mean_pool"]
    words += ["--folds", "3", "--resamples", "200", "--workers", "1", "--json", "--virtual"]
    words += [f"v={write_virtual(tmp_path / 'v', percent)}", "--set", "training.epochs=4", "training.min_epochs=1"]
    argv = [str(word) for word in words]
    assert her2_crossval.run(argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["models"]) == ["mean_pool", "v_rule", "v", "mean_pool+v"]
    assert found["models"]["v_rule"]["test"]["acc"]["deviation"] < 0.1
    assert {(one["name"], one["against"]) for one in found["gains"]} == {
        ("mean_pool+v", "mean_pool"),
        ("mean_pool+v", "v"),
    }
    gain = {(one["against"], one["score"]): one["difference"] for one in found["gains"]}
    area = {name: one["test"]["weighted_auc"]["mean"] for name, one in found["models"].items()}
    assert gain["mean_pool", "weighted_auc"] == pytest.approx(area["mean_pool+v"] - area["mean_pool"])
    assert any("no score of their virtual IHC (p005)" in line for line in found["warnings"])
    families = {row["family"] for row in read_csv(out / "comparisons.csv")}
    assert families == {"reference", "fusion and its parts"}
    page = (out / "report.html").read_text()
    assert all(text in page for text in ("mean_pool+v", "H&amp;E + stainer", "virtual IHC", "Fusion minus part"))
    document = read_json(out / "mean_pool+v" / "fusion.json")
    assert document["stainer"]["weights"] == "abc"
    assert len(document["trainings"]) == 3
    test = read_json(out / "plan.json")["plan"]["test"]
    write_virtual(tmp_path / "v", percent, [test[0]])
    with pytest.raises(RestainError, match=f"trained on 1 of the test patients \\({test[0]}\\)"):
        her2_crossval.run(argv)
    with pytest.raises(RestainError, match="names must differ"):
        her2_crossval.run([*argv, "--predictions", f"v_rule={tmp_path / 'cohort.csv'}"])
