"""``register``: from two slides to the H&E on the IHC's grid, stage by stage, each kept only where it helps."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from restain import __version__
from restain.core.errors import RestainError
from restain.core.files import remove_stale, write_json
from restain.core.items import fingerprint, lock
from restain.registration.options import RegisterOptions, Registration
from restain.registration.pictures import look
from restain.registration.stages import Job
from restain.slides import open_slide


def register(
    he: str | Path,
    ihc: str | Path,
    out: str | Path,
    he_mpp: float | None = None,
    ihc_mpp: float | None = None,
    landmarks: str | Path | None = None,
    options: RegisterOptions | None = None,
) -> Registration:
    """Align an H&E slide to an IHC slide of a neighbouring section and write it on the IHC's grid.

    Projective (by hand where ``landmarks`` are given), then elastic on the whole slide, then elastic in blocks; a stage
    after which both stains share less information is not kept. Writes ``he_registered.ome.tif``, ``filled.ome.tif``,
    ``transform.json`` (and ``field.npz``), ``quality.json`` and ``overlay.png``; a rejected registration leaves the
    last two. Called again on the same folder it goes on where it stopped.

    Args:
        he: the H&E slide (moving).
        ihc: the IHC slide (fixed).
        out: the folder.
        he_mpp: um/px of the H&E, in place of what the file says.
        ihc_mpp: the same of the IHC.
        landmarks: CSV or JSON of at least four point pairs.
        options: how.

    Returns:
        What became of it; look at its status.

    Raises:
        RestainError: both slides are the same; the landmarks make no sense; ``out`` holds a registration of other
            slides or settings.
        MissingResolutionError: a slide has no um/px.
        NoTissueError: a slide is empty.
        ItemError: a slide cannot be read, or the disk is full.
    """
    out, options = Path(out), options or RegisterOptions()
    he, ihc = Path(he), Path(ihc)
    if he.exists() and ihc.exists() and he.samefile(ihc):
        raise RestainError(f"{he}: given as H&E and as IHC. Give the two slides of a pair.")
    with open_slide(he, he_mpp) as moving, open_slide(ihc, ihc_mpp) as fixed:
        sides = look(moving), look(fixed)
        settings = {
            "he": _stamp(he),
            "ihc": _stamp(ihc),
            "he_mpp": he_mpp,
            "ihc_mpp": ihc_mpp,
            "landmarks": None if landmarks is None else hashlib.sha256(_read(Path(landmarks))).hexdigest()[:16],
            "options": asdict(options),
        }
        key = fingerprint({"settings": settings, "version": __version__})
        with lock(out / ".lock"):
            finished = _finished(out, key)
            if finished is not None:
                return finished
            remove_stale(out)
            job = Job(out, key, *sides, options)
            quality = job.run(None if landmarks is None else Path(landmarks))
            write_json(
                out / "quality.json", {**quality, "settings": settings, "fingerprint": key, "restain": __version__}
            )
            return Registration.load(out)


def _finished(out: Path, key: str) -> Registration | None:
    """The registration in ``out`` if it was made with these settings."""
    path = out / "quality.json"
    if not path.exists():
        foreign = [name for name in ("he_registered.ome.tif", "transform.json") if (out / name).exists()]
        if foreign and not (out / ".state").exists():
            raise RestainError(f"{out}: holds {', '.join(foreign)} of something else. Choose another folder.")
        return None
    found = Registration.load(out)
    if found.quality.get("fingerprint") != key:
        if found.quality.get("status") == "ok":
            raise RestainError(
                f"{out}: holds a registration of other slides, of slides that have changed since, or with other "
                "settings (see quality.json). Choose another folder, or delete it."
            )
        return None
    files = [found.he_registered, found.filled, found.transform] if found.status == "ok" else []
    return found if all(file.exists() for file in files) else None


def _stamp(path: Path) -> list[Any]:
    """Name, size and time of a file: another stamp, another slide."""
    status = path.stat()
    return [path.name, status.st_size, status.st_mtime_ns]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RestainError(f"{path}: the landmarks cannot be read ({error.strerror}).") from error
