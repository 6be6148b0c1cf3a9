"""Classes of a cohort: what a label in a table means. A label is mapped or refused, never guessed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from restain.core.errors import RestainError

HER2_LEVELS = ("0", "1+", "2+", "3+")
_LEVEL = re.compile(r"(?:(?:her-?2|ihc)[\s:=]*)*([0-3])\s*(\+?)")


def her2_level(text: str) -> str | None:
    """The HER2 level that ``text`` writes: ``2+`` for ``2``, ``2+``, ``HER2 2+``, ``IHC: 2 +``; None for all else."""
    found = _LEVEL.fullmatch(text.strip().casefold())
    if found is None or (found[1] == "0" and found[2]):
        return None
    return "0" if found[1] == "0" else f"{found[1]}+"


@dataclass(frozen=True)
class ClassSet:
    """The classes that models tell apart, in order.

    Attributes:
        names: of the classes.
        meaning: class by label, the labels as ``_plain`` writes them.
    """

    names: tuple[str, ...]
    meaning: Mapping[str, str]

    def __len__(self) -> int:
        """How many classes."""
        return len(self.names)

    @classmethod
    def parse(cls, text: str) -> ClassSet:
        """Classes as ``--classes`` gives them: ``0,1+,2+,3+``, ``negative,positive``, ``low=0|1+,high=2+|3+``.

        Raises:
            RestainError: fewer than two classes, an empty name, or a label that would be of two classes.
        """
        names: list[str] = []
        meaning: dict[str, str] = {}
        for part in text.split(","):
            name, equals, members = (piece.strip() for piece in part.partition("="))
            labels = [label.strip() for label in members.split("|")] if equals else [name]
            if not name or not all(labels) or name in names:
                raise RestainError(f"--classes {text}: {part.strip() or 'an empty name'!r} is no class, or is twice.")
            names.append(name)
            for label in labels:
                if meaning.setdefault(_plain(label), name) != name:
                    raise RestainError(f"--classes {text}: label {label!r} is of two classes.")
        if len(names) < 2:
            raise RestainError(f"--classes {text}: there is nothing to tell apart; give two classes or more.")
        return cls(tuple(names), meaning)

    @classmethod
    def of(cls, labels: Iterable[str]) -> ClassSet:
        """A class for each label as it stands, whatever it says, nothing included: to stratify, never to learn."""
        names = tuple(sorted({_plain(label) for label in labels}))
        return cls(names, {name: name for name in names})

    @property
    def text(self) -> str:
        """The classes as ``parse`` takes them."""
        members = [[label for label, own in self.meaning.items() if own == name] for name in self.names]
        return ",".join(
            name if labels == [_plain(name)] else f"{name}={'|'.join(labels)}"
            for name, labels in zip(self.names, members, strict=True)
        )

    def number(self, label: str | None, where: str) -> int:
        """The number of the class of ``label``.

        Args:
            label: as the table has it.
            where: table, line and patient, for the message.

        Raises:
            RestainError: it is empty, or no label of a class (``equivocal`` could be any).
        """
        name = self.meaning.get(_plain(label or ""))
        if name is None:
            what = f"label {label!r} is none of" if (label or "").strip() else "has no label, but every patient needs"
            what = f"{what} {', '.join(self.names)}" if (label or "").strip() else f"{what} one"
            raise RestainError(
                f"{where}: {what}. Nothing is guessed: write it as one of them, leave the row out, or name other "
                "classes with --classes (such as --classes negative=0|1+,positive=3+)."
            )
        return self.names.index(name)


def _plain(label: str) -> str:
    """A label as it is compared: HER2 levels in one form, others without case and outer spaces."""
    return her2_level(label) or label.strip().casefold()


HER2 = ClassSet.parse(",".join(HER2_LEVELS))
"""The four levels of the ASCO/CAP guideline."""
