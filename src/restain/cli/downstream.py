"""``restain downstream``: does virtual IHC teach a classifier what real IHC shows?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restain.cli.named import gathered, named_folders
from restain.cli.output import print_json, print_table
from restain.cli.parsing import call
from restain.core.progress import console
from restain.evaluate.bootstrap import Estimate
from restain.evaluate.downstream import PROTOCOL, Sources, downstream
from restain.evaluate.downstream_results import STAINING, Downstream
from restain.evaluate.downstream_train import ClassifierOptions
from restain.report.downstream import write_downstream_report


def command(
    test: Path,
    out: Path,
    options: ClassifierOptions,
    train: list[str] = [],  # noqa: B006 (the parser copies it)
    real: Path | None = None,
    he: Path | None = None,
    he_test: Path | None = None,
    external: list[str] = [],  # noqa: B006
    pairs: Path | None = None,
    test_pairs: Path | None = None,
    split: str = "train",
    test_split: str = "test",
    weights: Path | None = None,
    protocol: str = PROTOCOL,
    workers: int | None = None,
    json: bool = False,
) -> int:
    """Train a classifier of the levels on virtual IHC and test it on real IHC, as TDKstain's Table 2 does.

    Writes downstream.csv, downstream.json, predictions.csv, the confusion matrices, downstream.html. The same command
    goes on where it was stopped: finished trainings are kept.

    Args:
        test: folder of real IHC of other patients (or antibodies), with levels in the names or in a pairs.csv.
        out: folder of the results.
        options: how the classifiers are trained.
        train: folder of virtual IHC to train and validate on, or NAME=FOLDER; several, after one --train or each after
            its own; no datasets, which hold none.
        real: folder of real IHC to train on, for the reference.
        he: folder of H&E to train on, for the reference H&E*; with --he-test. Of a dataset, its H&E.
        he_test: folder of H&E to test that on; likewise.
        external: NAME=FOLDER, what the stainer of that --train made of the test set's H&E; adds SSIM, FID, DISTS.
        pairs: a pairs.csv with level and patient of the training images.
        test_pairs: the same of the test images.
        split: split to train on where a folder is a dataset.
        test_split: split to test on where a folder is a dataset.
        weights: folder of network weights (ImageNet's ResNet-50; FID's, DISTS'); torch's cache is looked at too.
        protocol: what the external set is measured with.
        workers: images read at a time; as many as cores if not given.
        json: print downstream.json.
    """
    sources = Sources(
        train=named_folders(train, "--train"),
        test=test,
        real=real,
        he=he,
        he_test=he_test,
        external=named_folders(external, "--external"),
        pairs=pairs,
        test_pairs=test_pairs,
        split=split,
        test_split=test_split,
    )
    result = downstream(sources, out, options, weights=weights, protocol=protocol, workers=workers)
    write_downstream_report(result, out)
    for failure in result.failures:
        where = failure.method or "test set"
        console.print(f"{failure.image} ({where}): {failure.reason}", markup=False, soft_wrap=True)
    for warning in result.warnings:
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    for metric, reason in result.staining.reasons.items():
        console.print(f"{metric}: {reason}", markup=False, soft_wrap=True)
    if json:
        print_json(result.document())
    else:
        _print(result)
    console.print(f"Report: {out / 'downstream.html'}", markup=False, soft_wrap=True)
    return 1 if result.failures else 0


def _print(result: Downstream) -> None:
    """The paper's table."""
    rows = []
    for entry in result.entries:
        own = result.staining.values.get(entry.name, {})
        numbers = [f"{own[name]:.4f}" if name in own else "" for name in STAINING]
        rows.append([entry.name, _text(entry.accuracy), _text(entry.f1), *numbers])
    count = f"{result.options.seeds} training{'' if result.options.seeds == 1 else 's'}"
    title = f"{result.options.network}, mean of {count}; levels {', '.join(result.classes)}"
    print_table(title, ["trained on", "ACC", "macro F1", *STAINING], rows)


def _text(value: Estimate) -> str:
    if value.mean is None:
        return ""
    interval = "" if value.low is None or value.high is None else f" ({value.low:.4f} to {value.high:.4f})"
    return f"{value.mean:.4f}{interval}"


def run(argv: Sequence[str]) -> int:
    """The command; ``--train`` and ``--external`` take several words and may be repeated."""
    return call(command, "restain downstream", gathered(argv, ["--train", "--external"]), flat="options")
