"""Splits of a cohort by patient: 7:3, then five folds of the 70 % (Wang 2024, Sec. 3.1), levels in equal shares."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from restain.core.errors import RestainError
from restain.data.split import split_groups

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Plan:
    """Who trains, validates and tests.

    Attributes:
        folds: patients that validate, by fold; the others of all folds train.
        test: patients of the final test.
        given: whether the test patients are those that the cohort names (column ``split``).
        warnings: classes that are missing somewhere, in words.
    """

    folds: tuple[tuple[str, ...], ...]
    test: tuple[str, ...]
    given: bool
    warnings: tuple[str, ...]

    def training(self, fold: int) -> tuple[str, ...]:
        """Patients that train in a fold."""
        return tuple(name for number, own in enumerate(self.folds) if number != fold for name in own)

    def document(self) -> dict[str, object]:
        """The plan as JSON can hold it."""
        return {"folds": [list(fold) for fold in self.folds], "test": list(self.test), "given": self.given}


def make_plan(
    labels: Mapping[str, int],
    classes: Sequence[str],
    folds: int,
    test_share: float,
    seed: int,
    given: Mapping[str, str] | None = None,
) -> Plan:
    """Split patients into test and folds, stratified by class.

    Args:
        labels: class number by patient.
        classes: names of the classes.
        folds: how many, at least 2.
        test_share: share of the patients for the final test.
        seed: the same seed gives the same split, in whatever order the patients come.
        given: split by patient as the cohort names it; ``test`` is the final test, the others make the folds.

    Raises:
        RestainError: too few patients or folds, or a class without any patient to learn from.
    """
    if folds < 2 or not 0 < test_share < 1:
        raise RestainError(f"--folds {folds} --test-share {test_share:g}: give 2 folds or more, a share in (0, 1).")
    names = {name: classes[number] for name, number in labels.items()}
    if given:
        test = sorted(name for name in labels if given[name] == "test")
    else:
        outer = split_groups(names, {"train": 1 - test_share, "test": test_share}, seed)
        test = sorted(name for name, split in outer.items() if split == "test")
    rest = {name: level for name, level in names.items() if name not in set(test)}
    if given and not (test and len(rest) >= folds):
        raise RestainError(
            f"column split: names {len(test)} patients to test and leaves {len(rest)} for {folds} folds. Write test "
            "for the patients of the final test, or leave the column out: they are then drawn by --test-share."
        )
    if len(rest) < folds or not test:
        raise RestainError(
            f"{len(labels)} patients: {len(test)} to test and {len(rest)} for {folds} folds are too few. Give more "
            "patients, or fewer --folds."
        )
    shares = {str(number): 1 / folds for number in range(folds)}
    inner = split_groups(rest, shares, seed + 1)
    parts = tuple(tuple(sorted(name for name in rest if inner[name] == str(number))) for number in range(folds))
    there = [name for name in classes if name in set(names.values())]
    warnings = []
    if nowhere := [name for name in classes if name not in there]:
        warnings.append(
            f"no patient of the cohort is of class {', '.join(nowhere)}: nothing is learned of it, and its curve and "
            "area are left out of the means. Name the classes that there are with --classes."
        )
    for what, patients in [("the final test", test), *((f"fold {n + 1}", part) for n, part in enumerate(parts))]:
        absent = [name for name in there if name not in {names[patient] for patient in patients}]
        why = "column split has it so" if given and patients is test else "there are too few for every part"
        if absent:
            warnings.append(
                f"{what}: no patient of class {', '.join(absent)} ({why}); its curve and area are not defined there "
                "and are left out of the means."
            )
    plan = Plan(parts, tuple(test), bool(given), ())
    for fold in range(folds):
        require_classes([labels[name] for name in plan.training(fold)], classes, f"fold {fold + 1}")
        learned = {names[name] for name in plan.training(fold)}
        unlearned = [name for name in there if name not in learned]
        if unlearned:
            warnings.append(f"fold {fold + 1}: learns nothing of class {', '.join(unlearned)}; no other fold has one.")
        require_disjoint({"train": plan.training(fold), "val": plan.folds[fold], "test": plan.test})
    return replace(plan, warnings=tuple(warnings))


def held_out(
    strata: Mapping[str, int], given: Mapping[str, str] | None, val: float, seed: int
) -> dict[str, tuple[str, ...]]:
    """Train, val and test patients as ``given`` names them; a share to validate by chance where it names none.

    Args:
        strata: by patient; each is divided in the same proportions.
        given: split by patient where the cohort has one.
        val: share of the training patients, in (0, 1).
        seed: of the division.

    Raises:
        RestainError: no share, or nobody to train or to validate.
    """
    if not 0 < val < 1:
        raise RestainError(f"--val {val:g}: give a share of the patients between 0 and 1.")
    split = given or dict.fromkeys(strata, "train")
    parts = {part: tuple(name for name in strata if split[name] == part) for part in SPLITS}
    if not parts["val"]:
        levels = {name: str(strata[name]) for name in parts["train"]}
        chosen = split_groups(levels, {"train": 1 - val, "val": val}, seed)
        parts |= {part: tuple(name for name in parts["train"] if chosen[name] == part) for part in ("train", "val")}
    if not parts["train"] or not parts["val"]:
        raise RestainError(f"{len(strata)} patients are too few to train and validate.")
    return parts


def require_disjoint(parts: Mapping[str, Collection[str]]) -> None:
    """Refuse a patient that is in two parts of a split.

    Raises:
        RestainError: who, and in which.
    """
    owner: dict[str, str] = {}
    both = [
        f"{name} ({owner[name]} and {part})"
        for part, patients in parts.items()
        for name in sorted(set(patients))
        if owner.setdefault(name, part) != part
    ]
    if both:
        shown = ", ".join(both[:5]) + (f" and {len(both) - 5} more" if len(both) > 5 else "")
        raise RestainError(
            f"Patients in two splits: {shown}. Scores would be too good: put all slides of a patient into one split."
        )


def require_classes(labels: Collection[int], classes: Sequence[str], where: str) -> None:
    """Refuse training patients of fewer than two classes.

    Raises:
        RestainError: there is nothing to learn.
    """
    there = sorted(set(labels))
    if len(there) < 2:
        only = classes[there[0]] if there else "none"
        raise RestainError(f"{where}: all patients to train on are of class {only}; two classes or more are needed.")
