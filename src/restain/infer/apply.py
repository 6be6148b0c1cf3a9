"""Staining many inputs with one run: each on its own, bad ones named, done ones skipped."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from restain.core.errors import ItemError, RestainError, UnreadableImageError
from restain.core.items import Outcome, lock, process
from restain.core.progress import console
from restain.core.runs import RunFolder, checked_mpp, versions
from restain.infer.inputs import PLAIN, Input
from restain.infer.network import Network, load_stainer
from restain.infer.patches import stain_patch
from restain.infer.record import Origin, write_record
from restain.infer.tiling import Overlap
from restain.infer.whole_slide import require_run_mpp, stain_slide
from restain.nn.devices import Accelerator, Precision
from restain.slides import open_slide, read_image, write_image
from restain.training.loop import weights_file
from restain.training.run import plain

LARGEST_PATCH = 2048
"""Longest side, px, of a plain image that is taken for a patch; a larger one is a slide and needs its um/px."""


@dataclass(frozen=True)
class StainOptions:
    """How a run is applied.

    Attributes:
        tile: on slides, side of the squares that a window contributes, px at the run's um/px; rounded to 512 px of
            the slide, at most 2048 of them.
        overlap: ``discard`` (exact where the receptive field is bounded) or ``blend``; None lets the method decide.
        tissue_only: on slides, stain tissue and leave glass; false stains everything.
        quality: JPEG quality of slides' tiles, 1 to 100.
        tta: average seven views (turned, mirrored) of each image: seven times as slow, smoother, mostly with more PSNR
            and SSIM; it goes on record, and `evaluate` prints it beside the numbers.
        suffix: added to the names of the outputs, such as _fake_B.
        checkpoint: a file in the run's checkpoints; None for the final weights.
        accelerator: auto takes the best there is.
        precision: float32 (full), or mixed.
    """

    tile: int = 512
    overlap: Overlap | None = None
    tissue_only: bool = True
    quality: int = 90
    tta: bool = False
    suffix: str = ""
    checkpoint: str | None = None
    accelerator: Accelerator = Accelerator.auto
    precision: Precision = Precision.full

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be meant."""
        if not 64 <= self.tile <= 2048:
            raise RestainError(f"tile {self.tile}: give 64 to 2048 px.")
        if not 1 <= self.quality <= 100:
            raise RestainError(f"quality {self.quality}: give 1 to 100.")
        if "/" in self.suffix or "\\" in self.suffix:
            raise RestainError(f"suffix {self.suffix!r}: it is part of a file name.")


def stain(
    run: RunFolder, inputs: list[Input], out: Path, options: StainOptions, run_mpp: float | None = None
) -> Outcome:
    """Stain every input into ``out``: patches as PNG, slides as pyramidal OME-TIFF.

    A plain image of at most ``LARGEST_PATCH`` px a side without a um/px is a patch: it is taken as the images that the
    run was trained on were (resized as those were, and back). Everything else is a slide. Inputs that an earlier call
    finished with the same run and options are skipped. ``stain.json`` in ``out`` says what made each output.

    Args:
        run: a stainer's run.
        inputs: what to stain.
        out: a folder.
        options: how.
        run_mpp: um/px of the run's training images, in place of what ``run.json`` says.

    Returns:
        For each input by name: output, kind, um/px; or why it failed.

    Raises:
        RestainError: the run cannot be used, or a slide is to be stained with a run that has no um/px.
    """
    network = Network(load_stainer(run, options.checkpoint), options.accelerator, options.precision, options.tta)
    scale, given = run.scale, checked_mpp(run_mpp, "--run-mpp")
    known = run.mpp if given is None else given / scale  # of what the network sees
    patch_mpp = None if known is None else known * scale
    by_name = {item.name: item for item in inputs}
    patches = {item.name for item in inputs if _is_patch(item)}
    if len(patches) < len(inputs):
        require_run_mpp(known, run.path)
    if patches and patch_mpp is not None:
        console.print(
            f"{len(patches)} plain images without um/px are stained as patches of {patch_mpp:g} um/px, like the images "
            "this run was trained on."
        )

    def target(name: str) -> Path:
        return out / f"{name}{options.suffix}{'.png' if name in patches else '.ome.tif'}"

    def work(name: str) -> dict[str, Any]:
        item = by_name[name]
        if name in patches:
            write_image(target(name), stain_patch(network, read_image(item.path), scale, options.overlap))
            return {"output": str(target(name)), "kind": "patch", "mpp": patch_mpp}
        with open_slide(item.path, item.mpp) as slide:
            result = stain_slide(
                network,
                slide,
                require_run_mpp(known, run.path),
                target(name),
                core=options.tile,
                overlap=options.overlap,
                tissue_only=options.tissue_only,
                quality=options.quality,
            )
        return asdict(result) | {"output": str(result.output), "kind": "slide"}

    file = weights_file(run, options.checkpoint)
    weights = file.stat()
    _keep_inputs(inputs, [target(item.name) for item in inputs])

    def settings(name: str) -> object:
        item = by_name[name]
        if not item.path.exists():
            raise UnreadableImageError(f"{item.path}: no such file.")
        source = item.path.stat()
        return {
            "input": [str(item.path.resolve()), item.mpp, source.st_size, source.st_mtime_ns],
            "run": [str(run.path.resolve()), run.info["method"], run.config.get("stainer"), known, scale],
            "weights": [weights.st_size, weights.st_mtime_ns],
            "options": asdict(options),
        }

    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    origin = Origin(network.views, run.info["method"], str(run.path.resolve()), digest)
    last_call = {"options": plain(options), "scale": scale, "mpp": known, "versions": versions()}
    with lock(out / ".restain" / "lock"):
        names = list(by_name)
        targets = {name: target(name) for name in names}
        write_record(out, last_call, {}, targets.values())  # nothing is claimed of what a killed call leaves
        outcome = process(names, work, out / ".restain", settings, "stain", outputs=lambda name: [target(name)])
        stained = {targets[name]: origin for name in outcome.results}
        write_record(out, last_call, stained, [targets[name] for name in outcome.failures])
    return outcome


def _keep_inputs(inputs: list[Input], targets: list[Path]) -> None:
    """Refuse to write over what is to be read.

    Raises:
        RestainError: a result would replace an input.
    """
    sources = {item.path.resolve() for item in inputs}
    for target in targets:
        if target.resolve() in sources:
            raise RestainError(
                f"{target}: would be overwritten by its own result. Choose another --out, or a --suffix."
            )


def _is_patch(item: Input) -> bool:
    """Whether an input is a plain image of a patch's size without a um/px (an unreadable one fails later, by name)."""
    if item.mpp is not None or item.path.suffix.lower() not in PLAIN:
        return False
    try:
        with open_slide(item.path) as image:
            return image.mpp is None and max(image.size) <= LARGEST_PATCH
    except ItemError:
        return True
