"""The tables of metric_validity.py: each requirement with its numbers, intervals by patient and verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

Records = Sequence[dict[str, Any]]

LEVELS = ("0", "1+", "2+", "3+")
HIGHER_IS_BETTER = {"psnr", "ssim"}
DRAWS = 4000
NEARER = 0.1
"""Membrane classes (mean over the cells) by which two renders' levels must differ for one to be the nearer."""

RATIO_NEARER = 0.005
"""Share of the image that is stained membrane by which two trained stainers' images must differ."""


def report(records: Records, followed: Records = ()) -> None:
    """Print the tables of (a) to (f) for synthetic patients.

    Args:
        records: of each patient.
        followed: patients of benchmarks/levels.py, for (f).
    """
    levels = [LEVELS[record["level"]] for record in records]
    print(f"\n{len(records)} synthetic patients ({', '.join(f'{levels.count(one)} of {one}' for one in LEVELS)})")
    print("One level of error costs (% of light), mean over patients:")
    for low, high in pairwise(LEVELS):
        costs = [record["level cost"][other] for record in records for other in step_to(record, low, high)]
        if costs:
            print(f"  {low + ' for ' + high + ' or back':<20} {np.mean(costs):6.2f}   (least {min(costs):.2f})")
    misalignment(records)
    monotone(records)
    blur(records)
    neighbours(records)
    local(records)
    ranking(records, followed)


def step_to(record: dict[str, Any], low: str, high: str) -> list[str]:
    """The level that was rendered instead of the patient's own, where this is the step from ``low`` to ``high``."""
    own = LEVELS[record["level"]]
    return [other for other in record["steps"] if {own, other} == {low, high}]


def one_level(record: dict[str, Any]) -> float:
    """A patient's cheaper step."""
    return min(record["level cost"][step] for step in record["steps"])


def mean_step(record: dict[str, Any]) -> float:
    """A patient's mean over its steps."""
    return float(np.mean([record["level cost"][step] for step in record["steps"]]))


def ratio(records: Records, above: Callable[[Any], float], below: Callable[[Any], float]) -> tuple[float, float, float]:
    """Ratio of two means over patients, and its interval."""
    pairs = np.array([[above(record), below(record)] for record in records])
    drawn = pairs[np.random.default_rng(0).integers(len(pairs), size=(DRAWS, len(pairs)))].mean(1)
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], (2.5, 97.5))
    return float(pairs[:, 0].mean() / pairs[:, 1].mean()), float(low), float(high)


def verdict(name: str, passed: bool) -> None:
    """A line that says whether a requirement is met."""
    print(f"  ({name}) {'PASS' if passed else 'FALLS SHORT'}")


def misalignment(records: Records) -> None:
    """(a)."""
    print("\n(a) Change by misalignment, in percent of one level (cheaper step; mean of the steps)")
    worst = 0.0
    for kind in ("misaligned", "misaligned off"):
        for name in records[0][kind]:
            change = lambda record, kind=kind, name=name: abs(record[kind][name])  # noqa: E731
            found, low, high = (100 * value for value in ratio(records, change, one_level))
            by_level = [
                100 * ratio(some, change, one_level)[0]
                for level in range(4)
                if (some := [record for record in records if record["level"] == level])
            ]
            mean = 100 * ratio(records, change, mean_step)[0]
            worst = max(worst, found)
            print(
                f"  {name:<42} {found:5.1f} [{low:.1f}, {high:.1f}]; {mean:5.1f}   by level "
                + " ".join(f"{value:.1f}" for value in by_level)
            )
    verdict("a", worst <= 10)


def monotone(records: Records) -> None:
    """(b)."""
    print("\n(b) Strictly monotone, patients")
    good = True
    for record in records:
        values = record["strength"]
        record["weaker"] = [0.0] + [values[name] for name in ("0.85", "0.7", "0.5")]
        record["stronger"] = [0.0] + [values[name] for name in ("1.2", "1.5", "2")]
    rows: dict[str, list[list[float]]] = {
        "DAB x 1, 0.85, 0.7, 0.5": [record["weaker"] for record in records],
        "DAB x 1, 1.2, 1.5, 2": [record["stronger"] for record in records],
        **{
            f"cells wrong ({kind}) 0, 10, 25, 50, 75, 100 %": [[0.0, *record["wrong"][kind]] for record in records]
            for kind in records[0]["wrong"]
        },
    }
    for name, values in rows.items():
        rising = [bool((np.diff(value) > 0).all()) for value in values]
        good &= all(rising)
        means = " ".join(f"{value:.2f}" for value in np.mean(values, 0))
        print(f"  {name:<50} {sum(rising):3d} of {len(rising)}   {means}")
    verdict("b", good)


