"""``restain her2 pretrain``: PAMA's masked autoencoder on features without labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restain.cli.output import print_json
from restain.cli.parsing import call
from restain.core.progress import console, progress_bar
from restain.her2.labels import HER2, ClassSet
from restain.her2.models.pama_pretraining import Config
from restain.her2.pretrain import ENCODER, PretrainEpoch, pretrain
from restain.her2.slide_set import read_slide_set
from restain.her2.train_options import Updates
from restain.her2.train_run import random_split


def command(
    cohort: Path,
    features: Path,
    out: Path,
    model: Config = Config(),  # noqa: B008 (frozen)
    training: Updates = Updates(),  # noqa: B008 (frozen)
    classes: str = HER2.text,
    val: float = 0.2,
    json: bool = False,
) -> int:
    """Pretrain PAMA's encoder: hide tiles and reconstruct their features from the others.

    Labels are not looked at; patients of split test are left out. `her2 train --init` and `her2 crossval --init` take
    the encoder into pama and ipca of the same width and depth.

    Args:
        cohort: CSV with patient, he, her2, and perhaps split.
        features: folder with the H&E's features.
        out: the run folder; one of the same settings is resumed.
        model: settings of the autoencoder.
        training: length, optimiser, sampling. All epochs are done; that of the smallest held-out error is kept.
        classes: of the labels (they stratify who is held out).
        val: share of the patients held out, where the cohort names none.
        json: print the run's description.
    """
    data = read_slide_set(cohort, features, None, ClassSet.parse(classes))
    split = random_split(data, val, training.seed)
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


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call(command, "restain her2 pretrain", argv)
