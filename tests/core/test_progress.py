"""What people are told stays as it was written."""

from __future__ import annotations

import pytest

from restain.core.progress import console


def test_colons_in_paths_are_no_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    console.print("clip:x: and /slides/:smile:.svs", markup=False, soft_wrap=True)
    assert capsys.readouterr().err == "clip:x: and /slides/:smile:.svs\n"
