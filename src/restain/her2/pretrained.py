"""Pretrained encoders (``--init``): what they hold, and whose slides they have seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from restain.core.errors import ItemError, RestainError
from restain.core.files import read_json
from restain.her2.base import MODELS, Loaded, SlideModel
from restain.nn.weights import content_hash, read_state_dict

_TASK = "her2-pretraining"
"""Of the runs of ``restain her2 pretrain``; other runs did not learn the file."""


@dataclass(frozen=True)
class Pretrained:
    """Weights that a training may start from.

    Attributes:
        path: of the file.
        tensors: by name.
        digest: hash of the file.
        seen: patients that they were learned from; None where nothing says so.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    digest: str
    seen: frozenset[str] | None

    def take(self, model: SlideModel) -> Loaded:
        """Put the weights into ``model``.

        Raises:
            RestainError: another width or depth than the model's.
        """
        loaded = model.load_pretrained(dict(self.tensors))
        if loaded.other_shape:
            raise RestainError(
                f"{self.path}: is of another size than the model: {'; '.join(loaded.other_shape[:3])}. Take the "
                "encoder of a pretraining with the model's width, depth and heads, and the same features."
            )
        return loaded

    def warnings(self, tested: Iterable[str]) -> list[str]:
        """What a reader must know where patients of ``tested`` were learned from, without labels."""
        if self.seen is None:
            return [f"{self.path}: nothing says whose slides it was pretrained on; test patients may be among them."]
        both = sorted(self.seen & set(tested))
        if not both:
            return []
        listed = ", ".join(both[:5]) + (", ..." if len(both) > 5 else "")
        return [
            f"{self.path}: was pretrained on the H&E (without labels) of {len(both)} test patients ({listed}). Name "
            "the test patients in a column split before pretraining to keep them out."
        ]


def read_pretrained(path: Path) -> Pretrained:
    """Read weights and, of a run of ``restain her2 pretrain``, whose slides they saw.

    Raises:
        ItemError: no such file, or no weights.
    """
    return Pretrained(path, read_state_dict(path), str(content_hash(path)), _seen(path))


def _seen(path: Path) -> frozenset[str] | None:
    """The patients of the pretraining in whose folder of checkpoints ``path`` lies; None where it is of none."""
    run = path.absolute().parent.parent / "run.json"
    try:
        info = read_json(run)
    except ItemError:
        return None
    split = info.get("split") if isinstance(info, dict) and info.get("task") == _TASK else None
    if not isinstance(split, dict) or not all(isinstance(names, list) for names in split.values()):
        return None
    return frozenset(str(name) for names in split.values() for name in names)


def require_encoder_model(method: str) -> None:
    """Refuse a model that has no use for a pretrained encoder.

    Raises:
        RestainError: which models have.
    """
    if not MODELS[method].item.starts_from_encoder:
        able = ", ".join(entry.name for entry in MODELS if entry.item.starts_from_encoder)
        raise RestainError(f"{method} starts from no pretrained encoder; these do: {able}.")
