"""What ``restain doctor`` says of the weights that metrics need."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from restain.cli.main import main
from restain.metrics import METRICS


def rows(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, str]:
    main(["doctor", "--json", *words])
    checks = json.loads(capsys.readouterr().out)["checks"]
    return {row["check"]: row["finding"] for row in checks if row["check"].startswith("weights of")}


def test_every_metric_with_weights_has_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    found = rows(capsys)
    for metric in METRICS:
        row = found.get(f"weights of {metric.name}")
        assert (row is not None) == bool(metric.info.weights)
        assert all(file in (row or "") for file in metric.info.weights)
    assert "fid is not computed: it wants pt_inception-2015-12-05-6726825d.pth" in found["weights of fid"]


def test_files_that_are_there_are_named_with_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    cached = tmp_path / "cache" / "hub" / "checkpoints"
    cached.mkdir(parents=True)
    (cached / "vgg16-397923af.pth").touch()
    (cached / "resnet50-0676ba61.pth").touch()
    own = tmp_path / "own"
    own.mkdir()
    (own / "resnet50-0676ba61.pth").touch()
    found = rows(capsys, "--weights", str(own))
    assert found["weights of phv"] == str(own / "resnet50-0676ba61.pth"), "the folder comes before the cache"
    assert rows(capsys)["weights of phv"] == str(cached / "resnet50-0676ba61.pth")
    dists = found["weights of dists"]
    assert "wants weights.pt in" in dists
    assert str(cached / "vgg16-397923af.pth") in dists
