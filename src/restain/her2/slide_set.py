"""The patients of a cohort as bags: features of all slides of a patient, whole or drawn at random, never cut.

A patient with several slides is one bag: its slides lie side by side, so far apart that no graph or neighbourhood joins
them. One patient then gives one answer, has one weight in training, and is whole in one split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from restain.core.errors import RestainError
from restain.core.items import fingerprint
from restain.her2.bag import Bag
from restain.her2.cohort_table import Patient, read_patients
from restain.her2.features_file import UNSAID, FeatureSet, not_said, read_features
from restain.her2.labels import ClassSet

TILE_PX = 256
"""Bags give places in px of which a tile has 256 (at 0.5 um/px its own), whatever the slide's level 0."""
APART = 32
"""Tiles between the slides of one patient: 8192 px, twice the longest edge of any graph here."""
GIB = 1 << 30
MPP_TOLERANCE = 0.05


@dataclass(frozen=True)
class FeatureKind:
    """What all features of a cohort have in common; a run keeps it and refuses others.

    Attributes:
        encoder: name of the encoder; ``UNSAID`` where the files do not say.
        version: of the encoder.
        width: columns.
        mpp: um/px at which the tiles were cut.
        tile_px: side of a tile at that um/px.
        names: of the columns, where they have names.
        min_tissue: least share of a tile that is tissue; None where the files do not say.
    """

    encoder: str
    version: str
    width: int
    mpp: float
    tile_px: int
    names: tuple[str, ...] | None = None
    min_tissue: float | None = None

    def document(self) -> dict[str, object]:
        """For ``run.json`` (the names as a hash: there may be hundreds)."""
        names = fingerprint(list(self.names)) if self.names else None
        own: dict[str, object] = {"encoder": self.encoder, "version": self.version, "width": self.width}
        own |= {"mpp": self.mpp, "tile_px": self.tile_px, "names": names}
        return own if self.min_tissue is None else own | {"min_tissue": self.min_tissue}

    def differs(self, other: Mapping[str, object]) -> str | None:
        """What of a ``document`` is not as here, in words, the other first; None where nothing is."""
        own = self.document()
        lines = [
            "names of the columns" if key == "names" else f"{key} {_shown(other.get(key))} and {_shown(own[key])}"
            for key in own
            if not _same(own[key], other.get(key)) and not (key == "min_tissue" and None in (own[key], other.get(key)))
        ]
        return "; ".join(lines) or None

    def differs_but_for_stain(self, other: FeatureKind) -> str | None:
        """As ``differs``, for features of another stain, whose columns may be named after it.

        An encoder with named columns may end its version with a hash of the names, as morphometry's does
        (``1-f283450c`` with eosin, ``1-a2df9e69`` with DAB): that part and the names are not compared.
        """
        own, theirs = (replace(kind, version=kind._version_of_measure, names=None) for kind in (self, other))
        return own.differs(theirs.document())

    @property
    def _version_of_measure(self) -> str:
        digest = hashlib.sha256("\n".join(self.names or ()).encode()).hexdigest()[:8]
        return self.version.removesuffix(f"-{digest}") if self.names else self.version


def _shown(value: object) -> str:
    return "not said" if value in ("", None, UNSAID, 0) else repr(value)


def _same(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float | int):
        return abs(a - b) <= MPP_TOLERANCE * max(abs(a), abs(b))
    return a == b


def kind_of(found: FeatureSet) -> FeatureKind:
    """The kind of the features in one file."""
    return FeatureKind(
        found.encoder, found.encoder_version, found.width, found.mpp, found.tile_px, found.names, found.min_tissue
    )