def blur(records: Records) -> None:
    """(c)."""
    print("\n(c) Value, and rise by a 4x down-up blur (bicubic, bilinear; the least of all patients)")
    names = list(dict.fromkeys(name for record in records for name in record["blur"]))
    good = True
    for name in names:
        values = np.array([record["blur"][name] for record in records if name in record["blur"]])
        rise = values[:, 1:] - values[:, :1]
        good &= bool((rise >= -1e-6).all())
        means = " ".join(f"{mean:+.2f} ({least:+.2f})" for mean, least in zip(rise.mean(0), rise.min(0), strict=True))
        print(f"  {name:<30} {values[:, 0].mean():6.2f}   {means}")
    verdict("c", good)


def neighbours(records: Records) -> None:
    """(d)."""
    print("\n(d) A neighbouring section, 5 um away, in percent of one level")
    found, low, high = (100 * value for value in ratio(records, lambda record: record["near"], one_level))
    mean = 100 * ratio(records, lambda record: record["near"], mean_step)[0]
    print(f"  all {found:.1f} [{low:.1f}, {high:.1f}]; of the mean step {mean:.1f}; by level:")
    for level in range(4):
        if some := [record for record in records if record["level"] == level]:
            one = 100 * ratio(some, lambda record: record["near"], one_level)[0]
            floor = np.mean([record["level cost"][LEVELS[level]] for record in some])
            near = np.mean([record["near"] for record in some])
            print(f"    {LEVELS[level]:<3} {one:5.1f}   value {near:.2f} (same section, other noise: {floor:.2f})")
    verdict("d", found <= 25)


def local(records: Records) -> None:
    """(e)."""
    print(
        "\n(e) The same expression moved by 50 um, in percent of one level; patients with 10 % of stained cells or more"
    )
    some = [record for record in records if record["stained cells"] >= 0.1]
    found, low, high = (100 * value for value in ratio(some, lambda record: record["moved"], one_level))
    times, least_error, most = ratio(some, lambda record: record["moved"], lambda record: record["near"])
    worse = sum(record["moved"] > record["near"] for record in some)
    print(f"  local stain error    {found:5.1f} [{low:.1f}, {high:.1f}]   {times:.1f} [{least_error:.1f}, {most:.1f}] "
          f"times the neighbouring section; worse than it in {worse} of {len(some)}")  # fmt: skip
    found, low, high = (
        100 * value
        for value in ratio(
            some, lambda record: record["histogram"]["moved"], lambda record: record["histogram"]["level"]
        )
    )
    times, least, most = ratio(
        some, lambda record: record["histogram"]["moved"], lambda record: record["histogram"]["near"]
    )
    print(f"  global histogram     {found:5.1f} [{low:.1f}, {high:.1f}]   {times:.1f} [{least:.1f}, {most:.1f}] times")
    same = all(record["moved"] > record["level cost"][LEVELS[record["level"]]] for record in some)
    verdict("e", least_error > 1 and same)


def ranking(patients: Records, followed: Records) -> None:
    """(f)."""
    print(
        "\n(f) Of two virtual stains of a patient, how often that of the nearer level is ranked better; Kendall's tau"
    )
    metrics = [key for key in patients[0]["candidates"][0] if key not in ("kind", "name", "far")]
    groups = {
        "renders": (("render",), NEARER),
        "renders and constant images": (("render", "constant"), NEARER),
        "stainers trained here": (("trained",), RATIO_NEARER),
        "stainers of benchmarks/levels.py": (("levels",), RATIO_NEARER),
    }
    good = True
    for title, (kinds, margin) in groups.items():
        records = followed if kinds == ("levels",) else patients
        tables = [[row for row in record["candidates"] if row["kind"] in kinds] for record in records]
        if not tables or len(tables[0]) < 2:
            print(f"  {title}: fewer than two")
            continue
        agree = {metric: np.array([agreement(rows, metric, margin) for rows in tables]) for metric in metrics}
        there = ~np.isnan(agree[metrics[0]][:, 0])
        print(f"  {title}: {len(tables[0])} a patient, {there.sum()} patients")
        for metric in metrics:
            values = agree[metric][there]
            low, high = bootstrap(values[:, 0])
            line = (
                f"    {metric:<18} {values[:, 0].mean():.3f} [{low:.3f}, {high:.3f}]   tau {values[:, 1].mean():+.3f}"
            )
            if metric != "local_stain_error":
                gain = agree["local_stain_error"][there, 0] - values[:, 0]
                low, high = bootstrap(gain)
                good &= bool(gain.mean() > 0)
                line += f"   local stain error is ahead by {gain.mean():+.3f} [{low:+.3f}, {high:+.3f}]"
            print(line)
        found = across(tables, metrics)
        print("    over all images of all patients, Spearman: "
              + "; ".join(f"{metric} {found[metric][0]:.3f}" for metric in metrics))  # fmt: skip
        for metric in metrics[1:]:
            gain = found["local_stain_error"] - found[metric]
            low, high = np.percentile(gain[1:], (2.5, 97.5))
            good &= bool(low > 0)
            print(f"      ahead of {metric} by {gain[0]:+.3f} [{low:+.3f}, {high:+.3f}]")
    verdict("f", good)


