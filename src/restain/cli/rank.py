"""``restain rank``: the challenge's ranking."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restain.cli.named import named_numbers, named_path
from restain.cli.output import print_json, print_table
from restain.cli.parsing import call
from restain.core.errors import RestainError
from restain.core.progress import console
from restain.evaluate.rank import PSNR_WEIGHT, SSIM_WEIGHT, Ranking, document, rank
from restain.evaluate.score_tables import read_entries, with_verdicts, with_views
from restain.report.leaderboard import write_leaderboard


def command(
    results: list[str],
    out: Path | None = None,
    psnr_weight: float = PSNR_WEIGHT,
    ssim_weight: float = SSIM_WEIGHT,
    readers: Path | None = None,
    tta: list[str] = [],  # noqa: B006 (the parser copies it)
    mixed: bool = False,
    json: bool = False,
) -> int:
    """Rank results as the BCI challenge did: by weighted ranks of mean PSNR and SSIM.

    Nothing is left out for its numbers; a low sharpness is a warning. A submission is invalid, and not ranked, where a
    column valid or the readers say so.

    Args:
        results: results folders of `restain evaluate`, CSVs team,psnr,ssim[,valid,views,sharpness_ratio], or CSVs of
            PSNR and SSIM per image; each also as NAME=RESULT.
        out: folder for leaderboard.html, leaderboard.csv and ranking.json.
        psnr_weight: weight of the rank by PSNR.
        ssim_weight: weight of the rank by SSIM.
        readers: what readers decided, a CSV team,valid (yes or no).
        tta: test-time views of results that do not say it, NAME=N; several.
        mixed: rank results although their protocols, real images or numbers of images differ, or one of them averages
            what is not alike; said beside the places.
        json: print one JSON document, the entries in rank order.
    """
    if out is not None and any((out / name).exists() for name in ("summary.json", "run.json")):
        raise RestainError(f"{out}: holds results or a run. Choose another --out.")
    entries = with_views(read_entries([named_path(word) for word in results]), named_numbers(tta, "--tta"))
    if readers is not None:
        entries = with_verdicts(entries, readers)
    ranking = rank(entries, psnr_weight, ssim_weight, mixed)
    if out is not None:
        write_leaderboard(ranking, out)
    for line in ranking.warnings():
        console.print(f"warning: {line}", markup=False, soft_wrap=True)
    for entry in ranking.invalid:
        console.print(f"invalid, not ranked: {entry.team}", markup=False, soft_wrap=True)
    if json:
        print_json(document(ranking))
    else:
        _print(ranking)
    if out is not None:
        console.print(f"Leaderboard: {out / 'leaderboard.html'}", markup=False, soft_wrap=True)
    return 0


def _print(ranking: Ranking) -> None:
    """The places as a table, and the rule under it."""
    views = any(ranked.entry.views is not None for ranked in ranking.ranked)
    columns = ["place", "team", "PSNR (dB)", "rank", "SSIM", "rank", "R"]
    columns += [*(["views"] if views else []), *(["protocol"] if ranking.mixed else [])]
    rows = [
        [
            item.place,
            item.entry.team,
            f"{item.entry.psnr:.3f}",
            f"{item.psnr_rank:g}",
            f"{item.entry.ssim:.4f}",
            f"{item.ssim_rank:g}",
            f"{item.score:.6g}",
            *([item.entry.views_text] if views else []),
            *([item.entry.protocol_text] if ranking.mixed else []),
        ]
        for item in ranking.ranked
    ]
    print_table("Ranking", columns, rows)
    print(ranking.rule)


def run(argv: Sequence[str]) -> int:
    """The command; ``--tta`` takes NAME=N and may be repeated."""
    return call(command, "restain rank", _repeated(argv), ["results"])


def _repeated(argv: Sequence[str]) -> list[str]:
    """``argv`` with each ``--tta NAME=N`` as the parser takes it; results may come after it."""
    words: list[str] = []
    following = False
    for word in argv:
        if following:
            words.append(f"--tta+={word}")
            following = False
        elif word == "--tta":
            following = True
        else:
            words.append(f"--tta+={word.removeprefix('--tta=')}" if word.startswith("--tta=") else word)
    return words
