"""``restain domain``: nuclei and stained membranes of virtual against real IHC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restain.cli.named import gathered, named_folders
from restain.cli.output import print_json, print_table
from restain.cli.parsing import call
from restain.core.progress import console
from restain.evaluate.domain import analyse_domain
from restain.evaluate.domain_results import Domain
from restain.evaluate.pairing import keep_others
from restain.report.domain import write_domain_report
from restain.stains import Detector, make_detector
from restain.stains.membrane import THRESHOLDS

PRINTED = (0.10, 0.20, 0.30, 0.40, 0.50)


def command(
    real: Path,
    fake: list[str],
    out: Path,
    mpp: float | None = None,
    split: str = "test",
    pairs: Path | None = None,
    detector: Detector = Detector.classical,
    cellpose_model: Path | None = None,
    workers: int | None = None,
    json: bool = False,
) -> int:
    """Compare nuclei and stained membranes of virtual and real IHC, as TDKstain's Fig. 3 does.

    Writes images.csv, nuclei.csv, nuclei_histogram.csv, membranes.csv, domain.json, two figures as PNG and SVG, and
    domain.html. Every difference is real minus generated.

    Args:
        real: folder of the real IHC, or a patch-pair dataset.
        fake: folder of the virtual IHC, or NAME=FOLDER; several, after one --fake or each after its own.
        out: folder of the results.
        mpp: um/px of the images, where no pairs.csv says it; without it, or beyond 0.05 to 2, nuclei are not counted.
        split: split to compare where real is a dataset.
        pairs: a pairs.csv with level, patient and mpp of each image.
        detector: what counts nuclei.
        cellpose_model: model file of Cellpose, for that detector.
        workers: images at a time; as many as cores if not given (1 for Cellpose).
        json: print domain.json.
    """
    fakes = named_folders(fake, "--fake")
    keep_others(out, (real, *fakes.values()))
    if detector is Detector.cellpose:
        workers = 1  # its network is not made for several threads
    domain = analyse_domain(
        real,
        fakes,
        make_detector(detector, cellpose_model),
        mpp=mpp,
        split=split,
        pairs=pairs,
        workers=workers,
    )
    domain.write(out)
    write_domain_report(domain, out)
    for failure in domain.failures:
        method = f" ({failure.method})" if failure.method else ""
        console.print(f"{failure.image}{method}: {failure.reason}", markup=False, soft_wrap=True)
    for note in domain.notes:
        console.print(note, markup=False, soft_wrap=True)
    if json:
        print_json(domain.document())
    else:
        _print(domain)
    console.print(f"Report: {out / 'domain.html'}", markup=False, soft_wrap=True)
    return 1 if domain.failures else 0


def _print(domain: Domain) -> None:
    """A line for each level and method."""
    columns = ["level", "method", "nuclei", *(f"above {threshold:.2f}" for threshold in PRINTED)]
    rows = []
    for level in domain.groups:
        for method in domain.methods:
            count = domain.counts.get((method, level))
            curve = domain.membranes[method, level]
            shares = [curve.estimates[THRESHOLDS.index(threshold)].mean or 0.0 for threshold in PRINTED]
            nuclei = "" if count is None or count.difference.mean is None else f"{count.difference.mean:.1f}"
            rows.append(
                ["all" if level is None else f"level {level}", method, nuclei, *(f"{share:.4f}" for share in shares)]
            )
    title = "Real minus generated: nuclei in an image, share of pixels above thresholds on DAB saturation"
    print_table(title, columns, rows)


def run(argv: Sequence[str]) -> int:
    """The command; ``--fake`` takes several words and may be repeated."""
    return call(command, "restain domain", gathered(argv, ["--fake"]))
