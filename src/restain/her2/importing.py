"""From an authors' slide model to a run that predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from restain.core.errors import RestainError
from restain.core.files import remove_stale
from restain.core.items import lock
from restain.core.progress import console
from restain.core.runs import RunFolder, checked_mpp
from restain.her2.architecture import (
    ANY,
    Search,
    Sizes,
    class_names,
    fitting_methods,
    needless,
    outline,
    tells_types,
)
from restain.her2.base import SlideModel, build_model
from restain.her2.encoders import ENCODERS, make_encoder
from restain.her2.features_file import UNSAID, read_features
from restain.her2.labels import HER2, ClassSet
from restain.her2.recipes import Recipe
from restain.her2.released import Released, read_released, without_wrapper
from restain.her2.slide_set import FeatureKind, kind_of
from restain.her2.train import Fitted
from restain.her2.train_run import BEST, TASK, save_fitted
from restain.training.architecture import Mismatch, Shapes, mismatches, nearest_methods
from restain.training.run import plain

_SILENT = FeatureKind("", "", 0, 0.0, 0)
"""Nothing is said of the features."""
_SHOWN = 5
"""Tensors that a message names."""


@dataclass(frozen=True)
class Origin:
    """Where the features come from that the network was trained on; no checkpoint says it.

    Attributes:
        example: features of one slide (``.h5``), made the same way.
        encoder: as ``her2 features`` takes it, or a name; in place of what the example says.
        mpp: um/px at which tiles were cut; in place of what the example says.
        tile_px: side of a tile at that um/px; in place of what the example says.
    """

    example: Path | None = None
    encoder: str | None = None
    mpp: float | None = None
    tile_px: int | None = None

    def kind(self, width: int) -> FeatureKind:
        """The kind of the features, ``width`` of which the network reads.

        Raises:
            RestainError: something that neither the example nor an option says, or features of another width.
            ItemError: the example cannot be read.
        """
        checked_mpp(self.mpp, "--mpp")
        if self.tile_px is not None and self.tile_px < 1:
            raise RestainError(f"--tile-px {self.tile_px}: give 1 or more.")
        found = _SILENT if self.example is None else _kind_in(self.example, self.mpp)
        if self.encoder is not None:
            name, version, names = _encoder(self.encoder)
            own = found.width or (len(names) if names else width)
            found = replace(found, encoder=name, version=version, names=names, width=own)
        found = replace(found, mpp=self.mpp or found.mpp, tile_px=self.tile_px or found.tile_px)
        said = {"--encoder": found.encoder, "--mpp": found.mpp, "--tile-px": found.tile_px}
        missing = [option for option, value in said.items() if not value]
        if missing:
            raise RestainError(_unsaid(self.example, missing))
        if found.width != width:
            raise RestainError(
                f"{self.example or f'--encoder {self.encoder}'}: {found.width} features a tile, but the network reads "
                f"{width}. Give features of the encoder that it was trained with."
            )
        return found


def import_model(
    recipe: Recipe, checkpoint: Path, out: Path, origin: Origin, classes: ClassSet | None = None
) -> RunFolder:
    """Make a run of an authors' checkpoint. Nothing is written before everything fits.

    Args:
        recipe: the method with its settings.
        checkpoint: see ``restain.her2.released.read_released``.
        out: the run folder; the same import again changes nothing.
        origin: of the features.
        classes: in the order of the network's outputs; None takes the four HER2 levels for four outputs.

    Returns:
        The run, which ``her2 predict`` takes: no standard of the features, no temperature.

    Raises:
        RestainError: another architecture (with the settings that would fit), a network that is not whole, classes or
            features that are not said or of another number, a run of other settings in ``out``.
        ItemError: a file that cannot be read safely.
    """
    method = recipe.method
    released = read_released(checkpoint, outline(method, Sizes(*ANY, recipe.model)))
    theirs = {name: tuple(tensor.shape) for name, tensor in released.tensors.items()}
    search = Search(method, theirs)
    best = search.best(Sizes(*ANY, recipe.model))
    sizes = replace(best, config=recipe.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)  # of what predicting does not need
        model = _fitting(search, theirs, sizes, best, checkpoint, method)
    classes = _classes(classes, sizes.classes, checkpoint)
    kind = origin.kind(sizes.in_dim)
    unused = _load(model, released)
    info = {
        "task": TASK,
        "method": method,
        "recipe": recipe.name,
        "mpp": kind.mpp,
        "classes": list(classes.names),
        "features": kind.document(),
        "data": None,
        "split": {},
        "seed": recipe.training.seed,
        "imported": {checkpoint.name: released.digest},
    }
    config = {
        "method": method,
        "classes": classes.text,
        "model": plain(recipe.model),
        "training": plain(replace(recipe.training, standardise=False)),
    }
    run = RunFolder(out)
    with lock(out / ".lock"):
        begun = run.start(info, config)
        remove_stale(out)
        if begun and run.info.get("status") == "done" and (run.checkpoints / BEST).is_file():
            console.print(f"{out}: is imported already.", markup=False, soft_wrap=True)
            return run
        save_fitted(run, Fitted(model, None, 1.0, 0, [], torch.device("cpu")))
        run.set_status(status="done", best_epoch=0, epochs=0, temperature=1.0)
    _tell(search, sizes, released, unused, classes, kind)
    return run


def _fitting(search: Search, theirs: Shapes, sizes: Sizes, best: Sizes, checkpoint: Path, method: str) -> SlideModel:
    """The model of ``sizes``, which the checkpoint fits but for what predicting does not need.

    Raises:
        RestainError: it does not fit.
    """
    ours = search.shapes(sizes)
    differ = mismatches(theirs, ours or {})
    lacking = ours is not None and all(one.theirs is None for one in differ) and len(differ) < len(ours)
    if lacking:
        model = build_model(method, sizes.in_dim, sizes.classes, sizes.config)
        spare = needless(model) if differ else set()
        if all(one.key in spare for one in differ):
            if tells_types(model):
                raise RestainError(
                    f"{checkpoint}: this {method} tells types of tiles apart that a classifier of nuclei gave it. "
                    "`restain her2 predict` has none, and its answers would not be this network's."
                )
            return model
    raise RestainError(_message(search, theirs, sizes, best, checkpoint, method))


def _message(search: Search, theirs: Shapes, sizes: Sizes, best: Sizes, checkpoint: Path, method: str) -> str:
    """What does not fit, and which settings or which other method would."""
    differ = mismatches(theirs, search.shapes(sizes) or {})
    lines = [f"{checkpoint}: does not fit {method} as it is set.", _listed(differ)]
    left = mismatches(theirs, search.shapes(best) or {})
    if left and all(one.theirs is None for one in left) and search.cost(best) < search.cost(sizes):
        spare = needless(build_model(method, best.in_dim, best.classes, best.config))
        left = [one for one in left if one.key not in spare]
    if not left:
        return "\n".join([*lines, f"These settings fit; add:\n  --set {_options(sizes.config, best.config)}"])
    lines.append(f"No settings of {method} fit.")
    if best.config != sizes.config and len(left) < len(differ):
        lines += [f"With --set {_options(sizes.config, best.config)} there would still differ:", _listed(left)]
    lacking = {one.key for one in left if one.theirs is None}
    if lacking and class_names(search, best) <= lacking:
        lines.append(
            "It has no classifier. If it is a pretrained encoder, train with it: `restain her2 train "
            f"{method} --init {checkpoint}`."
        )
    if len(lacking) == len(left) and len(lacking) < len(theirs):
        lines.append("It is not whole: predicting needs what it lacks. Save the whole state dict of the model.")
        return "\n".join(lines)
    others = fitting_methods(theirs, method) or [name for name, count in nearest_methods(theirs, "") if not count]
    if others:
        lines.append(f"It fits {', '.join(others)}: `restain import {others[0]}`, if it is one of that.")
    else:
        lines.append("Is it a checkpoint of another method, or of changed code?")
    return "\n".join(lines)


def _listed(differ: Sequence[Mismatch]) -> str:
    """The first mismatches, and how many there are."""
    count = f"{len(differ)} tensors differ" if len(differ) != 1 else "1 tensor differs"
    more = [f"  and {len(differ) - _SHOWN} more"] if len(differ) > _SHOWN else []
    return "\n".join([f"{count}:", *(f"  {one}" for one in differ[:_SHOWN]), *more])


def _options(before: Any, after: Any) -> str:
    """The settings in which ``after`` differs, as ``--set`` takes them."""
    changed = [one.name for one in fields(after) if getattr(before, one.name) != getattr(after, one.name)]
    return " ".join(_setting(after, name) for name in changed)


def _setting(config: Any, name: str) -> str:
    value = getattr(config, name)
    return f"{name}={str(value).lower() if isinstance(value, bool) else plain(value)}"


def _classes(given: ClassSet | None, outputs: int, checkpoint: Path) -> ClassSet:
    """The names of the network's outputs.

    Raises:
        RestainError: another number of names, or none where they are not plain.
    """
    if given is None and outputs != len(HER2):
        raise RestainError(
            f"{checkpoint}: its classifier has {outputs} outputs, and does not say of which classes. Name them in "
            "their order with --classes, such as --classes negative,positive."
        )
    classes = given or HER2
    if len(classes) != outputs:
        raise RestainError(
            f"{checkpoint}: its classifier has {outputs} outputs, but --classes names {len(classes)} classes "
            f"({', '.join(classes.names)}). Name them in the order of the outputs."
        )
    return classes


def _load(model: SlideModel, released: Released) -> list[str]:
    """Give ``model`` the checkpoint's tensors; the names of its own that keep what they have."""
    names = {ours: without_wrapper(theirs) for ours, theirs in model.reference_keys().items()}
    state = model.state_dict()
    taken = {ours: released.tensors[theirs] for ours, theirs in names.items() if theirs in released.tensors}
    model.load_state_dict(state | taken)
    model.eval()
    return [names[ours] for ours, value in state.items() if value.is_floating_point() and ours not in taken]


