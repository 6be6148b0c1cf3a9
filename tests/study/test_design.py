from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restain.cli.main import main
from restain.core.errors import RestainError, UnreadableImageError
from restain.slides import read_image, write_image
from restain.study import design as study_design
from restain.study.answers import read_answers
from restain.study.codes import ALPHABET, hashed, new_code
from restain.study.design import Design, new_study, reader_names
from restain.study.draw import draw_pairs, even_shares, order_seed, reading_order
from restain.study.store import StudyStore, study_folders, study_summary

from .studies import LEVELS, make_study, write_folders


def design(root: Path, **options: object) -> Design:
    given: dict[str, object] = {"pairs": 4, "readers": ("alice", "bob"), **options}
    return Design(root / "real", root / "fake", root / "study", **given)  # type: ignore[arg-type]


def order_of(root: Path, reader: int = 0) -> list[tuple[str, str]]:
    """(pair, side) in a reader's order."""
    found = read_answers(root / "study")
    order = np.argsort(found.places[reader], axis=None)
    return [(found.pairs[index // 2], ("real", "generated")[index % 2]) for index in order]


def test_a_study_is_balanced_and_whole(tmp_path: Path) -> None:
    write_folders(tmp_path, count=24)
    made = new_study(design(tmp_path, pairs=8))
    assert made.drawn == dict.fromkeys(LEVELS, 2)
    assert made.notes == []
    for reader in range(2):
        order = order_of(tmp_path, reader)
        assert Counter(order) == Counter({(name, side): 1 for name in dict(order) for side in ("real", "generated")})
        assert len(order) == 16
        assert all(a[0] != b[0] for a, b in itertools.pairwise(order))
    assert order_of(tmp_path, 0) != order_of(tmp_path, 1)
    assert study_summary(tmp_path / "study") == (made.id, "HER2 reading")
    assert study_folders(tmp_path) == [tmp_path / "study"]


def test_nothing_of_a_file_tells_real_from_generated(tmp_path: Path) -> None:
    real, _ = write_folders(tmp_path, count=4, side=32)
    for path in real.iterdir():  # as BCI: JPEG in files called PNG, here with EXIF too
        exif = Image.Exif()
        exif[0x010E] = "the real one"
        Image.open(path).save(path, "JPEG", quality=90, exif=exif)
    wanted = {path.stem: read_image(path) for path in real.iterdir()}
    new_study(design(tmp_path))
    files = sorted((tmp_path / "study" / "images").iterdir())
    assert len(files) == 8
    states = {(path.stat().st_size, path.stat().st_mtime_ns, path.stat().st_mode, len(path.name)) for path in files}
    assert len(states) == 1
    for path in files:
        assert chunks(path.read_bytes()) == {"IHDR", "IDAT", "IEND"}
        with Image.open(path) as image:
            assert (image.format, image.info, image.mode) == ("PNG", {}, "RGB")
    found = read_answers(tmp_path / "study")
    for pair, name in enumerate(found.pairs):
        copy = read_image(tmp_path / "study" / "images" / f"{found.images[pair, 0]}.png")
        assert np.array_equal(copy, wanted[name])


def chunks(png: bytes) -> set[str]:
    """Kinds of the parts of a PNG."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    found, place = set(), 8
    while place < len(png):
        length = int.from_bytes(png[place : place + 4], "big")
        found.add(png[place + 4 : place + 8].decode())
        place += 12 + length
    return found


def test_the_seed_decides_draw_and_order_and_not_the_names(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_folders(tmp_path / name, count=24)
        new_study(design(tmp_path / name, pairs=8, seed=seed))
    orders = [order_of(tmp_path / name) for name in "abc"]
    assert orders[0] == orders[1] != orders[2]
    found = [read_answers(tmp_path / name / "study") for name in "ab"]
    assert found[0].pairs == found[1].pairs
    assert not set(found[0].images.ravel()) & set(found[1].images.ravel())
    assert found[0].terms.id != found[1].terms.id


def test_an_order_cannot_be_worked_out_from_the_seed() -> None:
    assert order_seed(0, 0, ["a 1", "b 2"]) != order_seed(0, 0, ["a 1", "b 3"])
    assert order_seed(0, 0, ["a 1"]) != order_seed(0, 1, ["a 1"])


@pytest.mark.parametrize("pairs", [1, 2, 3, 40])
def test_orders_keep_pairs_apart_and_are_fair(pairs: int) -> None:
    orders = [reading_order(pairs, np.random.default_rng(seed)) for seed in range(300)]
    for order in orders:
        assert sorted(order) == list(range(2 * pairs))
        assert pairs == 1 or (np.diff(order // 2) != 0).all()
    first = np.array([order[0] % 2 for order in orders])  # real or generated first: as often
    assert 0.4 < first.mean() < 0.6


@pytest.mark.parametrize(
    ("available", "wanted", "shares"),
    [
        ({"a": 9, "b": 9}, 8, [4, 4]),
        ({"a": 1, "b": 9, "c": 9}, 9, [1, 4, 4]),
        ({"a": 1, "b": 2, "c": 3}, 6, [1, 2, 3]),
    ],
)
def test_shares_are_as_even_as_can_be(available: dict[str, int], wanted: int, shares: list[int]) -> None:
    assert list(even_shares(available, wanted, np.random.default_rng(0)).values()) == shares


def test_what_cannot_be_divided_is_left_to_chance() -> None:
    random = np.random.default_rng(0)
    found = Counter(tuple(even_shares({"a": 9, "b": 9, "c": 9}, 10, random).values()) for _ in range(300))
    assert set(found) == {(4, 3, 3), (3, 4, 3), (3, 3, 4)}
    assert min(found.values()) > 60
    drawn = Counter(index for _ in range(400) for index in draw_pairs(["a"] * 4 + ["b"] * 8, 4, random))
    assert all(abs(drawn[index] / 400 - (2 / 4 if index < 4 else 2 / 8)) < 0.09 for index in range(12))


def test_codes_are_read_aloud_and_stored_as_hashes(tmp_path: Path) -> None:
    made = make_study(tmp_path)
    for code in made.codes.values():
        groups = code.split("-")
        assert [len(group) for group in groups] == [4, 4, 4]
        assert set("".join(groups)) <= set(ALPHABET)
    assert not set("01IO") & set(ALPHABET)
    assert len(ALPHABET) ** 12 >= 2**55
    assert len({new_code() for _ in range(1000)}) == 1000
    table = tmp_path / "study" / "codes.csv"
    assert table.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "study").stat().st_mode & 0o777 == 0o700  # the truth is in it, and readers may share a computer
    assert table.read_text() == "".join(f"{a},{b}\n" for a, b in [("reader", "code"), *made.codes.items()])
    content = (tmp_path / "study" / "study.sqlite").read_bytes()
    for code in made.codes.values():
        assert code.encode() not in content
        assert code.replace("-", "").encode() not in content
    store = StudyStore(tmp_path / "study")
    code = made.codes["bob"]
    for typed in (code, code.lower(), code.replace("-", " "), f"  {code.replace('-', '')} "):
        assert store.log_in(typed)
    assert store.log_in(code[:-1] + ("A" if code[-1] != "A" else "B")) is None
    assert store.log_in("") is None
    assert hashed(code, b"a" * 16) != hashed(code, b"b" * 16)


def test_bci_folders_results_folders_and_tables(tmp_path: Path) -> None:
    """Real images as a dataset with pairs.csv, generated ones as pix2pix leaves them."""
    random = np.random.default_rng(0)
    rows = ["name,split,level,patient,kept"]
    for index in range(6):
        picture = random.integers(0, 256, (16, 16, 3), np.uint8)
        for folder in ("HE/test", "IHC/test"):
            write_image(tmp_path / "data" / folder / f"n{index}.png", picture)
        write_image(tmp_path / "run" / "images" / f"n{index}_fake_B.png", picture // 2)
        write_image(tmp_path / "run" / "images" / f"n{index}_real_B.png", picture)
        rows.append(f"n{index},test,{'2+' if index % 2 else '3+'},p{index // 2},yes")
    table = tmp_path / "data" / "pairs.csv"
    table.write_text("\n".join(rows) + "\n")
    made = new_study(Design(tmp_path / "data", tmp_path / "run", tmp_path / "study", 4))
    assert made.drawn == {"2+": 2, "3+": 2}
    assert read_answers(tmp_path / "study").units[1] == "patient"
    real = tmp_path / "data" / "IHC" / "test"
    options = ["--pairs", "4", "--readers", "ann, bo", "--pairs-csv", str(table), "--levels", "2+", "3+", "--no-origin"]
    words = ["study", "new", "--real", str(real), "--fake", str(tmp_path / "run"), "--out", str(tmp_path / "b")]
    assert main([*words, *options]) == 0
    terms = StudyStore(tmp_path / "b").terms()
    assert (terms.levels, terms.asks_origin) == (("2+", "3+"), False)
    assert read_answers(tmp_path / "b").readers == ("ann", "bo")


def test_unknown_levels_and_odd_names_are_said(tmp_path: Path) -> None:
    write_folders(tmp_path, count=4)
    for folder in ("real", "fake"):
        for path in sorted((tmp_path / folder).iterdir()):
            path.rename(path.with_name(f"{path.name[:5]}.png"))
    (tmp_path / "fake" / "00001.png").rename(tmp_path / "fake" / "lone.png")
    made = new_study(design(tmp_path, pairs=3))
    assert made.drawn == {}
    text = "\n".join(made.notes)
    assert "Levels are unknown" in text
    assert "1 real without a generated image of its name: 00001" in text
    assert "1 generated without a real image of its name: lone" in text


def test_what_spoils_blinding_is_said(tmp_path: Path) -> None:
    write_folders(tmp_path, count=4)
    names = sorted(path.name for path in (tmp_path / "real").iterdir())
    for folder in ("real", "fake"):
        write_image(tmp_path / folder / names[0], np.zeros((8, 8, 3), np.uint8))
    notes = "\n".join(new_study(design(tmp_path)).notes)
    assert "several sizes (16 x 16, 8 x 8 px)" in notes
    assert f"1 generated images are the real ones, pixel for pixel: {names[0][:-4]}" in notes


def test_unbalanced_levels_are_said(tmp_path: Path) -> None:
    write_folders(tmp_path, count=8, levels=("0", "2+", "2+", "2+"))
    made = new_study(design(tmp_path, pairs=7))
    assert made.drawn == {"0": 2, "2+": 5}
    assert made.notes == [
        "Only 2 pairs of level 0: the study is not balanced.",
        "There are no pairs of level 1+, 3+.",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pairs": 9}, "give 8 pairs, --pairs wants 9. Generate more images, or read fewer: --pairs 8"),
        ({"pairs": 0}, "--pairs 0"),
        ({"seed": -1}, "--seed -1"),
        ({"seed": 2**63}, "--seed 9223372036854775808"),
        ({"levels": ("0",)}, "--levels 0"),
        ({"levels": ("0", "1+", "2+")}, "has images of level 3+"),
        ({"title": "two\nlines"}, "--title"),
        ({"out": "full"}, "is there already"),
        ({"out": "real/study"}, "lies in a folder of images"),
        ({"fake": "real"}, "are the same folder"),
        ({"fake": "other"}, "no image name in common"),
        ({"fake": "nowhere"}, "no such folder"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    write_folders(tmp_path)
    write_image(tmp_path / "other" / "x.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    given = {key: tmp_path / str(value) if key in ("out", "fake") else value for key, value in change.items()}
    options = {"real": tmp_path / "real", "fake": tmp_path / "fake", "out": tmp_path / "study", "pairs": 4, **given}
    with pytest.raises(RestainError, match=message.replace("+", r"\+").replace(".", r"\.")):
        new_study(Design(**options))  # type: ignore[arg-type]
    assert not (tmp_path / "study").exists()
    assert study_folders(tmp_path) == []
    assert (tmp_path / "full" / "notes.txt").read_text() == "mine"


def test_images_that_spoil_a_study_leave_none(tmp_path: Path) -> None:
    write_folders(tmp_path, count=4)
    name = sorted(path.name for path in (tmp_path / "real").iterdir())[0]
    write_image(tmp_path / "fake" / name, np.zeros((16, 17, 3), np.uint8))
    with pytest.raises(RestainError, match=r"differ in size .*which would tell them apart"):
        new_study(design(tmp_path))
    (tmp_path / "fake" / name).write_bytes(b"not an image")
    with pytest.raises(UnreadableImageError):
        new_study(design(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fake", "real"]


@pytest.mark.parametrize("text", ["", "0", "21", "a,a", "a,,b", "x" * 41, "=cmd()", "a\x07", "all,b", "a|b,c"])
def test_reader_names_that_are_none(text: str) -> None:
    with pytest.raises(RestainError, match="--readers"):
        reader_names(text)


def test_reader_names() -> None:
    assert reader_names("2") == ("reader1", "reader2")
    assert reader_names("Dr. Å, b") == ("Dr. Å", "b")


def test_a_killed_command_leaves_nothing_that_looks_like_a_study(tmp_path: Path) -> None:
    write_folders(tmp_path, count=8)
    child = os.fork()
    if child == 0:  # dies when all is written, and only the name is missing
        create = study_design.create
        study_design.create = lambda *words: (create(*words), os.kill(os.getpid(), signal.SIGKILL))
        new_study(design(tmp_path))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    left = [path for path in tmp_path.iterdir() if path.name not in ("real", "fake")]
    assert [path.name[:11] for path in left] == [".tmp-study-"]
    assert study_folders(tmp_path) == []
    new_study(design(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fake", "real", "study"]


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folders(tmp_path)
    words = ["--real", str(tmp_path / "real"), "--fake", str(tmp_path / "fake"), "--out", str(tmp_path / "s")]
    assert main(["study", "new", *words, "--pairs", "4", "--readers", "3", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert study_summary(tmp_path / "s")[0] == document["id"]
    assert list(document["codes"]) == ["reader1", "reader2", "reader3"]


def test_help_and_wrong_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "--help"]) == 0
    assert "results" in capsys.readouterr().out
    assert main(["study"]) == 2
    assert main(["study", "result"]) == 2


def test_the_database_flushes_before_it_confirms(tmp_path: Path) -> None:
    """What survives a power cut cannot be tested here; that SQLite is told to flush can."""
    from restain.study import database

    make_study(tmp_path)
    file = tmp_path / "study" / "study.sqlite"
    with database.writing(file) as session:
        state = {
            name: session.connection().exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("synchronous", "journal_mode", "foreign_keys", "trusted_schema")
        }
    assert state == {"synchronous": 2, "journal_mode": "truncate", "foreign_keys": 1, "trusted_schema": 0}


def damage(file: Path, kind: str) -> None:
    """One way in which a study's database can be broken."""
    if kind == "gone":
        file.unlink()
    elif kind == "text":
        file.write_text("not a database, and longer than a header of one hundred bytes" * 10)
    elif kind == "cut":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "noise":
        content = bytearray(file.read_bytes())
        content[4096:] = os.urandom(len(content) - 4096)
        file.write_bytes(content)
    elif kind == "no text":  # SQLite's message quotes the schema
        file.write_bytes(file.read_bytes().replace(b"CREATE TABLE study", b"CREATE T\xff\xfeLE study"))
    else:
        with sqlite3.connect(file) as connection:
            connection.execute(kind)


DAMAGE = [
    "gone", "text", "cut", "empty", "noise", "no text",
    "DROP TABLE study", "DELETE FROM study", "UPDATE study SET levels = '[['", "PRAGMA user_version=9",
    "PRAGMA application_id=1", "CREATE VIEW more AS SELECT 1", "ALTER TABLE pair RENAME TO pears",
]  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_studies_are_named(tmp_path: Path, kind: str) -> None:
    make_study(tmp_path, readers=("a",))
    damage(tmp_path / "study" / "study.sqlite", kind)
    look = read_answers if "RENAME" in kind else study_summary
    with pytest.raises(RestainError, match="study"):
        look(tmp_path / "study")
