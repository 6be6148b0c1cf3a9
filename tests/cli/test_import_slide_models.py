"""``restain import`` of slide models as it is typed, and whether their runs predict what was recorded."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from restain.cli.main import main
from restain.her2.base import MODELS
from restain.her2.importing import Origin, import_model
from restain.her2.recipes import load_recipe
from restain.her2.train_run import load_fitted
from restain.stainers.base import STAINERS

from ..conformance.families.pama import positions, valid
from ..her2.checkpoints import chances, released
from ..her2.cohort import write, write_cohort
from ..her2.slide_models import DIM, small_model

# As recorded


@pytest.fixture(scope="module")
def load_case(shared: Path) -> Callable[[Path], Any]:
    spec = importlib.util.spec_from_file_location("conformance_run", shared / "conformance" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[[Path], Any] = module.load_case
    return function


def recorded(inputs: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    prefix = "weights.model."
    return {
        key.removeprefix(prefix): torch.from_numpy(value) for key, value in inputs.items() if key.startswith(prefix)
    }


@pytest.mark.parametrize(
    ("case", "method", "given"),
    [
        ("clam/single_small", "clam_sb", []),
        ("clam/multi_small", "clam_mb", []),
        ("clam/single_big_plain", "clam_sb", ["--set", "gated=false", "attention_width=384", "--classes", "a,b"]),
        ("transmil/model_n120", "transmil", []),
        ("transmil/model_n120_first", "transmil", ["--set", "unpad=first"]),
    ],
)
def test_recorded_weights_predict_what_was_recorded(
    case: str, method: str, given: list[str], shared: Path, load_case: Callable[[Path], Any], tmp_path: Path
) -> None:
    _, inputs, expected = load_case(shared / "conformance" / "cases" / case)
    torch.save(recorded(inputs), tmp_path / "s_0_checkpoint.pt")
    write(tmp_path / "slide.h5", inputs["features"], "resnet50", "")
    words = ["import", method, str(tmp_path / "s_0_checkpoint.pt"), "--out", str(tmp_path / "run")]
    assert main([*words, "--features", str(tmp_path / "slide.h5"), *given]) == 0
    assert main(["her2", "predict", str(tmp_path / "run"), str(tmp_path / "slide.h5"), "--out", str(tmp_path)]) == 0
    document = json.loads((tmp_path / "slide" / "prediction.json").read_text())
    np.testing.assert_allclose(list(document["probabilities"].values()), expected["probabilities"][0], atol=1e-5)


@pytest.mark.parametrize(
    ("case", "method"), [("pama/classifier_plain", "pama"), ("ipca/he_only_plain_learned", "ipca")]
)
def test_recorded_weights_with_recorded_anchors(
    case: str, method: str, shared: Path, load_case: Callable[[Path], Any], tmp_path: Path
) -> None:
    """Anchors and bins are inputs of these cases: the imported model gets them."""
    description, inputs, expected = load_case(shared / "conformance" / "cases" / case)
    torch.save({"model": recorded(inputs)}, tmp_path / "checkpoint-99.pth")
    options = description["options"]
    sizes = {"width": options["dim"], "depth": options["depth"], "heads": options["heads"]}
    if "n_prompts" in options:
        sizes["prompts"] = options["n_prompts"]
    run = import_model(
        load_recipe(method, sizes),
        tmp_path / "checkpoint-99.pth",
        tmp_path / "run",
        Origin(encoder="plip", mpp=0.5, tile_px=256),
    )
    model: Any = load_fitted(run.path)[0].model
    with torch.no_grad():
        slide, _, _ = model.encode(valid(inputs, "features", "token_mask"), positions(inputs))
        logits = model.head(slide)
    np.testing.assert_allclose(logits.numpy(), expected["logits"][0], rtol=1e-4, atol=1e-4)


# As it is typed


def test_import_prints_a_document_and_the_run_predicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, example = small_model("clam_sb"), tmp_path / "slide.h5"
    write(example, np.random.default_rng(3).normal(size=(30, DIM)).astype(np.float32), "plip", "")
    torch.save(released(model), tmp_path / "s_0_checkpoint.pt")
    words = ["import", "clam_sb", str(tmp_path / "s_0_checkpoint.pt"), "--out", str(tmp_path / "run")]
    words += ["--features", str(example), "--set", "width=16", "attention_width=8"]
    assert main([*words, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["features"]["encoder"] == "plip"
    assert "leave no trace" in captured.err
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*.*") if file.name != ".lock"}
    assert main(words) == 0
    assert "is imported already" in capsys.readouterr().err
    assert before == {file: file.stat().st_mtime_ns for file in before}
    assert main([*words, "--classes", "a,b,c,d"]) == 2
    assert "holds a run of other settings" in capsys.readouterr().err

    assert main(["her2", "predict", str(tmp_path / "run"), str(example), "--out", str(tmp_path / "out"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(list(document["probabilities"].values()), chances(model, example), atol=1e-6)
    write(tmp_path / "other.h5", np.zeros((4, DIM), np.float32), "uni")
    assert main(["her2", "predict", str(tmp_path / "run"), str(tmp_path / "other.h5"), "--out", str(tmp_path)]) == 2
    assert "encoder 'plip' and 'uni'" in " ".join(capsys.readouterr().err.split())

    cohort = write_cohort(tmp_path / "cohort", patients=12, width=DIM)
    train = ["her2", "train", "clam_sb", "--cohort", str(cohort), "--features", str(cohort.parent / "he")]
    assert main([*train, "--out", str(tmp_path / "run")]) == 2
    assert "holds a run of other settings" in capsys.readouterr().err


def test_help_and_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "--help"]) == 0
    listed = capsys.readouterr().out
    assert {entry.name for entry in (*STAINERS, *MODELS)} <= set(listed.split())
    with pytest.raises(SystemExit) as stop:
        main(["import", "transmil", "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "unpad=last" in text
    assert "--features" in text
    assert main(["import", "clam_s", "x.pt", "--out", str(tmp_path / "run")]) == 2
    assert "clam_sb" in capsys.readouterr().err
    assert main(["import", "panda", "x.pt", "--out", str(tmp_path / "run")]) == 2
    assert re.search(r"\(stainers\) or pama.* \(slide models\)", " ".join(capsys.readouterr().err.split()))
    assert main(["import", "clam_sb", "x.pt", "--out", str(tmp_path / "run"), "--config", "transmil"]) == 2
    assert "recipe is one of transmil" in capsys.readouterr().err
    assert main(["import", "clam_sb", "x.pt", "--out", str(tmp_path / "run"), "--set", "heads=3"]) == 2
    assert "has no setting heads" in capsys.readouterr().err
