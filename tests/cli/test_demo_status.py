"""The demo's last section: who is held out, and what the report says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from restain.cli.demo_status import TESTED, Status, choose_tested, status_document, status_section
from restain.data.cohort_table import CohortRow
from restain.report import write_report
from restain.slides import write_image

LEVELS = ("0", "1+", "2+", "3+")


def rows(count: int = 6) -> list[CohortRow]:
    return [
        CohortRow(f"{level}_{i}", f"{level}_{i}", Path(f"{level}_{i}.tif"), None, 0.5, 0.5, level, None)
        for i in range(count)
        for level in LEVELS
    ]


def test_those_who_were_stained_are_tested_and_as_many_of_the_others() -> None:
    stained = ["3+_0", "3+_2", "3+_3"]
    tested = choose_tested(rows(), stained)
    assert [name for name in tested if name.startswith("3+")] == stained
    for level in LEVELS[:3]:
        assert sum(name.startswith(level) for name in tested) == TESTED


def test_the_report_tells_right_from_wrong_and_none_from_not_made(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.full((60, 90, 3), 200, np.uint8))
    chances = dict(zip(LEVELS, (0.1, 0.2, 0.3, 0.4), strict=True))
    found = [
        Status("p1", "3+", "3+", chances, "3+", "2+", tmp_path / "a.png"),
        Status("p2", "0", "3+", chances, "0", "", tmp_path / "a.png"),
        Status("p3", "1+", "3+", chances, None, None, tmp_path / "a.png"),
    ]
    document = {"status": status_document(found, 44)}
    assert (document["status"]["right"], document["status"]["real_ihc_right"]) == (1, 2)
    assert document["status"]["patients"]["p2"]["virtual_ihc"] is None
    write_report(tmp_path / "report.html", "demo", [status_section(document, found)])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "44 of the patients" in text
    assert text.count("not made") == 1
    assert text.count("no score") == 2
    assert "Attention over the H&amp;E of patient p2" in text