@dataclass(frozen=True, eq=False)
class SlideSet:
    """Patients with their features.

    Attributes:
        classes: that the labels name.
        patients: by name, in the order of the table.
        kind: of the features.
        digests: hashes of each patient's features of the H&E, and of the IHC.
        warnings: slides that are left out, and what could not be checked, in words.
        cache: bytes of features to keep in memory; what is beyond is read again when it is needed.
    """

    classes: ClassSet
    patients: Mapping[str, Patient]
    kind: FeatureKind
    digests: Mapping[str, tuple[str, str]]
    warnings: tuple[str, ...] = ()
    cache: int = 4 * GIB
    _kept: dict[str, Bag] = field(default_factory=dict, repr=False)

    @property
    def labels(self) -> dict[str, int]:
        """Class number by patient."""
        return {name: patient.label for name, patient in self.patients.items()}

    @property
    def given(self) -> dict[str, str] | None:
        """Split by patient where the table has one."""
        found = {name: patient.split for name, patient in self.patients.items() if patient.split}
        return found or None

    @property
    def has_ihc(self) -> bool:
        """Whether every patient has features of IHC."""
        return all(patient.ihc for patient in self.patients.values())

    def fingerprint(self, names: Iterable[str], ihc: bool) -> str:
        """A hash of the features and labels of ``names``, with or without those of the IHC."""
        kept = 2 if ihc else 1
        return fingerprint([[name, self.patients[name].label, *self.digests[name][:kept]] for name in sorted(names)])

    def bag(self, name: str) -> Bag:
        """The whole bag of a patient, with its IHC where there is one."""
        if name in self._kept:
            return self._kept[name]
        patient = self.patients[name]
        he, ihc = ([read_features(path) for path in paths] for paths in (patient.he, patient.ihc))
        bag = join(he, name, patient.label, ihc)
        if sum(_bytes(kept) for kept in self._kept.values()) + _bytes(bag) <= self.cache:
            self._kept[name] = bag
        return bag


def _bytes(bag: Bag) -> int:
    ihc = 0 if bag.ihc is None else bag.ihc.numel()
    return 4 * (bag.features.numel() + bag.coords.numel() + ihc)


def drawn(bag: Bag, tiles: int | None, rng: np.random.Generator) -> Bag:
    """``tiles`` of the bag's tiles (and of its IHC's) at random, in their order; the whole bag where it has no more."""
    if tiles is None:
        return bag

    def rows(count: int) -> torch.Tensor:
        return torch.from_numpy(np.sort(rng.choice(count, min(tiles, count), replace=False)))

    ihc = bag.ihc if bag.ihc is None or len(bag.ihc) <= tiles else bag.ihc[rows(len(bag.ihc))]
    if len(bag) <= tiles:
        return bag if ihc is bag.ihc else Bag(bag.features, bag.coords, bag.tile, ihc, bag.label, bag.kinds, bag.name)
    chosen = rows(len(bag))
    kinds = None if bag.kinds is None else bag.kinds[chosen]
    return Bag(bag.features[chosen], bag.coords[chosen], bag.tile, ihc, bag.label, kinds, bag.name)


def join(he: Sequence[FeatureSet], name: str, label: int | None = None, ihc: Sequence[FeatureSet] = ()) -> Bag:
    """One bag of the slides of a patient, which lie side by side.

    Args:
        he: at least one slide.
        name: of the patient.
        label: number of the class.
        ihc: the same patient's IHC, for training.
    """
    places: list[NDArray[np.float64]] = []
    left = 0.0
    for found in he:
        own = found.coords / found.tile_level0
        if places:
            own[:, 0] += left - own[:, 0].min()
        left = own[:, 0].max() + 1 + APART
        places.append(own)
    return Bag(
        features=torch.from_numpy(np.concatenate([found.features for found in he])),
        coords=torch.from_numpy((np.concatenate(places) * TILE_PX).astype(np.float32)),
        tile=float(TILE_PX),
        ihc=torch.from_numpy(np.concatenate([found.features for found in ihc])) if ihc else None,
        label=label,
        name=name,
    )


