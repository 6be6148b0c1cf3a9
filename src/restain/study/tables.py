"""The tables of ``study.sqlite``. Who was right can be read in it: it stays with the organiser."""

from __future__ import annotations

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel


class Study(SQLModel, table=True):
    """The study itself: one row.

    Attributes:
        id: stands in the address that readers open.
        title: that readers see.
        levels: what an image can be graded as, in order, as a JSON list.
        asks_origin: whether readers are asked if an image is real or generated.
        salt: of the readers' codes, in hex.
        seed: of the draw and of the orders.
        real: folder of the real images, as it was given.
        fake: folder of the generated images.
        made: when, as ISO 8601 in UTC.
        restain: version that made it.
    """

    id: str = Field(primary_key=True)
    title: str
    levels: str
    asks_origin: bool
    salt: str
    seed: int
    real: str
    fake: str
    made: str
    restain: str


class Pair(SQLModel, table=True):
    """A real image and the one generated for it.

    Attributes:
        number: from 0.
        name: the images' common name.
        level: of the slide; None where unknown.
        patient: None where unknown.
    """

    number: int = Field(primary_key=True)
    name: str = Field(unique=True)
    level: str | None = None
    patient: str | None = None


class Image(SQLModel, table=True):
    """One image.

    Attributes:
        name: of its file in ``images/`` without suffix: random, tells nothing.
        pair: number of its pair.
        real: or generated.
        sha256: of the file.
    """

    __table_args__ = (UniqueConstraint("pair", "real"),)
    name: str = Field(primary_key=True)
    pair: int = Field(foreign_key="pair.number")
    real: bool
    sha256: str


class Reader(SQLModel, table=True):
    """One who reads.

    Attributes:
        number: from 0.
        name: for the organiser.
        code: hash of the code that opens the study to this reader.
    """

    number: int = Field(primary_key=True)
    name: str = Field(unique=True)
    code: str = Field(unique=True)


class Item(SQLModel, table=True):
    """One image in one reader's order.

    Attributes:
        id: random; all that a browser ever hears of an image.
        reader: number of the reader.
        image: name of the image.
        place: in the reader's order, from 0.
    """

    __table_args__ = (UniqueConstraint("reader", "place"), UniqueConstraint("reader", "image"))
    id: str = Field(primary_key=True)
    reader: int = Field(foreign_key="reader.number")
    image: str = Field(foreign_key="image.name")
    place: int


class Answer(SQLModel, table=True):
    """What a reader said of an image. Rows are only ever added; the highest revision counts.

    Attributes:
        number: grows with time.
        reader: number of the reader.
        item: the image in this reader's order.
        revision: 1 for the first answer of this reader to this image.
        grade: one of the study's levels; None where not readable.
        readable: whether the image could be graded.
        origin: ``real`` or ``generated``, or None.
        key: made up by the browser for each answer, so that one sent twice counts once.
        time: when it was stored, in seconds since 1970.
    """

    __table_args__ = (UniqueConstraint("reader", "item", "revision"), UniqueConstraint("reader", "key"))
    number: int | None = Field(default=None, primary_key=True)
    reader: int = Field(foreign_key="reader.number")
    item: str = Field(foreign_key="item.id")
    revision: int
    grade: str | None = None
    readable: bool
    origin: str | None = None
    key: str
    time: float


class Visit(SQLModel, table=True):
    """A browser that gave a reader's code.

    Attributes:
        token: SHA-256 of what the browser shows.
        reader: number of the reader.
        used: when it was last used, in seconds since 1970, to about a quarter of an hour.
    """

    token: str = Field(primary_key=True)
    reader: int = Field(foreign_key="reader.number")
    used: float


TABLES = tuple(
    SQLModel.metadata.tables[name] for name in ("study", "pair", "image", "reader", "item", "answer", "visit")
)
