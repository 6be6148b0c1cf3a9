"""The cases of the served folder: a patient's slides with what was made of them, joined from many files."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restain.core.errors import ItemError, RestainError
from restain.registration.landmarks import COLUMNS as LANDMARKS
from restain.web.matching import SlideIndex, nearest
from restain.web.outside import own_file, require_small, small_object, text, text_or_none
from restain.web.paths import Root
from restain.web.scan import Found, SlideFile

if TYPE_CHECKING:
    from restain.data.cohort_table import CohortRow

LARGEST_TABLE = 2**22
"""Bytes of a cohort CSV."""
ROWS = 10_000
"""Rows of a cohort CSV: every slide of each is looked for on the disk."""
LARGEST_RECORD = 2**24
COHORT = {"patient", "he"}


@dataclass(frozen=True)
class Stamp:
    """What a file was when it was used."""

    name: str
    bytes: int
    mtime_ns: int

    @staticmethod
    def of(value: Any) -> Stamp:
        """From ``[name, size, time, ...]``.

        Raises:
            ValueError: it is something else.
        """
        if not (isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str)):
            raise ValueError("a file's stamp is not [name, size, time]")
        if not all(type(number) is int for number in value[1:3]):
            raise ValueError("a file's stamp is not [name, size, time]")
        return Stamp(value[0], value[1], value[2])


@dataclass(frozen=True)
class Registered:
    """A registration.

    Attributes:
        quality: its ``quality.json``.
        status: "ok" or "rejected".
        he: the H&E as it was.
        ihc: the IHC as it was.
        mtime_ns: when it was done.
    """

    quality: Path
    status: str
    he: Stamp
    ihc: Stamp
    mtime_ns: int

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.quality.parent


@dataclass(frozen=True)
class Virtual:
    """A virtual IHC."""

    path: Path
    label: str


@dataclass
class Case:
    """A patient's slides, and what was made of them; paths are absolute and served, None where there is none.

    Attributes:
        patient: as the cohort names it.
        name: of its row, usable as a file name.
        level: status; None where unknown.
        lab: laboratory; None where unknown.
        he: the H&E.
        ihc: the IHC.
        he_mpp: um/px that the cohort gives for the H&E.
        ihc_mpp: likewise for the IHC.
        source: the CSV or folder that says so.
        registration: of the two.
        virtual: virtual IHC of the H&E.
    """

    patient: str
    name: str
    level: str | None
    lab: str | None
    he: Path | None
    ihc: Path | None
    he_mpp: float | None
    ihc_mpp: float | None
    source: Path
    registration: Registered | None = None
    virtual: list[Virtual] = field(default_factory=list)

    def to_json(self, root: Root) -> dict[str, Any]:
        """As the contract has it, with names as requests give them."""

        def name(path: Path | None) -> str | None:
            return None if path is None else path.relative_to(root.folder).as_posix()

        done = self.registration if self.registration and self.registration.status == "ok" else None
        files = [done.folder / file if done else None for file in ("transform.json", "he_registered.ome.tif")]
        transform, registered = (file if file and own_file(file) else None for file in files)
        return {
            "patient": text(self.patient),
            "level": text_or_none(self.level),
            "lab": text_or_none(self.lab),
            "he": name(self.he),
            "ihc": name(self.ihc),
            "he_mpp": self.he_mpp,
            "ihc_mpp": self.ihc_mpp,
            "registration": name(transform),
            "registration_status": self.registration.status if self.registration else None,
            "registered_he": name(registered),
            "virtual": [{"path": name(one.path), "label": one.label} for one in self.virtual],
            "from": name(self.source),
        }


def find_cases(found: Found, root: Root) -> tuple[list[Case], list[Path]]:
    """The cases, and the CSVs of landmarks; what cannot be read is added to ``found.problems``.

    Args:
        found: by the walk.
        root: the served folder.
    """
    slides = SlideIndex(found.slides.values())
    cases, landmarks = _tabled(found, root)
    registrations = _registrations(found)
    unused = _join_registrations(cases, registrations, found)
    cases += _untabled(unused, slides)
    _join_virtual(cases, found, slides)
    return cases, landmarks


def header(path: Path) -> set[str]:
    """The columns of a CSV; none where it has no readable header."""
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
            return set(next(csv.reader([stream.readline(2**14)]), []))
    except (OSError, ValueError, csv.Error):
        return set()


def _tabled(found: Found, root: Root) -> tuple[list[Case], list[Path]]:
    """The cases of all cohort CSVs, each slide pair once; and the CSVs that hold landmarks."""
    landmarks: list[Path] = []
    cases: dict[tuple[Path | None, Path | None], Case] = {}
    tables = sorted(found.tables, key=lambda path: (path.name != "cohort.csv", len(path.parts)))
    for path in found.in_time(tables):
        columns = header(path)
        if set(LANDMARKS) <= columns and "cell" not in columns:  # synthetic cells have places on both slides, too
            landmarks.append(path)
        if not columns >= COHORT:
            continue
        try:
            rows = _rows(path)
        except RestainError as error:
            found.problems.append(str(error))
            continue
        except (OSError, ValueError, RuntimeError) as error:  # names that no file can have
            found.problems.append(f"{path}: names slides that cannot be ({error}).")
            continue
        absent: list[Path] = []
        for row in rows:
            case = _case(row, path, found, root, absent)
            if case is None:
                continue
            earlier = cases.setdefault((case.he, case.ihc), case)
            for key in ("level", "lab", "he_mpp", "ihc_mpp"):
                if getattr(earlier, key) is None:
                    setattr(earlier, key, getattr(case, key))
        if absent:
            found.problems.append(
                f"{path}: {len(absent)} of its slides are not in the served folder, such as {absent[0].name}."
            )
    paired = {case.he for case in cases.values() if case.ihc is not None}
    return [case for case in cases.values() if case.ihc is not None or case.he not in paired], sorted(landmarks)


def _rows(path: Path) -> list[CohortRow]:
    """The rows of a cohort CSV of a sane size.

    Raises:
        RestainError: see ``read_cohort``; or it is too large.
    """
    from restain.data.cohort_table import read_cohort  # here: with it comes torch, seconds that no slide waits for

    require_small(path, LARGEST_TABLE)
    content = path.read_bytes()
    if max(content.count(b"\n"), content.count(b"\r")) > ROWS:
        raise ItemError(f"{path}: has more than {ROWS:,} rows. Split it.")
    return read_cohort(path)


def _case(row: CohortRow, table: Path, found: Found, root: Root, absent: list[Path]) -> Case | None:
    """A row's case; None where none of its slides is served."""

    def served(path: Path | None) -> Path | None:
        if path is None:
            return None
        normal = Path(os.path.normpath(path))
        if normal in found.slides:
            return normal
        name = root.relative(path)
        if name is None or not (root.folder / name).is_file():
            absent.append(path)
            return None
        return root.folder / name

    he, ihc = served(row.he), served(row.ihc)
    if he is None and ihc is None:
        return None
    return Case(row.patient, row.name, row.level, row.lab, he, ihc, row.he_mpp, row.ihc_mpp, table)


