"""``restain pairs``: from a cohort's slides to a dataset of patch pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restain.cli.output import print_json, print_table
from restain.cli.parsing import call
from restain.core.progress import console
from restain.data import PairsConfig, build_pairs, read_cohort


def command(
    cohort: Path,
    out: Path,
    config: PairsConfig = PairsConfig(),  # noqa: B008 (frozen)
    registered: Path | None = None,
    json: bool = False,
) -> int:
    """Register the slides of a cohort and cut them into patch pairs, by patient into train, val and test.

    Writes {HE,IHC}/{train,val,test}/NNNNN_train_2+.png and pairs.csv, which says where each patch comes from, how it
    scored and why it was dropped: pen, little tissue, filled border, without tumour, out of focus, badly aligned.
    Registrations lie in OUT/registered. Slide pairs that are finished are skipped, one that fails is named at the end
    (exit code 1) and the others go on.

    Args:
        cohort: CSV with columns patient, he, ihc and, where they apply, mpp (or he_mpp, ihc_mpp), her2, lab, tumour
            (QuPath GeoJSON of tumour polygons in level-0 px of the IHC), landmarks (CSV of at least four point pairs,
            x_he, y_he, x_ihc, y_ihc, for slides that do not register by themselves).
        out: folder of the dataset.
        config: how to cut.
        registered: folder of registrations to use and add to, such as another dataset's; default: OUT/registered.
        json: print one JSON document.
    """
    result = build_pairs(read_cohort(cohort), out, config, registered)
    if json:
        print_json(result.to_json())
        return result.exit_code
    kept = sum(result.splits.values())
    kind = "patches" if config.unpaired else "pairs"
    print(f"{result.out}: {kept} {kind} kept, {result.dropped} dropped")
    print_table("Kept, by split", ["split", kind], [[split, count] for split, count in result.splits.items()])
    if result.reasons:
        print_table("Dropped", ["reason", kind], [[reason, count] for reason, count in result.reasons.items()])
    if not kept:
        advice = "every row of the cohort failed, see above."
        if result.dropped:
            advice = f"look at the reasons in {out / 'pairs.csv'}"
            advice += "." if config.aligned or config.unpaired else " and at the registrations' overlay.png."
        console.print(f"no {kind} were kept: {advice}", markup=False, soft_wrap=True)
    return result.exit_code


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call(command, "restain pairs", argv, positional=("cohort",), flat="config")