def _encoder(text: str) -> tuple[str, str, tuple[str, ...] | None]:
    """Name, version and columns of ``clip:FOLDER`` and the like; any other word is a name and no more."""
    if text.partition(":")[0] not in {entry.name for entry in ENCODERS}:
        return text, "", None
    made = make_encoder(text)
    return made.name, made.version, made.names


def _kind_in(path: Path, mpp: float | None) -> FeatureKind:
    """The kind of the features in a file; an encoder or a side in px that it does not say is empty, or 0.

    Raises:
        RestainError: it does not say its um/px, and ``mpp`` does not.
        ItemError: it cannot be read.
    """
    kind = kind_of(read_features(path, mpp, tile=1.0))  # the side in level-0 px belongs to no kind
    return replace(kind, encoder="" if kind.encoder == UNSAID else kind.encoder)


def _unsaid(example: Path | None, missing: Sequence[str]) -> str:
    """What to give, for a message."""
    what = {
        "--encoder": "which encoder made the features (--encoder clip:FOLDER, run:RUN, morphometry, or a name; "
        f"--encoder {UNSAID} takes features whose files do not say it either)",
        "--mpp": "the um/px at which tiles were cut (--mpp)",
        "--tile-px": "the side of a tile in px at that um/px (--tile-px)",
    }
    lines = [f"{example or 'A checkpoint'} does not say:", *(f"  {what[option]}" for option in missing)]
    if example is None:
        lines.append(
            "Give these, or the features of a slide made as those that it was trained on (--features SLIDE.h5)."
        )
    return "\n".join(lines)


def _tell(
    search: Search, sizes: Sizes, released: Released, unused: Sequence[str], classes: ClassSet, kind: FeatureKind
) -> None:
    """On the console: what was loaded, what was not, and what nobody can see in a checkpoint."""
    version = f" {kind.version}" if kind.version else ""
    lines = [
        f"{len(released.tensors)} tensors loaded.",
        f"Classes, in the order of the outputs: {', '.join(classes.names)}.",
        f"Features: {kind.width} of {kind.encoder}{version}, tiles of {kind.tile_px} px at {kind.mpp:g} um/px, as they "
        "are (no standard); probabilities are not calibrated.",
    ]
    if unused:
        lines.append(f"Not in the checkpoint, and not needed to predict: {_some(unused)}.")
    if released.others:
        lines.append(f"Not of the network, left out: {_some(released.others)}.")
    hidden = search.traceless(sizes)
    if hidden:
        values = ", ".join(_setting(sizes.config, name) for name in hidden)
        lines.append(f"Settings that leave no trace in the weights are as set: {values}.")
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