def read_registered(path: Path) -> Registered | None:
    """What a ``quality.json`` says was registered; None where it is some other program's.

    Raises:
        ItemError: it cannot be read, or does not say.
    """
    quality = small_object(path)
    if not {"status", "settings"} <= quality.keys():
        return None
    try:
        settings, done = quality["settings"], path.stat().st_mtime_ns
        return Registered(path, str(quality["status"]), Stamp.of(settings["he"]), Stamp.of(settings["ihc"]), done)
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise ItemError(f"{path}: does not say which slides were registered. Register them again.") from error


def _registrations(found: Found) -> list[Registered]:
    """All registrations, the best of a pair first: those that succeeded, then the latest."""
    registrations = []
    for path in found.in_time(found.registrations):
        try:
            one = read_registered(path)
        except ItemError as error:
            found.problems.append(str(error))
            continue
        if one is not None:
            registrations.append(one)
    return sorted(registrations, key=lambda one: (one.status != "ok", -one.mtime_ns))


def _join_registrations(cases: list[Case], registrations: Sequence[Registered], found: Found) -> list[Registered]:
    """Give each case its registration; those that are left over."""
    by_pair: dict[tuple[str, int, str, int], list[Registered]] = defaultdict(list)
    for one in registrations:
        by_pair[one.he.name, one.he.bytes, one.ihc.name, one.ihc.bytes].append(one)
    used: set[Path] = set()
    for case in cases:
        he, ihc = (_file(path, found) for path in (case.he, case.ihc))
        if he is None or ihc is None:
            continue
        fitting = by_pair.get((he.path.name, he.bytes, ihc.path.name, ihc.bytes), [])
        used.update(one.quality for one in fitting)
        exact = [one for one in fitting if (one.he.mtime_ns, one.ihc.mtime_ns) == (he.mtime_ns, ihc.mtime_ns)]
        # the best that succeeded, though another be of just these files
        case.registration = min([*exact, *fitting], key=lambda one: one.status != "ok", default=None)
    return [one for one in registrations if one.quality not in used]


