"""Every command of the README runs; what needs hours is made small."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from restain.cli.main import main
from restain.slides import PyramidWriter
from restain.stainers.base import STAINERS, build
from restain.synthetic import SlideRenderer, SynthOptions, World

from ..infer.conftest import he_picture, write_slide
from ..pairs import write_pairs

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "train": [
        "--stainer.generator_width", "4", "--stainer.discriminator_width", "4",
        "--batches.workers", "0", "--training.epochs", "1", "--training.epochs_decay", "1",
    ],
    "downstream": [
        "--size", "64", "--epochs", "1", "--batch", "4", "--width", "2", "--seeds", "1", "--accelerator", "cpu",
    ],
    "synth": ["--patients", "1", "--size", "640"],
    "her2 crossval": [
        "--folds", "2", "--resamples", "100", "--workers", "1",
        "--set", "width=16", "depth=1", "prompts=4", "training.epochs=1", "training.min_epochs=1",
    ],
    "study new": ["--pairs", "2"],
    "import": ["--stainer.generator_width", "4", "--stainer.discriminator_width", "4"],
}  # fmt: skip
LENGTHY = ("demo", "serve")
"""Run by `make demo` and by tests/browser."""


def commands(text: str) -> list[list[str]]:
    """The words after ``restain`` of every line in a shell block."""
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.S)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [words[1:] for words in lines if words and words[0] == "restain"]


def write_checkpoints(folder: Path) -> None:
    """Thin networks in files as the authors' codes name them."""
    epochs = {"bci": ("pyramid_pix2pix", "latest"), "asp": ("asp", "latest"), "tdkstain": ("tdkstain", "100")}
    for name, (method, epoch) in epochs.items():
        (folder / name).mkdir(parents=True)
        stainer = build(method, STAINERS[method].info.config(generator_width=4, discriminator_width=4))
        state = {theirs: stainer.state_dict()[ours] for ours, theirs in stainer.reference_keys().items()}
        for network, _ in stainer.named_children():
            own = {key.split(".", 1)[1]: value for key, value in state.items() if key.split(".", 1)[0] == network}
            torch.save(own, folder / name / f"{epoch}_net_{network}.pth")


def write_cohort(folder: Path) -> None:
    """Twelve patients of four levels, all with the same small slides."""
    rows = ["patient,he,ihc,her2"]
    (folder / "slides").mkdir()
    for number in range(12):
        for stain in ("he", "ihc"):
            write_slide(folder / "slides" / f"p{number}_{stain}.ome.tif", he_picture(520, 260), 0.5)
        level = ("0", "1+", "2+", "3+")[number % 4]
        rows.append(f"p{number},slides/p{number}_he.ome.tif,slides/p{number}_ihc.ome.tif,{level}")
    (folder / "cohort.csv").write_text("\n".join(rows))


def write_ihc(path: Path) -> None:
    """A synthetic IHC slide of level 3+."""
    options = SynthOptions(size=640, seed=31, levels=(0, 0, 0, 1), folds=0, bubbles=0, out_of_focus=0)
    with PyramidWriter(path, (640, 640), 0.5, quality=90) as slide:
        slide.write(0, 0, SlideRenderer(World(options, 0), "ihc").block(0, 0).rgb)


def test_the_readme_has_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"make {target}" in text
        assert re.search(rf"^{target}:", makefile, flags=re.M)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("document", ["README.md", *sorted(p.name for p in (ROOT / "docs").glob("*.md"))])
def test_every_command_runs(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ROOT / document if document == "README.md" else ROOT / "docs" / document
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "pairs", side=128)
    (tmp_path / "pairs" / "HE" / "test").mkdir()
    (tmp_path / "pairs" / "IHC" / "test").mkdir()
    for side in ("HE", "IHC"):
        for file in (tmp_path / "pairs" / side / "val").iterdir():
            file.rename(tmp_path / "pairs" / side / "test" / file.name.replace("val", "test"))
    write_slide(tmp_path / "case1.ome.tif", he_picture(700, 600), 0.5)
    write_checkpoints(tmp_path / "checkpoints")
    if "ihc.ome.tif" in path.read_text():
        write_ihc(tmp_path / "ihc.ome.tif")
    if "her2 features cohort.csv" in path.read_text():
        write_cohort(tmp_path)
    if "study new" in path.read_text():
        shutil.copytree(tmp_path / "pairs" / "HE" / "test", tmp_path / "virtual")
    (tmp_path / "points.csv").write_text("x,y,name\n100,120,a\n300.5,200,b\n")
    for words in commands(path.read_text()):
        if words[0] in LENGTHY:
            continue
        try:
            code = main([*words, *SMALL.get(words[0], SMALL.get(" ".join(words[:2]), []))])
        except SystemExit as stop:  # --help
            code = int(stop.code or 0)
        assert code == 0, " ".join(words)
