"""Names that real and generated images share or do not, and folders that results must not be written over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from restain.core.errors import RestainError
from restain.evaluate.folders import NamedFiles, RealFolder
from restain.evaluate.measure import Failure
from restain.evaluate.results import Unpaired


def keep_others(out: Path, inputs: Iterable[Path]) -> None:
    """Refuse a folder for results that is a run's, or one of the inputs.

    Raises:
        RestainError: it is.
    """
    if (out / "run.json").exists():
        raise RestainError(f"{out}: is a run folder, whose files would be overwritten. Choose another --out.")
    if out.resolve() in {folder.resolve() for folder in inputs}:
        raise RestainError(f"{out}: is one of the folders of images that are looked at. Choose another --out.")


def lone_names(reals: RealFolder, fakes: NamedFiles) -> Unpaired:
    """The names that only one of the two folders has; names that several files carry are reported by ``ambiguous``."""
    real, fake = {*reals.images, *reals.ambiguous}, {*fakes.files, *fakes.ambiguous}
    return Unpaired(tuple(sorted(real - fake)), tuple(sorted(fake - real - reals.dropped)))


def ambiguous(reals: RealFolder, found: Mapping[str, NamedFiles]) -> list[Failure]:
    """A failure for each name that several files of one folder carry."""
    failures = [Failure(name, None, reason) for name, reason in reals.ambiguous.items()]
    for method, files in found.items():
        failures += [Failure(name, method, reason) for name, reason in files.ambiguous.items()]
    return failures


def some_in_common(real: Path, fake: Path, reals: RealFolder, fakes: NamedFiles) -> None:
    """Refuse two folders whose images have no name in common.

    Raises:
        RestainError: they have none; both lists are shown.
    """
    if reals.images.keys() & fakes.files.keys():
        return
    lone = lone_names(reals, fakes)
    raise RestainError(
        f"{real} and {fake} have no image name in common.\n"
        f"  real: {some(lone.without_fake)}\n  generated: {some(lone.without_real)}\n"
        "Images are paired by file name without suffix (and without _fake_B, _real_B); rename one side."
    )


def some(names: Sequence[str], separator: str = ", ", shown: int = 10) -> str:
    """The first of ``names`` and how many more there are."""
    more = f"{separator}and {len(names) - shown} more" if len(names) > shown else ""
    return separator.join(names[:shown]) + more if names else "none"