def _file(path: Path | None, found: Found) -> SlideFile | None:
    """A slide's file as it is now; also of one that the walk passed over as a patch."""
    if path is None or path in found.slides:
        return None if path is None else found.slides[path]
    try:
        status = path.stat()
    except OSError:
        return None
    return SlideFile(path, status.st_size, status.st_mtime_ns)


def _untabled(registrations: Iterable[Registered], slides: SlideIndex) -> list[Case]:
    """Cases of registrations whose slides are in no cohort."""
    cases: dict[tuple[Path, Path], Case] = {}
    for one in registrations:
        he, ihc = (slides.stamped(stamp.name, stamp.bytes, stamp.mtime_ns, one.folder) for stamp in (one.he, one.ihc))
        if he is None or ihc is None:
            continue
        name, paths = one.folder.name, (he.path, ihc.path)
        cases.setdefault(paths, Case(name, name, None, None, *paths, None, None, one.folder, registration=one))
    return list(cases.values())


def _join_virtual(cases: list[Case], found: Found, slides: SlideIndex) -> None:
    """Give each case the virtual IHC that was made from its H&E."""
    by_he: dict[Path, list[Case]] = defaultdict(list)
    by_name: dict[str, list[SlideFile]] = defaultdict(list)
    for case in cases:
        if case.he is not None:
            by_he[case.he].append(case)
            for name in {case.name, case.patient}:
                by_name[name].append(SlideFile(case.he, 0, 0))
    for made in _made(found):
        alike = slides.titled(made.title) if made.he is None else slides.named(made.he)
        alike = [slide for slide in alike if slide.path in by_he and slide.path != made.path]
        alike = alike or by_name.get(made.title) or by_name.get(made.path.parent.name, [])
        sources = {slide.path for slide in nearest(alike, made.path)}
        if len(sources) > 1:
            found.problems.append(f"{made.path}: several H&E slides have this name; it is shown with none of them.")
            continue
        for case in (case for source in sources for case in by_he[source]):
            case.virtual.append(Virtual(made.path, made.label))


@dataclass(frozen=True)
class _Made:
    """A virtual slide, what it is called, and of which H&E it was made where that is said."""

    path: Path
    label: str
    title: str
    he: str | None


def _made(found: Found) -> Iterator[_Made]:
    """All virtual slides that a ``stain.json`` names."""
    sources = _named_sources(found)
    for record in found.in_time(found.records):
        try:
            document = small_object(record, LARGEST_RECORD)
            suffix = str(document.get("last_call", {}).get("options", {}).get("suffix", ""))
            for name, made in document["outputs"].items():
                path = record.parent / name
                if path in found.slides:
                    title = found.slides[path].title.removesuffix(suffix)
                    label = text(f"virtual IHC, {made['method']} ({record.parent.name})", 120)
                    yield _Made(path, label, title, sources.get(path))
        except ItemError as error:
            found.problems.append(str(error))
        except (AttributeError, KeyError, TypeError):
            found.problems.append(f"{record}: not a record of `restain stain`.")


def _named_sources(found: Found) -> dict[Path, str]:
    """The H&E of each virtual slide that ``her2 virtual`` made."""
    sources: dict[Path, str] = {}
    for path in found.in_time(found.virtual):
        try:
            for one in small_object(path, LARGEST_RECORD)["slides"]:
                for suffix in (".ome.tif", ".png"):
                    sources[path.parent / "virtual" / f"{one['name']}{suffix}"] = str(one["he"])
        except ItemError as error:
            found.problems.append(str(error))
        except (KeyError, TypeError):
            found.problems.append(f"{path}: not what `restain her2 virtual` writes.")
    return sources
