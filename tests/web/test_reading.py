from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from restain.study.answers import MISSING

from ..study.studies import make_study
from .readers import Reader, Study, client_of


def test_a_study_is_read_from_the_first_to_the_last_image(study: Study) -> None:
    reader = study.reader()
    terms = reader.ask("GET").json()
    assert terms == {"title": "HER2 reading", "levels": ["0", "1+", "2+", "3+"], "asks_origin": True}
    state = reader.ask("GET", "/state").json()
    items = [item["item"] for item in state["items"]]
    assert (state["answered"], state["total"], state["finished"], state["current"]) == (0, 8, False, items[0])
    grades = ["0", "1+", "2+", "3+", None, "0", "1+", "2+"]
    for place, (item, grade) in enumerate(zip(items, grades, strict=True)):
        picture = reader.ask("GET", f"/image/{item}")
        assert picture.headers["content-type"] == "image/png"
        answer = reader.put(item, grade, origin="generated" if place % 2 else None)
        following = items[place + 1] if place < 7 else None
        assert answer.json() == {
            "revision": 1, "answered": place + 1, "total": 8, "next": following, "finished": place == 7,
        }  # fmt: skip
    state = reader.ask("GET", "/state").json()
    assert (state["answered"], state["finished"], state["current"]) == (8, True, None)
    own = reader.ask("GET", f"/answer/{items[4]}").json()
    assert own == {"grade": None, "readable": False, "origin": None, "revision": 1}
    found = study.answers()
    order = found.places[0].argsort(axis=None)
    assert found.grades[0].ravel()[order].tolist() == [0, 1, 2, 3, -1, 0, 1, 2]
    assert (found.grades[1] == MISSING).all()


def test_answers_out_of_order_lead_to_what_is_left(study: Study) -> None:
    reader = study.reader()
    items = reader.items()
    assert reader.put(items[5]).json()["next"] == items[6]
    assert reader.put(items[7]).json()["next"] == items[0]
    assert reader.ask("GET", "/state").json()["current"] == items[0]
    assert reader.put(items[5], "0", revision=1).json() == {
        "revision": 2, "answered": 2, "total": 8, "next": items[6], "finished": False,
    }  # fmt: skip


def test_nothing_that_a_reader_hears_tells_truth_names_or_others(study: Study) -> None:
    alice, bob = study.reader("alice"), study.reader("bob")
    theirs, mine = alice.items(), bob.items()
    for item in theirs:
        alice.ask("GET", f"/image/{item}")
        alice.put(item, "3+", origin="real")
    for item in mine:
        assert bob.ask("GET", f"/image/{item}").status_code == 200
        bob.put(item)
        bob.ask("GET", f"/answer/{item}")
    bob.ask("GET")
    bob.ask("GET", "/image/../study.sqlite")
    bob.ask("GET", f"/image/{theirs[0]}")
    bob.ask("GET", f"/answer/{theirs[0]}")
    bob.put(theirs[0])
    bob.put(mine[0], "9")
    bob.put(mine[0], revision=7)
    bob.ask("GET", "/state")
    truth = study.answers()
    heard = b"".join(
        b"".join(name + b": " + value + b"\n" for name, value in answer.headers.raw)
        + (b"" if answer.headers["content-type"] == "image/png" else answer.content)
        for answer in bob.heard
    )
    text = heard.decode()
    secret = {*truth.pairs, *truth.images.ravel().tolist(), *theirs, "alice", "bob", "fake", "3+_", "study.sqlite"}
    secret |= {str(study.folder), study.folder.name + "/", study.made.codes["alice"], "generated", "patient"}
    for word in secret - {"generated"}:
        assert word not in text, word
    assert '"origin":"real"' not in text
    assert '"generated"' not in text
    assert not set(theirs) & set(mine)


