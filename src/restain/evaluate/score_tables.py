"""Result tables to rank: folders of ``restain evaluate``, tables of teams, and tables of PSNR and SSIM per image."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from restain.core.errors import ItemError, RestainError
from restain.core.files import read_json
from restain.data.levels import levels_from_names
from restain.evaluate.bootstrap import Estimate
from restain.evaluate.protocol import DEFAULT_PROTOCOL, Interval, load_protocol
from restain.evaluate.score_cells import (
    Line,
    mean_sharpness,
    number,
    one_answer,
    stem,
    table_rows,
    tidy,
    view_count,
    yes_or_no,
)
from restain.evaluate.tables import Table, table

IMAGE_COLUMNS = ("image", "ihc", "ihc_pred", "he")
"""Columns that name an image, the first that is there counts; the last three hold paths in BCIStainer's tables."""
METHOD_COLUMNS = ("method", "team")


@dataclass(frozen=True)
class ProtocolName:
    """The protocol that numbers were made with, as ``summary.json`` says."""

    name: str
    version: int
    hash: str


@dataclass(frozen=True)
class Entry:
    """What one team, or method, is ranked by.

    Attributes:
        team: its name.
        source: the file or folder that says so.
        psnr: mean PSNR in dB; infinite where every image is the real one.
        ssim: mean SSIM.
        valid: False only where a table or the readers say so.
        views: test-time views averaged for each image; None where nothing says.
        protocol: what the numbers were made with; None where nothing says.
        fingerprint: of the real images; None where nothing says.
        images: how many the means are over; 0 where nothing says.
        names: of these images; empty where nothing says, or where the fingerprint does.
        infinite: images whose PSNR is infinite and which its mean leaves out.
        levels: estimates of psnr and ssim by level, in the order of the levels; empty where images are not known.
        overall: estimates of psnr and ssim over all images; empty likewise.
        intervals: how the estimates' intervals were made, in words.
        sharpness: mean sharpness ratio; None where nothing says.
        mixtures: why its values should not have been averaged, one sentence each; empty where nothing speaks against.
    """

    team: str
    source: Path
    psnr: float
    ssim: float
    valid: bool = True
    views: int | None = None
    protocol: ProtocolName | None = None
    fingerprint: str | None = None
    images: int = 0
    names: frozenset[str] = frozenset()
    infinite: int = 0
    levels: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    overall: Mapping[str, Estimate] = field(default_factory=dict)
    intervals: str = ""
    sharpness: float | None = None
    mixtures: tuple[str, ...] = ()

    @property
    def views_text(self) -> str:
        """Test-time views in words."""
        return "not stated" if self.views is None else str(self.views)

    @property
    def protocol_text(self) -> str:
        """The protocol in words."""
        return (
            f"{self.protocol.name} v{self.protocol.version} ({self.protocol.hash})" if self.protocol else "not stated"
        )


def read_entries(results: Sequence[tuple[str | None, Path]]) -> list[Entry]:
    """The entries in several results.

    A result is a folder that ``restain evaluate`` wrote (an entry for each method), a CSV ``team,psnr,ssim`` (also
    ``valid``, ``views``, ``sharpness_ratio``), or a CSV of values per image: ``image`` (or BCIStainer's ``ihc``),
    ``psnr``, ``ssim``, also ``level``, ``patient``, ``method``, and ``valid``, ``views``, ``sharpness_ratio``, of which
    the former two are the same for all images of a method. Where two results have methods of one name, the result's
    own name goes before it.

    Args:
        results: each with the name that the user gives it; None takes the team's or method's, or that of the file.

    Raises:
        RestainError: a result that cannot be read or makes no sense; the file and the line are named.
    """
    groups = []
    for name, path in results:
        try:
            found = _read(path)
        except ItemError as error:
            raise RestainError(str(error)) from error
        if name is not None:
            found = [replace(entry, team=name if len(found) == 1 else f"{name}/{entry.team}") for entry in found]
        groups.append((path, found))
    teams = Counter(entry.team for _, found in groups for entry in found)
    return [
        replace(entry, team=f"{stem(path)}/{entry.team}")
        if teams[entry.team] > 1 and path.is_dir() and stem(path) != entry.team
        else entry
        for path, found in groups
        for entry in found
    ]


