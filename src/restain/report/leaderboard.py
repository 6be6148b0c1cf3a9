"""The leaderboard of a ranking: an HTML page, a CSV and a JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure as Canvas

from restain.core.files import not_a_formula, write_csv, write_json
from restain.data.levels import sorted_levels
from restain.evaluate import Estimate
from restain.evaluate.rank import Ranking, document
from restain.evaluate.score_tables import Entry
from restain.report.charts import COLOURS, MARKERS, heading
from restain.report.html import write_report
from restain.report.pictures import Picture, chart
from restain.report.sections import Block, Facts, Figure, Listing, Note, Section, Table, Text

DECIMALS = {"psnr": 3, "ssim": 4}
SHOWN = len(COLOURS)
"""As many entries are drawn as colours can be told apart."""


def write_leaderboard(ranking: Ranking, out: Path) -> None:
    """Write ``leaderboard.html``, ``leaderboard.csv`` and ``ranking.json`` into folder ``out``.

    Args:
        ranking: the ranking.
        out: the folder.

    Raises:
        ItemError: something could not be written.
    """
    write_json(out / "ranking.json", document(ranking))
    _write_table(ranking, out / "leaderboard.csv")
    count = len(ranking.ranked)
    write_report(
        out / "leaderboard.html",
        "Leaderboard",
        leaderboard_sections(ranking),
        f"{count} {'entry' if count == 1 else 'entries'} by R = {ranking.psnr_weight:g} R_PSNR + "
        f"{ranking.ssim_weight:g} R_SSIM · {_protocols(ranking)}",
    )


def leaderboard_sections(ranking: Ranking) -> list[Section]:
    """The sections of the page, so that another report can take them in."""
    sections = [Section("Ranking", _places(ranking))]
    if any(ranked.entry.levels for ranked in ranking.ranked):
        sections.append(Section("By level", _by_level(ranking)))
    if ranking.invalid:
        items = [
            (entry.team, f"PSNR {_psnr(entry.psnr)} dB, SSIM {entry.ssim:.4f}; {entry.source}")
            for entry in ranking.invalid
        ]
        sections.append(Section("Invalid", [Listing(items, "Declared invalid by a table or by readers, not ranked:")]))
    sections.append(Section("How it was made", [_facts(ranking)]))
    return sections


def _places(ranking: Ranking) -> list[Block]:
    sharp = any(ranked.entry.sharpness is not None for ranked in ranking.ranked)
    columns = ["Place", "Team", "PSNR\ndB", "rank", "SSIM", "rank", "R", "Images", "Views"]
    columns += ["Sharpness ratio"] if sharp else []
    columns += ["Protocol"] if ranking.mixed else []
    rows = []
    for ranked in ranking.ranked:
        entry = ranked.entry
        row = [
            str(ranked.place),
            entry.team,
            _psnr(entry.psnr) + _interval(entry.overall.get("psnr"), "psnr"),
            f"{ranked.psnr_rank:g}",
            f"{entry.ssim:.{DECIMALS['ssim']}f}" + _interval(entry.overall.get("ssim"), "ssim"),
            f"{ranked.ssim_rank:g}",
            f"{ranked.score:.6g}",
            str(entry.images or "not stated"),
            entry.views_text,
        ]
        row += ["" if entry.sharpness is None else f"{entry.sharpness:.3f}"] if sharp else []
        row += [entry.protocol_text] if ranking.mixed else []
        rows.append(row)
    blocks: list[Block] = []
    if warnings := ranking.warnings():
        blocks.append(Note("\n\n".join(warnings), warning=True))
    blocks.append(Table(columns, rows, "Means over images, with intervals in small print where known.", labels=2))
    blocks.append(Text(ranking.rule))
    blocks.append(
        Text(
            "PSNR and SSIM reward blur and do not see HER2 levels (review, Sec. VI-D): in the challenge they put first "
            "a submission of blurred images in one tone. The places say how close the pixels are, not how well a "
            "pathologist could read the images."
        )
    )
    return blocks


def _by_level(ranking: Ranking) -> list[Block]:
    entries = [ranked.entry for ranked in ranking.ranked if ranked.entry.levels]
    levels = sorted_levels(level for entry in entries for level in entry.levels)
    blocks: list[Block] = []
    for metric in ("psnr", "ssim"):
        rows = [
            [
                entry.team,
                _cell(entry.overall[metric], metric),
                *(_cell(entry.levels[level][metric], metric) if level in entry.levels else "" for level in levels),
            ]
            for entry in entries
        ]
        counts = _counts(entries, levels)
        columns = ["Team", "all", *(f"{level}\n{counts[level]}" for level in levels)]
        blocks.append(Table(columns, rows, f"{heading(metric)}: mean and interval of each level."))
        caption = f"{heading(metric)} by level." + (f" The first {SHOWN} entries." if len(entries) > SHOWN else "")
        blocks.append(Figure(_drawn(entries[:SHOWN], levels, metric), caption, width=760))
    return blocks


def _counts(entries: Sequence[Entry], levels: Sequence[str]) -> dict[str, str]:
    """Images of each level in words; empty where entries differ."""
    found = {}
    for level in levels:
        numbers = {entry.levels[level]["ssim"].n for entry in entries if level in entry.levels}
        found[level] = f"{numbers.pop()} images" if len(numbers) == 1 else ""
    return found


def _drawn(entries: Sequence[Entry], levels: Sequence[str], metric: str) -> Picture:
    """Means with intervals, a group for each level, a mark for each entry."""

    def draw(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        step = 0.7 / max(1, len(entries))
        for index, entry in enumerate(entries):
            found = [(place, entry.levels.get(level, {}).get(metric)) for place, level in enumerate(levels)]
            known = [(place, value) for place, value in found if value is not None and value.mean is not None]
            places = np.array([place for place, _ in known]) + (index - (len(entries) - 1) / 2) * step
            means = np.array([value.mean for _, value in known], np.float64)
            low = np.array([value.mean if value.low is None else value.low for _, value in known], np.float64)
            high = np.array([value.mean if value.high is None else value.high for _, value in known], np.float64)
            axes.errorbar(
                places,
                means,
                # A percentile interval of a skewed sample may leave its mean outside.
                [np.maximum(means - low, 0), np.maximum(high - means, 0)],
                fmt=MARKERS[index % len(MARKERS)],
                color=COLOURS[index % len(COLOURS)],
                markersize=5,
                capsize=2,
                linewidth=1,
                label=entry.team,
            )
        axes.set_xticks(range(len(levels)), levels)
        axes.set_xlabel("level")
        axes.set_ylabel(heading(metric))
        canvas.legend(loc="outside upper left", frameon=False, ncols=4)

    return chart(draw, f"Mean {heading(metric)} by level with intervals for {', '.join(e.team for e in entries)}.")


def _facts(ranking: Ranking) -> Facts:
    entries = [ranked.entry for ranked in ranking.ranked]
    protocols = {entry.protocol_text for entry in entries}
    data = {entry.fingerprint or "not stated" for entry in entries}
    facts = {"Rule": ranking.rule}
    if len(protocols) == 1:
        facts["Protocol"] = protocols.pop()
    if len(data) == 1:
        facts["Fingerprint of the real images"] = data.pop()
    facts["Test-time views"] = ", ".join(f"{entry.team}: {entry.views_text}" for entry in entries)
    facts["Validity"] = "declared by a column or by readers; no number makes an entry invalid"
    facts |= {
        f"Intervals: {text}": _teams(entries, text) for text in dict.fromkeys(e.intervals for e in entries) if text
    }
    facts |= {f"Source: {entry.team}": str(entry.source) for entry in [*entries, *ranking.invalid]}
    return Facts(facts)


def _teams(entries: Sequence[Entry], intervals: str) -> str:
    return ", ".join(entry.team for entry in entries if entry.intervals == intervals)


def _protocols(ranking: Ranking) -> str:
    names = dict.fromkeys(ranked.entry.protocol_text for ranked in ranking.ranked)
    return f"protocol {' and '.join(names)}"


def _write_table(ranking: Ranking, path: Path) -> None:
    columns = ["rank", "team", "psnr", "ssim", "psnr_rank", "ssim_rank", "score", "valid", "views"]
    columns += ["images", "sharpness_ratio", "protocol", "source"]
    rows = [
        {"rank": r.place, "psnr_rank": r.psnr_rank, "ssim_rank": r.ssim_rank, "score": r.score, **_row(r.entry)}
        for r in ranking.ranked
    ]
    write_csv(path, columns, [*rows, *map(_row, ranking.invalid)])


def _row(entry: Entry) -> dict[str, object]:
    return {
        "team": not_a_formula(entry.team),
        "psnr": entry.psnr,
        "ssim": entry.ssim,
        "valid": "yes" if entry.valid else "no",
        "views": entry.views,
        "images": entry.images or None,
        "sharpness_ratio": entry.sharpness,
        "protocol": not_a_formula(entry.protocol_text) if entry.protocol else None,
        "source": not_a_formula(str(entry.source).encode("utf-8", "replace").decode("utf-8")),
    }


def _psnr(value: float) -> str:
    return f"{value:.{DECIMALS['psnr']}f}" if math.isfinite(value) else "∞"


def _interval(value: Estimate | None, metric: str) -> str:
    """The interval on a line of its own, where there is one."""
    if value is None or value.low is None or value.high is None:
        return ""
    digits = DECIMALS[metric]
    return f"\n{value.low:.{digits}f} to {value.high:.{digits}f}"


def _cell(value: Estimate, metric: str) -> str:
    if value.mean is None:
        return "∞" if value.infinite else ""
    return f"{value.mean:.{DECIMALS[metric]}f}" + _interval(value, metric)