def test_real_and_generated_images_come_alike(study: Study) -> None:
    reader = study.reader()
    truth = study.answers()
    order = truth.places[0].argsort(axis=None)
    seen = set()
    for item, index in zip(reader.items(), order, strict=True):
        answer = reader.ask("GET", f"/image/{item}")
        fields = {name.lower() for name in answer.headers}
        assert not fields & {"etag", "last-modified", "content-disposition", "content-location", "accept-ranges"}
        seen.add(tuple(sorted((name, value) for name, value in answer.headers.items() if name != "date")))
        assert answer.headers["cache-control"] == "private, no-store"
        name = truth.images[index // 2, index % 2]
        assert answer.content == (study.folder / "images" / f"{name}.png").read_bytes()
    assert len(seen) == 1


def test_who_has_no_session_hears_nothing(study: Study) -> None:
    reader = study.reader()
    item = reader.items()[0]
    for session in ("", "x" * 43, reader.session[:-1], study.reader("bob").session):
        other = Reader(study.client, study.made.id, "", session)
        statuses = [
            other.ask("GET", f"/image/{item}").status_code,
            other.ask("GET", f"/answer/{item}").status_code,
            other.put(item).status_code,
        ]
        assert statuses == ([404] * 3 if len(session) == 43 and session[0] != "x" else [401] * 3), session
    assert study.rows() == []
    assert Reader(study.client, study.made.id, "").ask("GET", "/state").status_code == 401


def test_the_same_key_counts_once(study: Study) -> None:
    reader = study.reader()
    items = reader.items()
    replies = [reader.put(items[0], key="one-and-the-same") for _ in range(3)]
    assert len({reply.text for reply in replies}) == 1
    assert len(study.rows()) == 1
    for other in (reader.put(items[0], "3+", key="one-and-the-same"), reader.put(items[1], key="one-and-the-same")):
        assert other.status_code == 409
    assert len(study.rows()) == 1
    assert study.reader("bob").put(study.reader("bob").items()[0], key="one-and-the-same").status_code == 200


def test_two_tabs(study: Study) -> None:
    one, two = study.reader(), study.reader()
    item = one.items()[2]
    assert one.put(item, "1+").json()["revision"] == 1
    late = two.put(item, "3+", revision=0)
    assert late.status_code == 409
    assert late.json()["answer"] == {"grade": "1+", "readable": True, "origin": None, "revision": 1}
    assert "another window" in late.json()["error"]
    assert two.put(item, "3+", revision=1).json()["revision"] == 2
    assert one.put(item, "0", revision=1).json()["answer"]["grade"] == "3+"
    assert one.put(item, "0", revision=3).status_code == 409
    assert [(row[3], row[4]) for row in study.rows()] == [(1, "1+"), (2, "3+")]  # every revision is kept


def test_two_tabs_at_the_same_moment(study: Study) -> None:
    reader = study.reader()
    item = reader.items()[0]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda n: reader.put(item, "2+", key=f"tab-number-{n}"), range(8)))
    assert sorted(reply.status_code for reply in replies) == [200] + [409] * 7
    assert len(study.rows()) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"grade": "4+"},
        {"grade": None, "readable": True},
        {"grade": "2+", "readable": False},
        {"grade": 2},
        {"readable": "yes"},
        {"origin": "fake"},
        {"revision": -1},
        {"revision": "0"},
        {"key": "short"},
        {"key": "x" * 65},
        {"key": "a key; with more"},
        {"more": 1},
    ],
)
def test_answers_that_make_no_sense_are_refused(study: Study, body: dict[str, Any]) -> None:
    reader = study.reader()
    item = reader.items()[0]
    good = {"grade": "2+", "readable": True, "origin": None, "revision": 0, "key": "a-good-key"}
    answer = reader.ask("PUT", f"/answer/{item}", json={**good, **body})
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert study.rows() == []


def test_origin_is_refused_where_it_is_not_asked(tmp_path: Path) -> None:
    made = make_study(tmp_path, pairs=1, readers=("a",), asks_origin=False)
    reader = Reader(client_of(tmp_path / "study"), made.id, made.codes["a"]).log_in()
    item = reader.items()[0]
    assert reader.ask("GET").json()["asks_origin"] is False
    assert reader.put(item, origin="real").status_code == 400
    assert reader.put(item).status_code == 200


def test_titles_are_text(tmp_path: Path) -> None:
    made = make_study(tmp_path, pairs=1, title="<script>alert(1)</script>")
    answer = client_of(tmp_path).get(f"/api/reading/{made.id}")
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.text)["title"] == "<script>alert(1)</script>"