def with_views(entries: Sequence[Entry], views: Mapping[str, int]) -> list[Entry]:
    """``entries`` with the test-time ``views`` that the user states by name, for results that do not say.

    Raises:
        RestainError: no entry of that name, less than 1, or the entry says another number.
    """
    by_name = _by_name(entries, views, "--tta")
    for name, stated in views.items():
        if stated < 1:
            raise RestainError(f"--tta {name}={stated}: give how many test-time views were averaged, 1 or more.")
        if (own := by_name[name].views) not in (None, stated):
            raise RestainError(f"--tta {name}={stated}: its results say {own}.")
    return [replace(entry, views=views.get(entry.team, entry.views)) for entry in entries]


def with_verdicts(entries: Sequence[Entry], readers: Path) -> list[Entry]:
    """``entries`` with what readers decided: a CSV ``team,valid``.

    Raises:
        RestainError: it cannot be read, names an entry that there is not or twice, or says neither yes nor no.
    """
    verdicts: dict[str, bool] = {}
    for where, row in table_rows(readers, ["team", "valid"]):
        team = _team(row, where)
        if team in verdicts:
            raise RestainError(f"{where}: {team!r} is there twice. Give one verdict for each team.")
        verdicts[team] = yes_or_no(row["valid"], where)
    _by_name(entries, verdicts, str(readers))
    return [replace(entry, valid=verdicts.get(entry.team, entry.valid)) for entry in entries]


def _by_name(entries: Sequence[Entry], wanted: Mapping[str, object], source: str) -> dict[str, Entry]:
    """Entries by name, all of ``wanted`` among them."""
    found = {entry.team: entry for entry in entries}
    if missing := [name for name in wanted if name not in found]:
        raise RestainError(
            f"{source}: there is no entry {', '.join(map(repr, missing))}; there are {', '.join(found)}."
        )
    return found


def _read(path: Path) -> list[Entry]:
    if path.is_dir():
        if (path / "summary.json").exists():
            return _read_summary(path / "summary.json")
        if (path / "metrics.csv").exists():
            return _read_table(path / "metrics.csv")
        raise RestainError(
            f"{path}: no summary.json in it. Give a folder that `restain evaluate --out` wrote, or a CSV."
        )
    if not path.is_file():
        raise RestainError(f"{path}: no such file or folder. Give results of `restain evaluate`, or a CSV.")
    return _read_summary(path) if path.suffix.lower() == ".json" else _read_table(path)


