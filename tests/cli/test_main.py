from __future__ import annotations

import json
from pathlib import Path

import pytest

from restain import __version__
from restain.cli.main import COMMANDS, main
from restain.slides import write_image

from ..infer.conftest import he_picture, write_slide
from ..pairs import write_pairs


def out(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(words) == code
    return capsys.readouterr().out


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help_with_defaults(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    verbs = {"dataset": ["check"], "her2": ["score"], "study": ["new"], "train": ["pix2pix"], "import": ["pix2pix"]}
    with pytest.raises(SystemExit) as stop:
        main([command, *verbs.get(command, []), "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: restain {command}" in text
    assert "_" not in " ".join(word for word in text.split() if word.startswith("--"))
    assert "default:" in text


def test_usage_version_and_wrong_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["--help"]) == 0
    assert all(command in capsys.readouterr().out for command in ["restain COMMAND"])
    assert main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out
    assert main(["trian"]) == 2
    assert "Did you mean train" in capsys.readouterr().err


def test_info_tells_or_says_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slide = write_slide(tmp_path / "a.ome.tif", he_picture(900, 700), 0.5)
    assert "um/px: 0.5\n" in out(capsys, "info", str(slide))
    document = json.loads(out(capsys, "info", str(slide), "--json"))
    assert (document["width"], document["height"], document["mpp"]) == (900, 700, 0.5)
    assert document["tissue_area_um2"] == pytest.approx(560 * 620 * 0.25, rel=0.1)
    write_image(tmp_path / "b.jpg", he_picture(300, 200))
    assert "um/px: unknown" in out(capsys, "info", str(tmp_path / "b.jpg"))
    assert "um/px: 0.25" in out(capsys, "info", str(tmp_path / "b.jpg"), "--mpp", "0.25")
    (tmp_path / "c.svs").write_bytes(b"<html>not found</html>" * 50)
    assert main(["info", str(tmp_path / "c.svs")]) == 1
    assert "c.svs" in capsys.readouterr().err
    assert main(["info", str(tmp_path / "gone.svs")]) != 0


def test_real_slides_are_read(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in sorted((shared / "data" / "slides").iterdir()):
        code = main(["info", str(path)])
        text = capsys.readouterr().out
        if path.name == "broken.svs":
            assert code == 1
            continue
        assert code == 0
        assert ("um/px: unknown" in text) == (path.suffix == ".jpg")


def test_models_lists_every_method(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(out(capsys, "models", "--json"))
    assert {row["name"] for row in rows} >= {"pix2pix", "pyramid_pix2pix", "ipca", "clam_sb"}
    for row in rows:
        assert row["task"] in ("stain", "her2")
        assert row["paper"]
        assert row["licence"]
    assert "pyramid_pix2pix" in out(capsys, "models")


def test_dataset_check_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_pairs(tmp_path / "pairs")
    assert main(["dataset", "check", str(data)]) == 0
    next((data / "HE" / "train").iterdir()).unlink()
    broken = sorted((data / "IHC" / "train").iterdir())[-1]
    broken.write_bytes(broken.read_bytes()[:100])
    capsys.readouterr()
    document = json.loads(out(capsys, "dataset", "check", str(data), "--json", code=1))
    assert document["errors"] == 2
    assert broken.name in json.dumps(document)
    stats = json.loads(out(capsys, "dataset", "stats", str(data), "--json"))
    assert stats["levels"] == ["0", "1+", "2+", "3+"]
    assert main(["dataset", "frobnicate", str(data)]) == 2


def test_evaluate_writes_what_is_promised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_pairs(tmp_path / "pairs")
    real, he, results = data / "IHC" / "train", data / "HE" / "train", tmp_path / "results"
    words = ["evaluate", "--real", str(real), "--fake", f"h&e={he}", "--fake", f"self={real}", "--out", str(results)]
    document = json.loads(out(capsys, *words, "--json"))
    assert set(document["methods"]) == {"h&e", "self"}
    assert document["methods"]["self"]["overall"]["ssim"]["mean"] == pytest.approx(1)
    header = (results / "metrics.csv").read_text().splitlines()[0].split(",")
    assert header[:2] == ["image", "level"]
    assert {"psnr", "ssim", "dab_od_error"} <= set(header)
    assert "<html" in (results / "report.html").read_text()


def test_doctor_reports(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(out(capsys, "doctor", "--json"))
    assert any(row["check"] == "torch" and row["ok"] for row in document["checks"])


def test_synth_takes_flags_and_prints_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["synth", str(tmp_path / "c"), "--patients", "1", "--size", "512", "--seed", "3", "--same-section"]
    document = json.loads(out(capsys, *words, "--json"))
    assert [row["patient"] for row in document["patients"]] == ["p0000"]
    assert (tmp_path / "c" / "cohort.csv").exists()
    assert main(["synth", str(tmp_path / "d"), "--patients", "0"]) == 2


def test_recipes_are_named_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["train", "pix2pix", "--data", str(tmp_path), "--out", str(tmp_path / "r")]
    assert main([*base, "--config", "pyramid_pix2pix_small"]) == 2
    assert "is a recipe of pyramid_pix2pix, not of pix2pix" in capsys.readouterr().err
    assert main([*base, "--config", "pix2pix_tiny"]) == 2
    assert "Shipped for pix2pix: pix2pix, pix2pix_llvip, pix2pix_small" in capsys.readouterr().err
    (tmp_path / "bad.yaml").write_text("[1")
    assert main([*base, f"--config={tmp_path / 'bad.yaml'}"]) == 2
    assert "not a recipe that can be read" in capsys.readouterr().err


def test_evaluate_overwrites_neither_a_run_nor_its_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_pairs(tmp_path / "pairs")
    real, fake, run = data / "IHC" / "train", data / "HE" / "train", tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    (run / "metrics.csv").write_text("losses")
    words = ["evaluate", "--real", str(real), "--fake", str(fake), "--out"]
    assert main([*words, str(run)]) == 2
    assert (run / "metrics.csv").read_text() == "losses"
    assert main([*words, str(fake)]) == 2
    assert not (fake / "metrics.csv").exists()
