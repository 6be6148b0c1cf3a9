"""Features that other programs wrote (CLAM, TRIDENT), written again with what their files do not say.

Every command then reads them as it reads ours. What a file says is kept; what neither it nor the user says is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from restain import __version__
from restain.core.errors import RestainError
from restain.core.files import remove_stale
from restain.core.items import Outcome, lock, process
from restain.her2.features_file import UNSAID, not_said, read_features, said_in, write_features
from restain.infer.inputs import Input

NOMINAL = 0.02


@dataclass(frozen=True)
class Stated:
    """What the user says of features files that other programs wrote; only what a file does not say is needed.

    Attributes:
        encoder: that made them, in one word.
        version: of the encoder, such as a date or a hash of its weights.
        mpp: um/px at which tiles were cut; of tiles from level 0 the slide's, of others that times the downsample.
        tile_px: side of a tile in px at that um/px, as the encoder or its preprocessing saw it cut.
        tile: side of a tile in px of level 0.
    """

    encoder: str | None = None
    version: str | None = None
    mpp: float | None = None
    tile_px: int | None = None
    tile: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            RestainError: which.
        """
        if self.encoder is not None and not self.encoder.strip():
            raise RestainError("--h5.encoder: name the encoder in one word.")
        for name, value in (("mpp", self.mpp), ("tile-px", self.tile_px), ("tile", self.tile)):
            if value is not None and not 0 < value < float("inf"):
                raise RestainError(f"--h5.{name} {value:g}: give a number above 0.")


def rewrite(inputs: Sequence[Input], out: Path, stated: Stated) -> Outcome:
    """Write the features of every file into ``out/<name>.h5``; those that an earlier call finished are skipped.

    Args:
        inputs: features files.
        out: another folder than theirs.
        stated: what they do not say.

    Returns:
        For each file by name what ``extract`` says of a slide, or why it failed.

    Raises:
        RestainError: a file would be written over itself, or another command writes to ``out``.
    """
    by_name = {item.name: item.path for item in inputs}

    def target(name: str) -> Path:
        return out / f"{name}.h5"

    def work(name: str) -> dict[str, Any]:
        return _rewrite(by_name[name], target(name), stated, name)

    def settings(name: str) -> object:
        source = by_name[name]
        there = source.stat() if source.exists() else None
        file = [str(source.resolve()), there.st_size, there.st_mtime_ns] if there else [str(source)]
        return {"features": file, "stated": asdict(stated), "version": __version__}

    for name, source in by_name.items():
        if source.exists() and target(name).exists() and target(name).samefile(source):
            raise RestainError(f"{source}: would be written over itself; choose another --out.")
    with lock(out / ".restain" / "lock"):
        remove_stale(out)
        return process(list(by_name), work, out / ".restain", settings, "features", lambda name: [target(name)])


def _agree(said: str | float, given: str | float) -> bool:
    """Whether both are the same, numbers within 2 %: a resolution may be nominal in the file, 0.25 for 0.2528."""
    if isinstance(said, str) or isinstance(given, str):
        return said == given
    return abs(said - given) <= NOMINAL * max(said, given)


def _rewrite(source: Path, path: Path, stated: Stated, name: str) -> dict[str, Any]:
    found = read_features(source, stated.mpp, stated.tile, stated.tile_px, stated.encoder)
    given = asdict(stated)
    contradicted = [
        f"{what.replace('_', '-')} {said} and not {given[what]}"
        for what, said in said_in(source).items()
        if said is not None and given[what] is not None and not _agree(said, given[what])
    ]
    if contradicted:
        raise RestainError(f"{source}: says {' and '.join(contradicted)}; leave out what a file says itself.")
    missing = {"--h5.tile-px": not found.tile_px, "--h5.encoder": found.encoder == UNSAID != stated.encoder}
    if any(missing.values()):
        raise RestainError(not_said(source, [option for option, lacks in missing.items() if lacks]))
    found = replace(
        found,
        encoder_version=stated.version or found.encoder_version,
        slide=name,
    )
    write_features(path, found)
    return {
        "features": str(path),
        "source": str(source),
        "tiles": len(found),
        "columns": found.width,
        "mpp": found.mpp,
        "tile_level0": found.tile_level0,
        "encoder": found.encoder,
        "encoder_version": found.encoder_version,
    }
