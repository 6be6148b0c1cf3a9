"""What ``predict`` is given, slides or features of slides, as features of the kind that a model learned from."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restain.core.errors import ItemError, RestainError
from restain.her2.encoders import Encoder, make_encoder
from restain.her2.extract import extract_slide
from restain.her2.features_file import SUFFIXES, UNSAID, FeatureSet, read_features
from restain.her2.slide_set import kind_of
from restain.her2.stain_check import HARDLY, NOT_HE, pink_share
from restain.her2.tiles import COARSEST, NoTilesError, TileOptions
from restain.infer.inputs import Input
from restain.slides import Slide, open_slide, tissue_and_ink

OTHER_SCAN = 1.25
"""um/px of level 0, as features and slide say it, differ by less than this factor: TRIDENT writes 0.25 for all that a
maker calls 40x, which is 0.22 to 0.27."""

LONGEST = 255
"""Bytes of a file's name, at most, on the usual file systems."""
TABLE = "predictions.csv"
"""Of all answers; it lies beside their folders."""


@dataclass(frozen=True)
class Source:
    """One H&E slide of whoever is predicted.

    Attributes:
        path: the slide, or its features (``.h5``).
        slide: the slide of features, to draw on and to stain.
    """

    path: Path
    slide: Path | None = None

    @property
    def name(self) -> str:
        """Of its results."""
        return Input(self.path).name

    @property
    def is_features(self) -> bool:
        """Whether ``path`` is of features."""
        return self.path.suffix.lower() in SUFFIXES

    @property
    def he(self) -> Path | None:
        """The slide itself, where it is known."""
        return self.slide if self.is_features else self.path


@dataclass(frozen=True)
class Reading:
    """How slides are read; features have it in them.

    Attributes:
        mpp: um/px of level 0, in place of what the slide says.
        encoder: that the model's features come from, where it needs a path (``clip:FOLDER``, ``run:RUN``).
        min_tissue: least share of a tile that is tissue, where the run does not say it.
    """

    mpp: float | None = None
    encoder: str | None = None
    min_tissue: float | None = None


@dataclass(frozen=True)
class Given:
    """A slide that is ready to be predicted.

    Attributes:
        source: what it was.
        found: its features, of the model's kind.
        warnings: about it.
    """

    source: Source
    found: FeatureSet
    warnings: tuple[str, ...] = ()


def require_folder_name(patient: str | None) -> None:
    """Refuse a patient whose name cannot be that of a folder beside what else the command writes.

    Raises:
        RestainError: such a name; None, for a slide by itself, is none.
    """
    if patient is None:
        return
    why = None
    if not patient.strip() or patient.startswith(".") or "/" in patient or "\\" in patient:
        why = "give one that does not begin with a dot and has no slashes"
    elif not patient.isprintable():
        why = "give one without line breaks and other characters that cannot be seen"
    elif len(patient.encode()) > LONGEST:
        why = f"is longer than {LONGEST} bytes; give a shorter one"
    elif patient.casefold() == TABLE:
        why = "is a file that is written beside it; give another one"
    if why is not None:
        shown = patient if len(patient) <= 60 else f"{patient[:60]}..."
        raise RestainError(f"--patient {shown!r}: names the folder of the results; {why}.")


def read_sources(
    wanted: Mapping[str, Any], run: Path, sources: Sequence[Source], reading: Reading = Reading()
) -> list[Given]:
    """The features of slides, read or made as the model's were.

    Args:
        wanted: what the run says of its features.
        run: its path, for messages.
        sources: slides and features.
        reading: of slides.

    Raises:
        RestainError: features of another kind than the model's, a slide that is not that of its features, an encoder
            or a least share of tissue that must be named or is another one, a slide without um/px.
        ItemError: no H&E, no tissue, no tile, NaN, or a file that cannot be read.
    """
    return [_read(wanted, run, source, reading) for source in sources]


def _read(wanted: Mapping[str, Any], run: Path, source: Source, reading: Reading) -> Given:
    warnings: list[str] = []
    if source.is_features:
        found = read_features(source.path)
        if source.slide is not None:
            with open_slide(source.slide, reading.mpp) as slide:
                _require_own(slide, source, found)
                warnings += _stain_warnings(slide)
    else:
        options, warnings = _tile_options(wanted, run, reading)
        made = _encoder(wanted, run, reading.encoder)
        with tempfile.TemporaryDirectory() as folder, open_slide(source.path, reading.mpp) as slide:
            mpp = slide.require_mpp()
            if mpp > COARSEST * options.tile_mpp:
                raise ItemError(
                    f"{slide.path}: has {mpp:g} um/px; the model reads tiles of {options.tile_mpp:g} um/px, and cells "
                    "cannot be seen. Give a finer scan."
                )
            warnings += _stain_warnings(slide)
            path = Path(folder) / "features.h5"
            try:
                extract_slide(slide, path, made, options, source.name)
            except NoTilesError as error:
                raise ItemError(error.what) from error  # the tiles are the model's: there is nothing to choose
            found = read_features(path)
    difference = kind_of(found).differs(wanted)
    if difference:
        raise RestainError(
            f"{source.path}: its features are not of the kind that {run} learned from (model and slide: "
            f"{difference}). Make them with the same encoder and tiles."
        )
    return Given(source, found, tuple(warnings))