def agreement(rows: Sequence[dict[str, Any]], metric: str, margin: float) -> tuple[float, float]:
    """Share of the pairs, whose levels are unlike, that ``metric`` puts in order (half for a tie); Kendall's tau-b."""
    far = np.array([row["far"] for row in rows])
    value = np.array([row[metric] for row in rows]) * (-1 if metric in HIGHER_IS_BETTER else 1)
    value = np.nan_to_num(value, neginf=-1e9)
    first, second = np.triu_indices(len(rows), 1)
    further, worse = far[first] - far[second], value[first] - value[second]
    told = np.abs(further) > margin
    if not told.any():
        return float("nan"), float("nan")
    right = np.where(worse == 0, 0.5, np.sign(worse) == np.sign(further))[told]
    return float(right.mean()), float(kendalltau(far, value).statistic)


def across(tables: Sequence[Records], metrics: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Spearman's correlation of each metric with farness over the images of all, then of resampled, patients."""
    values = {
        key: np.array([[row[key] * (-1 if key in HIGHER_IS_BETTER else 1) for row in rows] for rows in tables])
        for key in ("far", *metrics)
    }
    everyone = np.arange(len(tables))
    drawn = np.random.default_rng(0).integers(len(tables), size=(1000, len(tables)))
    return {
        metric: np.array(
            [
                spearmanr(values["far"][chosen].ravel(), values[metric][chosen].ravel()).statistic
                for chosen in (everyone, *drawn)
            ]
        )
        for metric in metrics
    }


def bootstrap(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the mean over patients."""
    drawn = values[np.random.default_rng(0).integers(len(values), size=(DRAWS, len(values)))].mean(1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def report_real(images: dict[str, Any] | None) -> None:
    """Print what was measured on real IHC."""
    if images is None:
        print("\nReal IHC: left out, ../shared/data (or --real) has no her2-ihc.")
        return
    print(f"\n{len(images)} real IHC images, 0.46 um/px. No other level is known: DAB halved stands for one level.")
    unit = {name: image["values"]["DAB x 0.5"] for name, image in images.items()}
    worst = {name: max(image["misaligned"]) / unit[name] for name, image in images.items()}
    pooled = np.sum([np.mean(image["misaligned"]) for image in images.values()]) / np.sum(list(unit.values()))
    print(f"  (a) 8 um of shift or deformation: {pooled:.1%} of one level; by image at most: "
          + " ".join(f"{value:.1%}" for value in sorted(worst.values())))  # fmt: skip
    rising = []
    for image in images.values():
        values = [image["strength"][name] for name in ("0.5", "0.7", "0.85")]
        stronger = [image["strength"][name] for name in ("1.2", "1.5", "2")]
        rising.append(values == sorted(values, reverse=True) and stronger == sorted(stronger) and min(values) > 0)
    print(f"  (b) strictly monotone in DAB: {sum(rising)} of {len(rising)}")
    rise = [image["blurred"][name] - value for image in images.values() for name, value in image["values"].items()]
    print(f"  (c) 4x blur makes it worse or leaves it: {sum(value >= -1e-6 for value in rise)} of {len(rise)} fakes")
    print("  (d) left out: no two IHC sections of a patient")
    moved = [image["moved"] / unit[name] for name, image in images.items()]
    flat = [image["histogram"]["moved"] / image["histogram"]["DAB x 0.5"] for image in images.values()]
    print(f"  (e) DAB moved 50 um costs {np.median(moved):.0%} of one level (median; least {min(moved):.0%}); "
          f"global histogram {np.median(flat):.0%} (most {max(flat):.0%})")  # fmt: skip
    for name, image in images.items():
        if "generated" in image["values"]:
            print(f"      {name}: published model's IHC {image['values']['generated']:.2f}, blurred "
                  f"{image['blurred']['generated']:.2f}, halved DAB {unit[name]:.2f}")  # fmt: skip
