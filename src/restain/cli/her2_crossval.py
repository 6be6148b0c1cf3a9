"""``restain her2 crossval``: cross-validate, test and compare slide models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from restain.cli.named import gathered, named_folders
from restain.cli.output import print_json, print_table, report_failures
from restain.cli.parsing import call
from restain.core.errors import RestainError
from restain.core.progress import console
from restain.her2.crossval import CrossvalOptions, chosen_recipes, crossval
from restain.her2.crossval_results import Crossval
from restain.her2.crossval_scores import Difference
from restain.her2.labels import HER2, ClassSet
from restain.her2.pretrained import read_pretrained
from restain.her2.slide_set import read_slide_set
from restain.her2.status_scores import SCORES
from restain.her2.virtual_table import read_virtual
from restain.report.her2_status import write_crossval_report

LISTS = ("--sweep", "--set", "--predictions", "--virtual")


def command(
    cohort: Path,
    features: Path,
    models: str,
    out: Path,
    options: CrossvalOptions,
    ihc_features: Path | None = None,
    classes: str = HER2.text,
    sweep: list[str] = [],  # noqa: B006 (the parser copies it)
    set: list[str] = [],  # noqa: B006
    against: str | None = None,
    predictions: list[str] = [],  # noqa: B006
    virtual: list[str] = [],  # noqa: B006
    init: Path | None = None,
    skip_missing: bool = False,
    cache_gib: float = 4.0,
    json: bool = False,
) -> int:
    """Cross-validate slide models and compare them, as the IPCA paper does (Tables 1 and 2, Fig. 3).

    7:3 by patient, folds of the 70 % that each validate once, and a final test of each fold's best model on the 30 %.
    Writes summary.csv, scores.csv, comparisons.csv, predictions.csv, roc.csv, confusion.csv, summary.json, report.html
    and a run folder for each training, which `restain her2 predict` takes. The same command goes on where it was
    stopped. To add models later name all of them again: those that are done are taken from --out.

    Args:
        cohort: CSV with patient, he, her2, and ihc where models learn from it; a column split (train, val, test)
            replaces the random final test.
        features: folder with the H&E's features, <slide>.h5 (`restain her2 features`).
        models: recipes or models, such as ipca,abmil,clam_sb.
        out: folder of the results.
        options: how patients are split and how often models are trained.
        ihc_features: folder with the IHC's features, for models that learn from it.
        classes: of the labels, in order; other sets such as negative=0|1+,positive=2+|3+.
        sweep: SETTING=VALUE,VALUE,...: each model that has the setting once with each value (mask_ratio=0,.25,.5,.75).
        set: SETTING=VALUE for all models that have it (training.epochs=20, prompts=64); several after one --set.
        against: model that the others are tested against; the first if not given.
        predictions: NAME=CSV with predictions from elsewhere, compared in the same tables: patient and p_<class>
            columns, or predicted.
        virtual: NAME=OUT of `restain her2 virtual` on the cohort: its level as it is (NAME_rule), its percentages read
            by a regression (NAME), and joined with each model (MODEL+NAME).
        init: pretrained weights (of `restain her2 pretrain`, or the authors') for the models that start from an
            encoder; others start as always.
        skip_missing: leave patients out whose H&E has no features file (each is named) instead of refusing.
        cache_gib: features to keep in memory, GiB.
        json: print summary.json.
    """
    recipes = chosen_recipes([name.strip() for name in models.split(",") if name.strip()], settings(set), sweeps(sweep))
    data = read_slide_set(cohort, features, ihc_features, ClassSet.parse(classes), skip_missing, cache_gib)
    paths = {
        "cohort": str(cohort.resolve()),
        "features": str(features.resolve()),
        "ihc_features": str(ihc_features.resolve()) if ihc_features else None,
    }
    result = crossval(
        data,
        recipes,
        out,
        options,
        paths,
        read_pretrained(init) if init else None,
        named_folders(predictions, "--predictions"),
        against,
        {name: read_virtual(path) for name, path in named_folders(virtual, "--virtual").items()},
    )
    write_crossval_report(result, out)
    for warning in result.warnings:
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    if json:
        print_json(result.document())
    else:
        _print(result)
    console.print(f"Report: {out / 'report.html'}", markup=False, soft_wrap=True)
    return report_failures(result.failures)


def settings(words: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE`` words as values.

    Raises:
        RestainError: a word that is none.
    """
    return {key: _value(value, f"--set {key}") for key, value in (_pair(word, "--set") for word in words)}


def sweeps(words: Sequence[str]) -> dict[str, list[Any]]:
    """``KEY=VALUE,VALUE`` words as lists of values.

    Raises:
        RestainError: a word that is none.
    """
    pairs = (_pair(word, "--sweep") for word in words)
    return {key: [_value(one, f"--sweep {key}") for one in value.split(",") if one.strip()] for key, value in pairs}


def _value(text: str, option: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RestainError(f"{option}={text}: is no value of a setting.") from error


def _pair(word: str, option: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals or not key or not value:
        raise RestainError(f"{option} {word}: write SETTING=VALUE.")
    return key, value


def _print(result: Crossval) -> None:
    """Table 2 of the paper."""
    rows = []
    for entry in result.entries:
        cells = []
        for key in SCORES:
            value, deviation = entry.test[key].mean, entry.test_spread[key].deviation
            text = "-" if value is None else f"{value:.3f}"
            cells.append(text if deviation is None else f"{text} ± {deviation:.3f}")
        rows.append([entry.name, entry.learns, *cells])
    count = len(result.plan.test)
    print_table(f"Final test, {count} patients: mean ± deviation", ["model", "train", *SCORES.values()], rows)
    print_differences(result.differences)
    reference = [(one.name, one.against) for one in result.differences]
    print_differences([one for one in result.gains if (one.name, one.against) not in reference])


def print_differences(tested: Sequence[Difference]) -> None:
    """The paired tests on stderr, one line each."""
    for one in tested:
        if one.difference is not None and one.low is not None and one.high is not None:
            p = "p not computed (too few patients)" if one.p_holm is None else f"p {one.p_holm:.3f} (Holm)"
            console.print(
                f"{one.name} - {one.against}: {SCORES[one.score]} {one.difference:+.3f} ({one.low:+.3f} to "
                f"{one.high:+.3f}), {p}",
                markup=False,
                soft_wrap=True,
            )


def run(argv: Sequence[str]) -> int:
    """The command; those of ``LISTS`` take several words and may be repeated."""
    words = gathered(argv, LISTS)
    return call(command, "restain her2 crossval", words, flat="options")