def read_slide_set(
    cohort: Path,
    features: Path,
    ihc_features: Path | None,
    classes: ClassSet | None,
    skip_missing: bool = False,
    cache_gib: float = 4.0,
) -> SlideSet:
    """The patients of a cohort CSV with the features of their slides.

    Args:
        cohort: CSV ``patient,he[,ihc],her2[,split]``; a patient may have several rows.
        features: folder with the features of the H&E slides, called as ``cohort_table`` has it.
        ihc_features: folder with those of the IHC slides, for models that learn from it; None leaves IHC out.
        classes: that the labels name. None, for what learns from no label: labels may be missing or say anything, and
            each that is there is a class.
        skip_missing: leave slides out whose features are missing, and patients without any of the H&E.
        cache_gib: features to keep in memory.

    Raises:
        RestainError: labels that are no class, patients with several labels or splits, a slide of two patients,
            features that are missing or of several encoders, versions, widths, um/px or tiles; each named.
        ItemError: a features file that is damaged, holds NaN or has no tiles.
    """
    if not cache_gib >= 0:
        raise RestainError(f"--cache-gib {cache_gib:g}: give 0 GiB (nothing is kept in memory) or more.")
    patients, classes = read_patients(cohort, features, ihc_features, classes)
    missing = [path for one in patients.values() for path in (*one.he, *one.ihc) if not path.is_file()]
    if missing and not skip_missing:
        listed = "\n  ".join(str(path) for path in missing[:10])
        more = f"\n  and {len(missing) - 10} more" if len(missing) > 10 else ""
        if any(path.parent not in (features, ihc_features) for path in missing):
            more += f"\nSlides of the same file name have their folders' names too; give {cohort} to `her2 features`."
        raise RestainError(
            f"{cohort}: features of {len(missing)} slides are missing; make them with `restain her2 features`, leave "
            f"these rows out, or give --skip-missing:\n  {listed}{more}"
        )
    patients, warnings = _without(patients, set(missing))
    if not patients:
        raise RestainError(f"{cohort}: no patient has features in {features}.")
    stains: tuple[dict[Path, FeatureKind], dict[Path, FeatureKind]] = ({}, {})
    digests = {}
    for patient in patients.values():
        found = (hashlib.blake2b(digest_size=12), hashlib.blake2b(digest_size=12))
        for stain, paths in enumerate((patient.he, patient.ihc)):
            for path in paths:
                slide = read_features(path)
                stains[stain][path] = kind_of(slide)
                _require_same(stains[stain], path)
                found[stain].update(slide.features.tobytes())
                found[stain].update(slide.coords.tobytes())
                found[stain].update(repr(float(slide.tile_level0)).encode())
        digests[patient.name] = (found[0].hexdigest(), found[1].hexdigest())
    he = next(iter(stains[0].items()))
    if stains[1]:
        _require_same_measure(he, next(iter(stains[1].items())))
    if he[1].encoder == UNSAID:
        warnings.append(
            f"{he[0]} and the other files of features do not say their encoder; only the width could be checked, not "
            "that all are of one encoder. `restain her2 features FOLDER --out DIR --h5.encoder NAME` writes it into "
            "them."
        )
    return SlideSet(classes, patients, he[1], digests, tuple(warnings), int(cache_gib * GIB))


def _without(patients: Mapping[str, Patient], missing: set[Path]) -> tuple[dict[str, Patient], list[str]]:
    """The patients without the slides ``missing``, those without any H&E left out; what is gone, in words."""
    kept, warnings = {}, []
    for name, patient in patients.items():
        he, ihc = (tuple(path for path in paths if path not in missing) for paths in (patient.he, patient.ihc))
        gone = len(patient.he) + len(patient.ihc) - len(he) - len(ihc)
        if he:
            kept[name] = replace(patient, he=he, ihc=ihc)
        if gone:
            what = f"{gone} of the slides have no features" if he else "no H&E has features; the patient is left out"
            warnings.append(f"patient {name}: {what}.")
    return kept, warnings


def _require_same(kinds: Mapping[Path, FeatureKind], path: Path) -> None:
    """Refuse a file whose features are of another kind than the first one's, or that does not say the side of a tile.

    Raises:
        RestainError: both files and what differs.
    """
    first = next(iter(kinds))
    difference = kinds[path].differs(kinds[first].document())
    if difference:
        raise RestainError(
            f"{first} and {path}: features of different kinds ({difference}). All slides of a cohort need the same "
            "encoder and tiles: compute those of one kind again."
        )
    if not kinds[path].tile_px:
        raise RestainError(not_said(path, ["--h5.tile-px"]))


def _require_same_measure(he: tuple[Path, FeatureKind], ihc: tuple[Path, FeatureKind]) -> None:
    """Refuse IHC whose features are not those that the H&E's are, but for the stain that columns are named after.

    Raises:
        RestainError: a file of each and what differs.
    """
    difference = ihc[1].differs_but_for_stain(he[1])
    if difference:
        raise RestainError(
            f"{he[0]} and {ihc[0]}: the features of H&E and IHC are of different kinds ({difference}). Models that "
            "learn from IHC need the same encoder and tiles for both: compute those of one stain again."
        )
