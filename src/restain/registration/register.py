"""``register``: from two slides to the H&E on the IHC's grid, stage by stage, each kept only where it helps."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from restain import __version__
from restain.core.errors import RestainError
from restain.core.files import write_json
from restain.core.items import fingerprint, lock
from restain.core.runs import flatten
from restain.registration.options import RegisterOptions, Registration
from restain.registration.pictures import look
from restain.registration.stages import Job
from restain.slides import open_slide

OUTPUTS = (
    "he_registered.ome.tif", "filled.ome.tif", "transform.json", "field.npz", "overlay.png", "quality.json",
)  # fmt: skip


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
            "he_mpp": sides[0].mpp,
            "ihc_mpp": sides[1].mpp,
            "landmarks": None if landmarks is None else hashlib.sha256(_read(Path(landmarks))).hexdigest()[:16],
            "options": asdict(options),
        }
        settings = json.loads(json.dumps(settings))
        key = fingerprint({"settings": settings, "version": __version__})
        inputs = [path.resolve() for path in (he, ihc, Path(landmarks) if landmarks else None) if path is not None]
        ours = [name for name in OUTPUTS if (out / name).resolve() in inputs]
        if ours:
            raise RestainError(f"{out / ours[0]}: is read, and would be overwritten. Choose another --out.")
        with lock(out / ".lock"):
            finished = _finished(out, settings)
            if finished is not None:
                return finished
            for pattern in (*(f".tmp-*-{name}" for name in OUTPUTS), ".state/.tmp-*"):
                for stale in out.glob(pattern):  # what a killed call left; nobody else's files
                    stale.unlink()
            job = Job(out, key, *sides, options)
            quality = job.run(None if landmarks is None else Path(landmarks))
            write_json(out / "quality.json", {**quality, "settings": settings, "restain": __version__})
            return Registration.load(out)


def _finished(out: Path, settings: dict[str, Any]) -> Registration | None:
    """The registration in ``out`` if it was made with these settings.

    Raises:
        RestainError: it was made with others (the difference is shown), or other things lie there.
    """
    if not (out / "quality.json").exists():
        foreign = [name for name in OUTPUTS if (out / name).exists()]
        if foreign and not (out / ".state").exists():
            raise RestainError(f"{out}: holds {', '.join(foreign)} of something else. Choose another folder.")
        return None
    found = Registration.load(out)
    before, now = flatten(found.quality.get("settings", {})), flatten(settings)
    changed = [key for key in now if before.get(key) != now[key]]
    if changed and found.status == "ok":
        lines = "\n".join(f"  {key}: was {before.get(key)!r}, now {now[key]!r}" for key in changed)
        raise RestainError(
            f"{out}: holds a registration of other slides or with other settings; choose another folder, or delete "
            f"it.\n{lines}"
        )
    files = ["overlay.png"]
    if found.status == "ok":
        files += ["he_registered.ome.tif", "filled.ome.tif", "transform.json"]
        files += ["field.npz"] * (found.quality["stage"] != "projective")
    return found if not changed and all((out / name).exists() for name in files) else None


def _stamp(path: Path) -> list[Any]:
    """Name, size and time of a file: another stamp, another slide."""
    status = path.stat()
    return [path.name, status.st_size, status.st_mtime_ns]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RestainError(f"{path}: the landmarks cannot be read ({error.strerror}).") from error
