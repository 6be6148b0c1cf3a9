"""The challenge's ranking: the review's Table II, ties, and what is refused."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
from tests.evaluate.conftest import MakeFolder
from tests.report.test_report import Page

from restain.cli.main import main
from restain.core.errors import RestainError
from restain.evaluate import evaluate
from restain.evaluate.rank import document, rank, rank_scores
from restain.evaluate.score_tables import Entry, read_entries, with_verdicts, with_views

# Table II of the review: place, PSNR and its rank, SSIM and its rank.
TABLE_II = {
    "arpitdec5": (1, 19.736, 2, 0.574, 1),
    "Just4Fun": (2, 22.929, 1, 0.559, 2),
    "lifangda02": (3, 17.927, 5, 0.555, 3),
    "stan9": (4, 17.959, 4, 0.543, 4),
    "guanxianchao": (5, 19.560, 3, 0.497, 5),
    "vivek23": (6, 15.271, 6, 0.493, 6),
}


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding)
    return path


def entries(*paths: Path) -> list[Entry]:
    return read_entries([(None, path) for path in paths])


def table_ii(tmp_path: Path) -> Path:
    lines = [f"{team},{TABLE_II[team][1]},{TABLE_II[team][3]}" for team in sorted(TABLE_II)]
    return write(tmp_path / "table2.csv", "\n".join(["team,psnr,ssim", *lines]))


def test_table_ii_of_the_review(tmp_path: Path) -> None:
    ranking = rank(entries(table_ii(tmp_path)))
    assert [ranked.entry.team for ranked in ranking.ranked] == list(TABLE_II)
    for ranked in ranking.ranked:
        place, _, psnr_rank, _, ssim_rank = TABLE_II[ranked.entry.team]
        assert (ranked.place, ranked.psnr_rank, ranked.ssim_rank) == (place, psnr_rank, ssim_rank)
        assert ranked.score == pytest.approx(0.4 * psnr_rank + 0.6 * ssim_rank)


def test_ties_take_the_average_rank_and_share_the_place() -> None:
    found = rank_scores([20, 21, 20, 19], [0.5, 0.4, 0.5, 0.6])
    assert found.psnr_rank.tolist() == [2.5, 1, 2.5, 4]
    assert found.ssim_rank.tolist() == [2.5, 4, 2.5, 1]
    assert found.score.tolist() == pytest.approx([2.5, 2.8, 2.5, 2.2])
    assert found.place.tolist() == [2, 4, 2, 1]
    assert found.order.tolist() == [3, 0, 2, 1]
    # R is 2.2 both times, which a sum of binary fractions does not see.
    assert 0.4 * 1 + 0.6 * 3 != 0.4 * 4 + 0.6 * 1
    found = rank_scores([4, 3, 2, 1], [0.2, 0.3, 0.1, 0.4])
    assert found.place.tolist() == [2, 1, 4, 2]


def test_weights() -> None:
    psnr, ssim = [3, 2, 1], [0.1, 0.2, 0.3]
    assert rank_scores(psnr, ssim, 1, 0).order.tolist() == [0, 1, 2]
    assert rank_scores(psnr, ssim, 0, 1).order.tolist() == [2, 1, 0]
    assert rank_scores(psnr, ssim, 0.5, 0.5).place.tolist() == [1, 1, 1]
    for weights in ((0, 0), (-1, 1), (math.nan, 1)):
        with pytest.raises(RestainError, match="Weights"):
            rank_scores(psnr, ssim, *weights)


def test_the_published_scores_of_one_method(shared: Path) -> None:
    folder = shared / "data" / "bci-per-image-scores"
    (entry,) = entries(folder / "exp3_tta.csv")
    assert entry.psnr == pytest.approx(22.929, abs=5e-4)
    assert entry.ssim == pytest.approx(0.559, abs=1e-3)
    assert entry.images == 977
    assert f"{entry.levels['3+']['psnr'].mean:.2f}" == "19.84"
    assert f"{entry.levels['3+']['ssim'].mean:.3f}" == "0.493"
    assert list(entry.levels) == ["0", "1+", "2+", "3+"]
    ranking = rank(with_views(entries(folder / "exp3.csv", folder / "exp3_tta.csv"), {"exp3": 1, "exp3_tta": 7}))
    assert [ranked.entry.team for ranked in ranking.ranked] == ["exp3_tta", "exp3"]
    assert any("Test-time views differ (exp3_tta 7, exp3 1)" in line for line in ranking.warnings())


def test_results_of_evaluate(folder: MakeFolder, tmp_path: Path) -> None:
    real = folder("real")
    evaluate(real, {"a": folder("a", brown=0.45, seed=1), "b": folder("b", brown=0.9, seed=2)}, tmp_path / "both")
    evaluate(real, {"b": folder("b2", brown=0.45, seed=3)}, tmp_path / "again", test_time_views=7)
    ranking = rank(entries(tmp_path / "both", tmp_path / "again"))
    assert {ranked.entry.team for ranked in ranking.ranked} == {"a", "both/b", "again/b"}
    assert ranking.ranked[-1].entry.team == "both/b"
    found = json.loads((tmp_path / "both" / "summary.json").read_text())
    own = next(item for item in document(ranking)["ranking"] if item["team"] == "a")
    assert own["psnr"] == found["methods"]["a"]["overall"]["psnr"]["mean"]
    assert own["levels"]["1+"]["ssim"] == found["methods"]["a"]["levels"]["1+"]["ssim"]
    assert own["protocol"]["hash"] == found["protocol"]["hash"]
    assert own["dataset_fingerprint"] == found["dataset_fingerprint"]
    assert any("views differ" in line for line in ranking.warnings())
    # The table of pairs alone gives the same means.
    values = {entry.team: entry for entry in entries(tmp_path / "both" / "metrics.csv")}
    assert values["a"].psnr == pytest.approx(own["psnr"])
    assert values["a"].levels["1+"]["ssim"].mean == pytest.approx(own["levels"]["1+"]["ssim"]["mean"])


def test_what_does_not_compare_is_refused(folder: MakeFolder, tmp_path: Path) -> None:
    real, fake = folder("real"), folder("a", seed=1)
    evaluate(real, {"a": fake}, tmp_path / "one")
    evaluate(real, {"b": fake}, tmp_path / "other", protocol="bci")
    evaluate(folder("real2", seed=5), {"c": fake}, tmp_path / "data")
    with pytest.raises(RestainError, match=r"protocols differ: a: bci.*b: bci v1") as caught:
        rank(entries(tmp_path / "one", tmp_path / "other"))
    assert caught.value.exit_code == 2
    with pytest.raises(RestainError, match="fingerprints of the real images differ"):
        rank(entries(tmp_path / "one", tmp_path / "data"))
    with pytest.raises(RestainError, match="not stated"):
        rank(entries(tmp_path / "one", table_ii(tmp_path)))
    ranking = rank(entries(tmp_path / "one", tmp_path / "other"), mixed=True)
    assert any(line.startswith("Mixed: protocols differ") for line in ranking.warnings())
    left = write(tmp_path / "l.csv", "image,psnr,ssim\nx,20,.5\ny,20,.5\n")
    right = write(tmp_path / "r.csv", "image,psnr,ssim\nx,20,.5\nz,20,.5\n")
    with pytest.raises(RestainError, match="images differ: only l: y; only r: z"):
        rank(entries(left, right))


def test_low_sharpness_warns_and_leaves_nothing_out(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "team,psnr,ssim,sharpness_ratio\nblurred,25,.6,.26\nsharp,20,.5,1\n")
    ranking = rank(entries(path))
    assert ranking.ranked[0].entry.team == "blurred"
    assert any("blurred: Sharpness ratio 0.260, below 0.5" in line for line in ranking.warnings())
    assert not any("sharp: Sharpness" in line for line in ranking.warnings())


def test_validity_is_declared(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "team,psnr,ssim,valid\na,25,.6,no\nb,20,.5,Yes\nc,19,.4,1\n")
    ranking = rank(entries(path))
    assert [(ranked.place, ranked.entry.team) for ranked in ranking.ranked] == [(1, "b"), (2, "c")]
    assert [entry.team for entry in ranking.invalid] == ["a"]
    readers = write(tmp_path / "readers.csv", "team,valid\na,yes\nb,false\n")
    ranking = rank(with_verdicts(entries(path), readers))
    assert [ranked.entry.team for ranked in ranking.ranked] == ["a", "c"]
    with pytest.raises(RestainError, match="there is no entry 'x'"):
        with_verdicts(entries(path), write(readers, "team,valid\nx,yes\n"))
    with pytest.raises(RestainError, match="'a' is there twice"):
        with_verdicts(entries(path), write(readers, "team,valid\na,no\na,yes\n"))
    with pytest.raises(RestainError, match="No entry is valid"):
        rank(entries(write(path, "team,psnr,ssim,valid\na,25,.6,no\n")))


def test_what_a_table_of_images_says_of_an_entry(tmp_path: Path) -> None:
    header = "image,method,psnr,ssim,valid,views,sharpness_ratio\n"
    lines = ["x,a,25,.6,no,7,.2", "y,a,25,.6,no,7,.3", "x,b,20,.5,yes,1,1", "y,b,20,.5,yes,1,inf"]
    path = write(tmp_path / "t.csv", header + "\n".join(lines))
    found = {entry.team: entry for entry in entries(path)}
    assert [(found[team].valid, found[team].views) for team in "ab"] == [(False, 7), (True, 1)]
    assert found["a"].sharpness == pytest.approx(0.25)
    assert found["b"].sharpness == 1  # an infinite ratio is left out of the mean, as `evaluate` does
    ranking = rank(list(found.values()))
    assert [ranked.entry.team for ranked in ranking.ranked] == ["b"]
    assert [entry.team for entry in ranking.invalid] == ["a"]
    silent = entries(write(path, "image,psnr,ssim,views,sharpness_ratio\nx,20,.5,,\n"))[0]
    assert (silent.valid, silent.views, silent.sharpness) == (True, None, None)


def test_what_was_averaged_with_mixed_is_refused(
    folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(folder("real"), {"a": folder("a", seed=1), "b": folder("b", seed=2)}, tmp_path / "results")
    path = tmp_path / "results" / "summary.json"
    summary = json.loads(path.read_text())
    sentence = "a: the stainer differs from image to image (x; y)."
    path.write_text(json.dumps(summary | {"mixtures": [sentence]}))
    assert {entry.team: entry.mixtures for entry in entries(path)} == {"a": (sentence,), "b": ()}
    with pytest.raises(RestainError, match="a averages what is not alike: a: the stainer differs"):
        rank(entries(path))
    assert main(["rank", str(path), "--mixed", "--json", "--out", str(tmp_path / "board")]) == 0
    streams = capsys.readouterr()
    assert sentence in streams.err
    assert {item["team"]: item["mixtures"] for item in json.loads(streams.out)["ranking"]} == {"a": [sentence], "b": []}
    assert sentence in Page((tmp_path / "board" / "leaderboard.html").read_text(encoding="utf-8")).text
    path.write_text(json.dumps(summary | {"mixtures": ["the um/px differ (0.25 to 0.5)."]}))
    assert all(entry.mixtures for entry in entries(path))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("team,psnr,ssim\na,nan,.5\n", "line 2: psnr 'nan'"),
        ("team,psnr,ssim\na,20,.5\nb,inf,.5\n", "line 3: psnr 'inf'"),
        ("team,psnr,ssim\na,20_0,.5\n", "psnr '20_0'"),
        ("team,psnr,ssim\na,20,57.4\n", "ssim '57.4' is not a number, from -1 to 1"),
        ("team,psnr,ssim\na,20\n", "line 2: more or fewer cells"),
        ("team,psnr,ssim\na,20,9,0,5\n", "decimal comma"),
        ("team,psnr\na,20\n", "no column ssim; it has team, psnr"),
        ("name,psnr,ssim\na,20,.5\n", "no column team"),
        ("team,psnr,ssim\na,20,.5\na ,21,.5\n", "line 3: team 'a' is there twice"),
        ("team,psnr,ssim\n ,20,.5\n", "no team"),
        ("team,psnr,ssim,valid\na,20,.5,maybe\n", "line 2: valid 'maybe'"),
        ("team,psnr,ssim,valid\na,20,.5,\n", "valid ''"),
        ("team,psnr,ssim,views\na,20,.5,0\n", "views '0'"),
        ("team,psnr,ssim\n", "no rows"),
        ("", "no rows"),
        ("team,psnr,ssim,SSIM\na,20,.5,.9\n", "several columns are called ssim"),
        ("team,psnr,ssim,ssim\na,20,.5,.9\n", "several columns are called ssim"),
        (
            "image,psnr,ssim,valid\nx,20,.5,no\ny,20,.5,yes\n",
            "line 2 says False and .*line 3 says True in column valid",
        ),
        ("image,psnr,ssim,valid\nx,20,.5,\n", "valid ''"),
        ("image,psnr,ssim,views\nx,20,.5,7\ny,20,.5,\n", "in column views: it must be the same"),
        ("image,psnr,ssim,sharpness_ratio\nx,20,.5,blurred\n", "sharpness_ratio 'blurred'"),
        ("image,psnr,ssim\nx,nan,.5\n", "psnr 'nan'"),
        ("image,psnr,ssim\nx,20,.5\nx.png,20,.5\n", "image x is there twice"),
    ],
)
def test_tables_that_make_no_sense(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(RestainError, match=word.replace("(", r"\(")) as caught:
        entries(write(tmp_path / "t.csv", text))
    assert caught.value.exit_code == 2
    assert "t.csv" in str(caught.value)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(RestainError, match="UTF-8") as caught:
        entries(write(tmp_path / "t.csv", "team,psnr,ssim\nÄ,20,.5\n", "latin-1"))
    assert caught.value.exit_code == 2
    with pytest.raises(RestainError, match="no such file"):
        entries(tmp_path / "absent.csv")
    with pytest.raises(RestainError, match=r"no summary\.json"):
        entries(tmp_path)
    for text in ("{}", "[]", '{"protocol": 1}', "no json"):
        with pytest.raises(RestainError, match=r"summary\.json"):
            entries(write(tmp_path / "summary.json", text))


def test_identical_images_are_infinite(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "image,method,psnr,ssim\nx,a,inf,1\ny,a,inf,1\nx,b,inf,1\ny,b,30,.9\n")
    ranking = rank(entries(path))
    assert [ranked.entry.team for ranked in ranking.ranked] == ["a", "b"]
    found = document(ranking)
    assert found["ranking"][0]["psnr"] is None
    assert found["ranking"][1]["psnr"] == 30
    assert any("b: 1 of 2 images have infinite PSNR" in line for line in ranking.warnings())
    json.dumps(found, allow_nan=False)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(
        tmp_path / "t.csv",
        'team,psnr,ssim,valid\n<script>alert(1)</script>,20,.5,yes\n"=HYPERLINK(""x"")",19,.4,yes\n@bad,18,.3,no\n',
    )
    out = tmp_path / "board"
    assert main(["rank", str(path), "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "ranking.json").read_text())
    assert [item["team"] for item in printed["ranking"]] == ["<script>alert(1)</script>", '=HYPERLINK("x")']
    html = (out / "leaderboard.html").read_text(encoding="utf-8")
    assert "<script>alert" not in html
    page = Page(html)
    assert "<script>alert(1)</script>" in page.text
    assert "average of their ranks" in page.text
    assert "@bad" in page.text
    rows = list(csv.DictReader((out / "leaderboard.csv").open(encoding="utf-8")))
    assert [row["team"] for row in rows] == ["<script>alert(1)</script>", '\'=HYPERLINK("x")', "'@bad"]
    assert [row["rank"] for row in rows] == ["1", "2", ""]
    assert main(["rank", str(path)]) == 0
    assert "0.4 R_PSNR + 0.6 R_SSIM" in capsys.readouterr().out
    assert main(["rank", f"a={path}", str(path), str(path)]) == 2
    assert "are called" in capsys.readouterr().err


def test_names_levels_and_views_on_the_command_line(
    folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(folder("real"), {"a": folder("a", seed=1)}, tmp_path / "run1")
    words = ["rank", f"mine={tmp_path / 'run1'}", "--tta", "mine=7", "--out", str(tmp_path / "board"), "--json"]
    assert main(words) == 0
    only = json.loads(capsys.readouterr().out)["ranking"][0]
    assert (only["team"], only["views"], list(only["levels"])) == ("mine", 7, ["0", "1+", "3+"])
    page = Page((tmp_path / "board" / "leaderboard.html").read_text(encoding="utf-8"))
    assert f"{only['levels']['1+']['ssim']['mean']:.4f}" in page.text
    assert only["protocol"]["hash"] in page.text
    assert main([*words[:2], "--tta", "yours=7"]) == 2
    assert main([*words[:2], "--tta", "mine=x"]) == 2
    assert main([*words[:2], "--out", str(tmp_path / "run1")]) == 2
