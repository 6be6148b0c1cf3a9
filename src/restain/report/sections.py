"""What a report is made of. All text is plain text: it is escaped where it is printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from restain.report.pictures import Picture


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in text.split("\n\n") if part.strip()]


@dataclass(frozen=True)
class Text:
    """Running text.

    Attributes:
        text: one paragraph, or several with an empty line between them.
    """

    kind: ClassVar[str] = "text"
    text: str

    @property
    def paragraphs(self) -> list[str]:
        """The paragraphs."""
        return _paragraphs(self.text)


@dataclass(frozen=True)
class Note:
    """A remark that must not be overlooked.

    Attributes:
        text: the remark; several paragraphs with an empty line between them.
        warning: whether something went wrong, rather than something to know.
    """

    kind: ClassVar[str] = "note"
    text: str
    warning: bool = False

    @property
    def paragraphs(self) -> list[str]:
        """The paragraphs."""
        return _paragraphs(self.text)


@dataclass(frozen=True)
class Facts:
    """Names with what they stand for (a protocol, versions), one below the other."""

    kind: ClassVar[str] = "facts"
    rows: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        columns: headings; what follows a line break is set small (a unit).
        rows: cells, as they are to be printed; the first ``labels`` of a row are its headings. In the others, what
            follows a line break is set small (an interval).
        caption: what the table shows.
        labels: how many columns at the left are text; all others are numbers, aligned at the right.
        strong: indices of rows to stand out.
    """

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    labels: int = 1
    strong: Sequence[int] = ()


@dataclass(frozen=True)
class Figure:
    """A picture with a caption.

    Attributes:
        picture: the picture.
        caption: what it shows.
        width: largest width on the page in CSS px; None: as wide as the page.
    """

    kind: ClassVar[str] = "figure"
    picture: Picture
    caption: str = ""
    width: int | None = None


@dataclass(frozen=True)
class PictureRow:
    """One row of a picture table.

    Attributes:
        label: what the row is (the image's name).
        detail: more about it, in small print.
        pictures: one for each column; None leaves the cell empty.
    """

    label: str
    detail: str
    pictures: Sequence[Picture | None]


@dataclass(frozen=True)
class PictureTable:
    """Pictures side by side: triptychs (H&E | generated | real), or several methods.

    Attributes:
        columns: headings of the pictures.
        rows: the rows.
        caption: what the table shows.
    """

    kind: ClassVar[str] = "pictures"
    columns: Sequence[str]
    rows: Sequence[PictureRow]
    caption: str = ""


@dataclass(frozen=True)
class Listing:
    """Named items, each with a text (files that failed, with the reason).

    Attributes:
        items: name and text.
        caption: what the list is of.
    """

    kind: ClassVar[str] = "listing"
    items: Sequence[tuple[str, str]]
    caption: str = ""


Block = Text | Note | Facts | Table | Figure | PictureTable | Listing


@dataclass(frozen=True)
class Section:
    """A part of a report under its own heading."""

    title: str
    blocks: Sequence[Block]