def _read_summary(path: Path) -> list[Entry]:
    """An entry for each method of a ``summary.json``."""
    document = read_json(path)
    try:
        about = document["protocol"]
        protocol = ProtocolName(str(about["name"]), int(about["version"]), str(about["hash"]))
        methods = dict(document["methods"])
        made = document["interval"]
        intervals = f"{made['confidence']:.0%} bootstrap over {made['units']} {made['resampled']}s"
        mixtures = [str(sentence) for sentence in document.get("mixtures", [])]
        entries = [
            _from_summary(str(name), method, path.parent, protocol, str(document["dataset_fingerprint"]), intervals)
            for name, method in methods.items()
        ]
        return [
            replace(entry, mixtures=_own_sentences(name, methods, mixtures))
            for name, entry in zip(methods, entries, strict=True)
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RestainError(f"{path}: not a summary of `restain evaluate` ({error!r}).") from error


def _own_sentences(name: str, methods: Collection[str], sentences: Sequence[str]) -> tuple[str, ...]:
    """Those that are not about another method: a sentence about one begins with its name."""
    others = tuple(f"{method}: " for method in methods if method != name)
    return tuple(line for line in sentences if line.startswith(f"{name}: ") or not line.startswith(others))


def _from_summary(
    name: str, method: Mapping[str, Any], source: Path, protocol: ProtocolName, fingerprint: str, intervals: str
) -> Entry:
    overall = method["overall"]
    if missing := [metric for metric in ("psnr", "ssim") if metric not in overall]:
        raise RestainError(
            f"{source}: protocol {protocol.name} gave no {' and no '.join(missing)} of {name}; a ranking needs both."
        )
    estimates = {metric: Estimate(**overall[metric]) for metric in ("psnr", "ssim")}
    psnr, ssim = estimates["psnr"], estimates["ssim"]
    if ssim.mean is None or (psnr.mean is None and not psnr.infinite):
        raise RestainError(f"{source}: {name} has no mean PSNR or SSIM.")
    sharpness = overall.get("sharpness_ratio", {}).get("mean")
    return Entry(
        team=tidy(name),
        source=source,
        psnr=math.inf if psnr.mean is None else psnr.mean,
        ssim=ssim.mean,
        views=method["test_time_views"],
        protocol=protocol,
        fingerprint=fingerprint,
        images=ssim.n,
        infinite=psnr.infinite,
        levels={
            level: {metric: Estimate(**values[metric]) for metric in ("psnr", "ssim")}
            for level, values in method["levels"].items()
        },
        overall=estimates,
        intervals=intervals,
        sharpness=None if sharpness is None else float(sharpness),
    )


def _read_table(path: Path) -> list[Entry]:
    """The entries of a CSV: of teams if it has no column that names images."""
    rows = table_rows(path, ["psnr", "ssim"])
    columns = rows[0][1]
    image = next((name for name in IMAGE_COLUMNS if name in columns), None)
    if image is not None:
        return _per_image(path, rows, image)
    if "team" not in columns:
        raise RestainError(
            f"{path}: no column team, nor one that names images ({', '.join(IMAGE_COLUMNS)}); it has "
            f"{', '.join(columns)}."
        )
    return _per_team(path, rows)


def _per_team(path: Path, rows: Sequence[Line]) -> list[Entry]:
    entries: dict[str, Entry] = {}
    for where, row in rows:
        team = _team(row, where)
        if team in entries:
            raise RestainError(f"{where}: team {team!r} is there twice.")
        entries[team] = Entry(
            team=team,
            source=path,
            psnr=number(row, "psnr", where, 0, math.inf),
            ssim=number(row, "ssim", where, -1, 1),
            valid=yes_or_no(row["valid"], where) if "valid" in row else True,
            views=view_count(row.get("views", ""), where),
            sharpness=number(row, "sharpness_ratio", where, 0, math.inf) if row.get("sharpness_ratio") else None,
        )
    return list(entries.values())


def _per_image(path: Path, rows: Sequence[Line], image: str) -> list[Entry]:
    """An entry for each method in a table of images, or one that is called like the file."""
    method = next((name for name in METHOD_COLUMNS if name in rows[0][1]), None)
    groups: dict[str, dict[str, Line]] = {}
    for where, row in rows:
        name, own = stem(row[image]), tidy(row[method]) if method else _called(path)
        if not name or not own:
            raise RestainError(f"{where}: no {method if name else image}.")
        if name in groups.setdefault(own, {}):
            raise RestainError(f"{where}: image {name} is there twice{f' for {own}' if method else ''}.")
        groups[own][name] = (where, row)
    interval = load_protocol(DEFAULT_PROTOCOL).interval
    return [_from_images(own, path, images, interval) for own, images in groups.items()]


def _from_images(team: str, path: Path, images: Mapping[str, Line], interval: Interval) -> Entry:
    values = [
        {"psnr": number(row, "psnr", where, 0, math.inf, infinite=True), "ssim": number(row, "ssim", where, -1, 1)}
        for where, row in images.values()
    ]
    named = levels_from_names(images)
    levels = [row.get("level", "") or named.get(name) for name, (_, row) in images.items()]
    patients = [row.get("patient", "") for _, row in images.values()]
    units, unit = (patients, "patient") if all(patients) else (list(images), "image")
    found: Table = table(values, levels, units, interval)
    psnr, ssim = found.overall["psnr"], found.overall["ssim"]
    assert ssim.mean is not None  # every value is a number
    return Entry(
        team=team,
        source=path,
        psnr=math.inf if psnr.mean is None else psnr.mean,
        ssim=ssim.mean,
        images=len(images),
        names=frozenset(images),
        infinite=psnr.infinite,
        levels=found.levels,
        overall=found.overall,
        valid=one_answer(images.values(), "valid", yes_or_no, True),
        views=one_answer(images.values(), "views", view_count, None),
        sharpness=mean_sharpness(images.values()),
        intervals=(
            f"{interval.confidence:.0%} bootstrap over {len(set(units))} {unit}s, {interval.resamples} samples, seed "
            f"{interval.seed}"
        ),
    )


def _team(row: Mapping[str, str], where: str) -> str:
    return tidy(row["team"]) or _nameless(where)


def _nameless(where: str) -> str:
    raise RestainError(f"{where}: no team.")


def _called(path: Path) -> str:
    """What a table of images is called: its file's name, or its folder's where that says nothing."""
    return tidy(path.resolve().parent.name if path.stem == "metrics" else path.stem)
