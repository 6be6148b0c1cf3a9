"""``restain her2 pretrain``: PAMA's masked autoencoder on features without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from restain.cli.output import print_json
from restain.cli.parsing import call
from restain.core.errors import RestainError
from restain.core.progress import console, progress_bar
from restain.her2.models.pama_pretraining import Config
from restain.her2.pretrain import ENCODER, PretrainEpoch, pretrain
from restain.her2.slide_set import SlideSet, read_slide_set
from restain.her2.splits import held_out
from restain.her2.train_options import Updates


def command(
    cohort: Path,
    features: Path,
    out: Path,
    model: Config = Config(),  # noqa: B008 (frozen)
    training: Updates = Updates(),  # noqa: B008 (frozen)
    val: float = 0.2,
    json: bool = False,
) -> int:
    """Pretrain PAMA's encoder: hide tiles and reconstruct their features from the others.

    Nothing is learned from labels, which may be missing; patients of split test are left out. `her2 train --init` and
    `her2 crossval --init` take the encoder into pama and ipca of the same width and depth.

    Args:
        cohort: CSV with patient, he, perhaps split, and perhaps her2, of whose values each has the same share held out.
        features: folder with the H&E's features.
        out: the run folder; one of the same settings is resumed.
        model: settings of the autoencoder.
        training: length, optimiser, sampling. All epochs are done; that of the smallest held-out error is kept.
        val: share of the patients held out, where the cohort names none.
        json: print the run's description.
    """
    if not 0 < model.mask_ratio < 1:
        raise RestainError(f"--model.mask-ratio {model.mask_ratio:g}: give a share of the tiles, above 0 and below 1.")
    data = read_slide_set(cohort, features, None, None)
    for warning in data.warnings:
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    split = held_out(data.labels, data.given, val, training.seed)
    _require_hidden(data, split, model.mask_ratio)
    with progress_bar("pretraining", training.epochs) as bar:

        def note(found: PretrainEpoch) -> None:
            bar.advance()
            bar.note(f"held-out error {found.held_out:.4f}, of the mean feature {found.mean_feature:.4f}")

        run = pretrain(data, split["train"], split["val"], model, training, out, note)
    info = run.info
    console.print(
        f"Held-out error {info['held_out']:.4f}; the mean feature's is {info['mean_feature']:.4f}. Encoder: "
        f"{run.checkpoints / ENCODER}",
        markup=False,
        soft_wrap=True,
    )
    if json:
        print_json({"run": str(run.path), **info})
    return 0


def _require_hidden(data: SlideSet, split: Mapping[str, Sequence[str]], ratio: float) -> None:
    """Refuse, before anything is trained, bags of which no tile would be hidden.

    Raises:
        RestainError: how many tiles the largest bag has.
    """
    for part in ("train", "val"):
        most = max(len(data.bag(name)) for name in split[part])
        if round(most * (1 - ratio)) >= most:
            raise RestainError(
                f"--model.mask-ratio {ratio:g}: hides no tile of any {part} patient, the largest of whom has {most} "
                "tiles. Give a larger share, or features of more tiles."
            )


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call(command, "restain her2 pretrain", argv)
