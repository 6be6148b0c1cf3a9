"""Protocols are frozen."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from restain.core.errors import RestainError
from restain.evaluate import load_protocol
from restain.evaluate.protocol import DEFAULT_PROTOCOL

BCI = (resources.files("restain") / "configs" / "protocols" / "bci.yaml").read_text(encoding="utf-8")


def test_bci_is_frozen() -> None:
    protocol = load_protocol("bci")
    # A change of this hash makes published numbers incomparable: it needs a new version of the protocol.
    assert (protocol.name, protocol.version, protocol.hash) == ("bci", 1, "92249d1dc0095bc5")
    assert list(protocol.metrics)[:3] == ["psnr", "ssim", "dab_od_error"]


def test_version_2_is_frozen_and_adds_to_version_1() -> None:
    first, second = load_protocol("bci"), load_protocol("bci-2")
    assert (second.name, second.version, second.hash) == ("bci", 2, "7c46a59a5c70a57c")
    assert dict(second.metrics) == {**first.metrics, "sharpness_ratio": 1}
    assert (second.interval, second.pictures_by) == (first.interval, first.pictures_by)


def test_version_3_is_frozen_and_the_default() -> None:
    second, third = load_protocol("bci-2"), load_protocol("bci-3")
    assert (third.name, third.version, third.hash) == ("bci", 3, "7b4ee801aeded37b")
    assert second.metrics.items() <= third.metrics.items()
    assert DEFAULT_PROTOCOL == "bci-3"


def test_asp_is_frozen() -> None:
    protocol = load_protocol("asp")
    assert (protocol.name, protocol.version, protocol.hash) == ("asp", 1, "ae38bb70f78cf5ce")


def test_hash_is_of_the_content_not_of_comments(tmp_path: Path) -> None:
    same, other = tmp_path / "same.yaml", tmp_path / "other.yaml"
    same.write_text("# another comment\n" + BCI)
    other.write_text(BCI.replace("seed: 0", "seed: 1"))
    assert load_protocol(same).hash == load_protocol("bci").hash
    assert load_protocol(other).hash != load_protocol("bci").hash


def test_unknown_protocol_names_the_known() -> None:
    with pytest.raises(RestainError, match=r"no protocol 'bcl'.*bci"):
        load_protocol("bcl")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("psnr: 1", "psnr: 2", "wants version 2 of psnr, this restain computes version 1"),
        ("psnr: 1", "pnsr: 1", "no metric 'pnsr'.*psnr"),
        ("version: 1\n", "version: 1\nwindow: 11\n", "its keys are"),
        ("pictures_by: dab_od_error", "pictures_by: fid", "none of its metrics"),
        ("confidence: 0.95", "confidence: 95", "makes no interval"),
        ("mean_over: images", "mean_over: pixels", "only 'images'"),
        ("name: bci", "name: [bci", "not a protocol"),
    ],
)
def test_what_is_not_a_protocol(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(BCI.replace(old, new, 1))
    with pytest.raises(RestainError, match=message):
        load_protocol(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RestainError, match=r"none\.yaml: the protocol cannot be read"):
        load_protocol(tmp_path / "none.yaml")
