"""``restain study new``: a blinded study of real and generated images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restain.cli.named import gathered
from restain.cli.output import print_json, print_table
from restain.cli.parsing import call
from restain.core.progress import console
from restain.study.design import CODES, LEVELS, Design, new_study, reader_names


def command(
    real: Path,
    fake: Path,
    out: Path,
    pairs: int = 40,
    readers: str = "2",
    seed: int = 0,
    title: str = "HER2 reading",
    levels: list[str] = [],  # noqa: B006 (the parser copies it)
    no_origin: bool = False,
    split: str = "test",
    pairs_csv: Path | None = None,
    json: bool = False,
) -> int:
    """Draw pairs of real and generated images, balanced by level, and blind them for readers.

    Copies all images under random names. Writes the study and codes.csv, a code for each reader; hand out the codes,
    keep the folder to yourself, and let readers in with `restain serve STUDY --reading-room`.

    Args:
        real: folder of the real images, or a patch-pair dataset.
        fake: folder of the generated images, of the same names (NAME_fake_B too).
        out: folder of the study; must not exist, or be empty.
        pairs: how many pairs are read; each reader sees twice as many images.
        readers: how many, or their names with commas between them.
        seed: of the draw and of the readers' orders.
        title: what readers see above the images.
        levels: what an image can be graded as, in order; several words. 0 1+ 2+ 3+ if not given.
        no_origin: do not ask readers whether an image is real or generated.
        split: split of a dataset.
        pairs_csv: a pairs.csv with level and patient of each image; else the one beside the images, and file names.
        json: print one JSON document.
    """
    names = reader_names(readers)
    design = Design(
        real, fake, out, pairs, names, seed, title, tuple(levels) or LEVELS, not no_origin, split, pairs_csv
    )
    made = new_study(design)
    for note in made.notes:
        console.print(note, markup=False, soft_wrap=True)
    if json:
        document = {"id": made.id, "study": str(out), "codes": dict(made.codes), "pairs": pairs}
        print_json({**document, "levels": dict(made.drawn), "notes": list(made.notes)})
    else:
        drawn = ", ".join(f"{count} of {level}" for level, count in made.drawn.items()) or "levels unknown"
        print_table(f"{pairs} pairs ({drawn})", ["reader", "code"], [[*row] for row in made.codes.items()])
    console.print(
        f"Study: {out}. The codes are in {out / CODES} and nowhere else. Readers open /read/{made.id} of "
        f"`restain serve {out} --reading-room`.",
        markup=False,
        soft_wrap=True,
    )
    return 0


def run(argv: Sequence[str]) -> int:
    """The command; ``--levels`` takes several words."""
    return call(command, "restain study new", gathered(argv, ["--levels"]))
