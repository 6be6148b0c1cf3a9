"""Run folders: what a training leaves, so that it can be resumed, repeated and used.

``run.json`` (task, method, um/px, data fingerprint, seed, versions, status), ``config.yaml`` (complete: training from
it repeats the run), ``metrics.csv``, ``checkpoints/``, ``samples/``.
"""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from restain import __version__
from restain.core.errors import RestainError
from restain.core.files import read_json, write_json, write_text

MISSING = "(absent)"


def versions() -> dict[str, str]:
    """Versions of restain, Python and the libraries that move results."""
    found = {"restain": __version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "scikit-image", "opencv-python-headless"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = MISSING
    return found


@dataclass(frozen=True)
class RunFolder:
    """A run on disk.

    Attributes:
        path: its folder.
    """

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of the weights."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """Folder of the sample pictures."""
        return self.path / "samples"

    @property
    def metrics(self) -> Path:
        """The CSV of losses."""
        return self.path / "metrics.csv"

    @property
    def info(self) -> dict[str, Any]:
        """What ``run.json`` says.

        Raises:
            RestainError: there is no run here.
        """
        file = self.path / "run.json"
        if not file.exists():
            raise RestainError(f"{self.path}: not a run folder (no run.json). Give the folder that `train` wrote.")
        document = read_json(file)
        if not isinstance(document, dict) or "method" not in document:
            raise RestainError(f"{file}: not a run description; it names no method.")
        return document

    @property
    def mpp(self) -> float | None:
        """The um/px that the run was trained at; None where it does not know.

        Raises:
            RestainError: ``run.json`` says something that is no um/px.
        """
        return checked_mpp(self.info.get("mpp"), f"{self.path}/run.json")

    @property
    def scale(self) -> float:
        """Size of what the network saw relative to the training images (their resize); 1 where nothing is said.

        Raises:
            RestainError: ``run.json`` says something that is no such number.
        """
        value = self.info.get("scale", 1.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 1 / 256 <= value <= 256:
            raise RestainError(f"{self.path}/run.json: scale {value!r} is no factor from 1/256 to 256.")
        return float(value)

    @property
    def config(self) -> dict[str, Any]:
        """What ``config.yaml`` says."""
        file = self.path / "config.yaml"
        try:
            document = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise RestainError(f"{file}: not a readable configuration ({error}).") from error
        if not isinstance(document, dict):
            raise RestainError(f"{file}: not a configuration.")
        return document

    def start(self, info: Mapping[str, Any], config: Mapping[str, Any], free: Collection[str] = ()) -> bool:
        """Begin the run, or find that it has begun before.

        Args:
            info: for ``run.json``; ``versions`` and ``status`` are added.
            config: for ``config.yaml``, plain values only.
            free: dotted keys (``config.training.log_every``) that may differ from those of the run.

        Returns:
            Whether the run had begun before with the same settings (then nothing is written).

        Raises:
            RestainError: the folder holds a run of other settings or data (the difference is listed), or other files.
        """
        if (self.path / "run.json").exists():
            self.require_same(info, config, free)
            return True
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        if self.path.is_dir() and any(_foreign(file, text) for file in self.path.iterdir()):
            raise RestainError(f"{self.path}: is not empty and not a run folder. Choose another --out.")
        # run.json comes last: a run without it has not begun.
        write_text(self.path / "config.yaml", text)
        write_json(self.path / "run.json", {**info, "versions": versions(), "status": "running"})
        return False

    def require_same(self, info: Mapping[str, Any], config: Mapping[str, Any], free: Collection[str] = ()) -> None:
        """Refuse a run of other settings or data; see ``start``.

        Raises:
            RestainError: the difference is listed.
        """
        before = flatten({"config": self.config} | {key: self.info.get(key) for key in info})
        now = flatten({"config": dict(config)} | dict(info))
        changed = [
            f"  {key}: was {before.get(key, MISSING)!r}, now {now.get(key, MISSING)!r}"
            for key in sorted(before.keys() | now.keys())
            if key not in free and before.get(key, MISSING) != now.get(key, MISSING)
        ]
        if changed:
            raise RestainError(
                f"{self.path}: holds a run of other settings; choose another --out, or take the settings of that "
                "run.\n" + "\n".join(changed)
            )

    def set_status(self, **fields: Any) -> None:
        """Change fields of ``run.json``, such as ``status="done"``."""
        write_json(self.path / "run.json", self.info | fields)


def _foreign(file: Path, config: str) -> bool:
    """Whether a file is not one that a run with this ``config``, killed at its first moment, leaves."""
    if file.name == "config.yaml" and file.is_file():
        return file.read_bytes() != config.encode()
    return file.name != ".lock" and not file.name.startswith(".tmp-")


def checked_mpp(value: Any, source: str) -> float | None:
    """``value`` as um/px; None stays None.

    Raises:
        RestainError: it is not a number from 0.01 to 1000.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.01 <= value <= 1000:
        raise RestainError(f"{source}: {value!r} is no um/px; give a number such as 0.5.")
    return float(value)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
