"""``restain dataset check|stats|knowledge``: validate a patch-pair dataset, print its figures, make its maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from restain.cli.output import print_json, print_table, report_failures
from restain.cli.parsing import call
from restain.core.errors import RestainError
from restain.core.progress import console
from restain.data import QualityFilter, QualityReport, check_dataset, check_quality, dataset_stats, make_knowledge
from restain.data.quality import FLAGGED, kind_name
from restain.report import draw_levels
from restain.stains import KnowledgeOptions


def check(
    folder: Path,
    qc: bool = False,
    fraction: float | None = None,
    threshold: float | None = None,
    mpp: float | None = None,
    json: bool = False,
) -> int:
    """Look into every image of a dataset: partners, sizes, readability, levels. Exit code 1 where an item is bad.

    With --qc also judges how good the images are: blur, folds, pen, bubbles, cracks, blank, wrong stain, exposure, each
    from 0 (good) to 1 (bad; from 0.5 on it counts). Writes FOLDER/quality/quality.csv (scores and reasons of each
    pair), contact_sheet.png (the worst, and those at the border: look at it) and quality.json, by which `restain train`
    leaves pairs out (--batches.quality.fraction or --batches.quality.threshold). Images that were judged before and
    have not changed are not measured again. Bad quality does not change the exit code.

    Args:
        folder: the dataset, in any of the layouts that restain reads.
        qc: judge the images' quality.
        fraction: show which pairs training would leave out with this share dropped (the arptidec5 team: about 0.1).
        threshold: show which pairs it would leave out from this score on; default: 0.5.
        mpp: um/px of the images, for datasets that do not say it; without it, focus is judged against the others alone.
        json: print one JSON document.
    """
    if not qc and (fraction, threshold, mpp) != (None, None, None):
        raise RestainError("--fraction, --threshold and --mpp are of use with --qc alone.")
    border = QualityFilter(fraction, FLAGGED if (fraction, threshold) == (None, None) else threshold)
    quality = check_quality(folder, border, mpp) if qc else None  # first: it may refuse the options or the folder
    report = check_dataset(folder)
    if json:
        print_json(report.to_json() | ({} if quality is None else {"quality": quality.to_json()}))
    else:
        for problem in report.problems:
            console.print(f"{problem.severity}: {problem.file}: {problem.message}", markup=False, soft_wrap=True)
        print(f"{report.root}: layout {report.layout}, fingerprint {report.fingerprint}")
        print(f"good pairs: {_counts(report.splits)}; by level: {_counts(report.levels)}; dropped: {report.dropped}")
        print(f"errors: {len(report.errors)}; warnings: {len(report.problems) - len(report.errors)}")
        if quality is not None:
            _print_quality(quality, border)
    return report.exit_code


def _print_quality(quality: QualityReport, border: QualityFilter) -> None:
    asked = f"score {border.threshold:g} and more" if border.fraction is None else f"the worst {border.fraction:.0%}"
    counted = {"pairs": quality.pairs, "images without partner": quality.lone}
    said = " and ".join(f"{count} {what}" for what, count in counted.items() if count) or "no images"
    print(f"quality of {said}: {quality.folder} ({quality.measured} images measured now)")
    print(f"bad, by kind: {_counts({kind_name(kind): count for kind, count in quality.flagged.items() if count})}")
    print(f"{asked}: {_counts(quality.dropped)}; look at {quality.sheet or 'nothing, as nothing was judged'}")
    for kind, why in quality.unjudged.items():
        console.print(f"not judged: {kind_name(kind)}: {why}", markup=False, soft_wrap=True)


def stats(folder: Path, out: Path | None = None, json: bool = False) -> int:
    """Figures of a dataset: pairs by split and level, slides, patients, sizes, mean colours.

    Args:
        folder: the dataset, in any of the layouts that restain reads.
        out: draw slides and patches by level, as the BCI paper's figure 8, to this .png, .svg or .pdf.
        json: print one JSON document.
    """
    figures = dataset_stats(folder)
    if out is not None:
        draw_levels(figures, out)
        console.print(f"chart: {out}", markup=False, soft_wrap=True)
    if json:
        print_json(figures)
        return 0
    print(
        f"{figures['root']}: layout {figures['layout']}, {figures['pairs']} pairs, {figures['bytes'] / 2**20:.1f} MiB"
    )
    print("um/px: unknown" if figures["mpp"] is None else f"um/px: {figures['mpp']:g}")
    print(f"sizes: {_counts(figures['sizes'])}; dropped: {figures['dropped']}; without partner: {figures['lone']}")
    levels = figures["levels"]
    rows = [
        [name, split["pairs"], split["slides"], split["patients"], *(split["levels"].get(level, 0) for level in levels)]
        for name, split in figures["splits"].items()
    ]
    print_table("Pairs", ["split", "pairs", "slides", "patients", *levels], rows)
    colours = [[s.upper(), *figures[s]["mean"], *figures[s]["std"]] for s in ("he", "ihc") if figures[s]]
    print_table("Colour (0 to 255)", ["", "mean R", "G", "B", "deviation R", "G", "B"], colours)
    return report_failures({row["file"]: row["reason"] for row in figures["unreadable"]})


def knowledge(
    folder: Path,
    options: KnowledgeOptions = KnowledgeOptions(),  # noqa: B008 (frozen)
    mpp: float | None = None,
    workers: int | None = None,
    json: bool = False,
) -> int:
    """Make the maps that tdkstain learns from: each IHC's DAB, its membranes, the density of its nuclei.

    Writes FOLDER/knowledge/{dab,dab_mask,nuclei_map}/{split}/NAME.png, knowledge.json and overview.png, a picture of
    what was found in a few pairs: look at it. Pairs that have maps of these options are skipped, those whose IHC has
    changed are done again; other options begin anew. A pair whose IHC cannot be read is named at the end (exit code 1).

    Args:
        folder: the dataset, in any of the layouts that restain reads.
        options: what to extract.
        mpp: um/px of the images, for datasets that do not say it.
        workers: processes; 0 works in this one; default: one a processor, at most 8. Cellpose always works in this one.
        json: print one JSON document.
    """
    result = make_knowledge(folder, options, mpp, workers)
    if json:
        print_json(result.to_json())
    else:
        kept = result.pairs - result.made
        print(f"{result.folder}: maps of {result.pairs} pairs ({result.made} made now, {kept} before)")
        print(f"nuclei in a pair, by level: {_counts(result.nuclei)}")
        print(f"overview: {result.overview or 'none'}")
    return report_failures(result.failures)


def _counts(counts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


VERBS: dict[str, Callable[..., int]] = {"check": check, "stats": stats, "knowledge": knowledge}
FLAT = {"knowledge": "options"}
"""By verb, the dataclass whose fields are its options."""


def run(argv: Sequence[str]) -> int:
    """The command."""
    if not argv or argv[0] in ("-h", "--help"):
        print(
            "usage: restain dataset check|stats|knowledge FOLDER [--json] ...\n\n"
            "  check      look into every image; with --qc, also judge how good it is\n"
            "  stats      print figures; with --out, draw slides and patches by level\n"
            "  knowledge  make the DAB, membrane and nuclei maps that tdkstain learns from"
        )
        return 0 if argv else 2
    if argv[0] not in VERBS:
        raise RestainError(f"restain dataset has no verb {argv[0]!r}; there are {', '.join(VERBS)}.")
    verb = argv[0]
    return call(VERBS[verb], f"restain dataset {verb}", argv[1:], positional=("folder",), flat=FLAT.get(verb))