def _tile_options(wanted: Mapping[str, Any], run: Path, reading: Reading) -> tuple[TileOptions, list[str]]:
    """The run's tiles, and what is not known of them."""
    if not wanted["tile_px"]:
        raise RestainError(
            f"{run}: does not say how large its tiles are, so that a slide cannot be cut. Give the slide's features."
        )
    known, given = wanted.get("min_tissue"), reading.min_tissue
    if known is not None and given is not None and abs(known - given) > 1e-6:
        raise RestainError(f"--min-tissue {given:g}: the tiles of {run} have at least {known:g}. Leave it out.")
    warnings = []
    share = TileOptions().min_tissue if given is None else given
    if known is not None:
        share = float(known)
    elif given is None:
        warnings.append(
            f"the run does not say how much of a tile was tissue at least; {share:g} is taken. If its features were "
            "made with another --min-tissue, give that."
        )
    return TileOptions(float(wanted["mpp"]), int(wanted["tile_px"]), share), warnings


def _encoder(wanted: Mapping[str, Any], run: Path, given: str | None) -> Encoder:
    """The encoder of the run's features.

    Raises:
        RestainError: it must be named, is not known, or is another one.
    """
    name, version = str(wanted["encoder"]), str(wanted["version"] or "")
    if name in ("", UNSAID):
        raise RestainError(
            f"{run}: does not say which encoder its features come from, so that those of a slide cannot be made here. "
            "Give the slide's features (.h5), made as the model's were."
        )
    theirs = f"{name} {version}".strip()
    if given is None and name != "morphometry":
        raise RestainError(
            f"{run}: its features come from encoder {theirs}, whose weights are not in the run. Name it with --encoder "
            "(clip:FOLDER, run:RUN), or give the slide's .h5."
        )
    made = make_encoder(given or name)
    if (made.name, made.version) != (name, version):
        raise RestainError(
            f"{run}: learned from encoder {theirs}, this is {made.name} {made.version}. Take the same weights and "
            "version, or train again."
        )
    return made


def _require_own(slide: Slide, source: Source, found: FeatureSet) -> None:
    """Refuse the slide of somebody else.

    Raises:
        RestainError: another name, another scan, or tiles that lie outside it.
    """
    name = Input(slide.path).name
    theirs = dict.fromkeys([source.name, Input(Path(found.slide)).name, found.slide])
    if name.casefold() not in {one.casefold() for one in theirs}:
        raise RestainError(
            f"--slide {slide.path}: the features in {source.path} are of slide {' or '.join(list(theirs)[:2])}. Give "
            "that slide, or leave --slide out."
        )
    own = found.mpp * found.tile_px / found.tile_level0  # 0: the file does not say the tiles' px
    if slide.mpp and own and not 1 / OTHER_SCAN < slide.mpp / own < OTHER_SCAN:
        raise RestainError(
            f"--slide {slide.path}: has {slide.mpp:g} um/px, but the features in {source.path} are of a slide of "
            f"{own:g}: another scan. Give the slide that they were made of (or its um/px with --mpp)."
        )
    lost = (found.coords < 0) | (found.coords >= slide.size)
    if lost.any():
        x, y = found.coords[int(lost.any(axis=1).argmax())].tolist()
        raise RestainError(
            f"--slide {slide.path}: is {slide.size[0]} x {slide.size[1]} px, but {source.path} has a tile at {x}, {y}. "
            "Give the slide that the features were made of."
        )


def _stain_warnings(slide: Slide) -> list[str]:
    """Doubts whether a slide is an H&E.

    Raises:
        ItemError: it is none.
    """
    if slide.mpp is None:
        return []
    share = pink_share(slide, tissue_and_ink(slide)[0])
    if share is not None and share < NOT_HE:
        raise ItemError(
            f"{slide.path}: does not look like an H&E ({share:.0%} of it is pink); a status is predicted from the H&E. "
            "Score an IHC with `restain her2 score`. Should it be an H&E after all, predict its features "
            "(`restain her2 features`), without --slide."
        )
    if share is not None and share < HARDLY:
        return [f"{slide.path.name} hardly looks like an H&E ({share:.0%} of it is pink): is it one?"]
    return []
