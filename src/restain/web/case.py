"""``/api/case``: the slides of one patient as layers, and how they lie on each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from restain.core.errors import ItemError, RestainError
from restain.registration import Transform
from restain.web.cases import Case, Registered
from restain.web.context import Context
from restain.web.failures import RefusedError
from restain.web.frames import frame_of
from restain.web.library import library_of
from restain.web.outside import message, number_or_none, own_file, small_object, text, text_or_none
from restain.web.sources import registered_beside
from restain.web.stamps import stamp
from restain.web.tile_api import Name, slide_document
from restain.web.transform_json import transform_document

VIRTUAL = 8
"""Virtual slides that are shown beside each other, at most."""
REGISTER_AGAIN = "Register the two slides again, or open the case without the registration."


def router(context: Context) -> APIRouter:
    """The routes."""
    routes = APIRouter()

    @routes.get("/api/case")
    def case(
        response: Response,
        he: Name | None = None,
        ihc: Name | None = None,
        virtual: Annotated[list[str] | None, Query(max_length=VIRTUAL)] = None,
        registration: Name | None = None,
    ) -> dict[str, Any]:
        response.headers["Cache-Control"] = "no-store"
        names = [("he", he), ("ihc", ihc), *(("virtual", name) for name in virtual or ())]
        layers = [_layer(context, role, name) for role, name in names if name]
        if not layers:
            raise RefusedError(400, "name at least one slide: he, ihc or virtual.")
        return describe_case(context, layers, registration)

    return routes


def _layer(context: Context, role: str, name: str) -> dict[str, Any]:
    """A layer of which only the name is known; ``file`` is its path, or ``error`` says why there is none."""
    layer: dict[str, Any] = {"role": role, "path": text(name, 4096), "file": None, "error": None}
    try:
        layer["file"] = context.root.resolve(name)
    except RestainError as error:
        layer["error"] = message(error, context.root.folder)
    return layer


def describe_case(context: Context, layers: list[dict[str, Any]], registration: str | None) -> dict[str, Any]:
    """The answer of ``/api/case``: layers with their slides, and the registration where it belongs to them."""
    files: dict[str, Path] = {layer["role"]: layer["file"] for layer in layers if layer["file"] is not None}
    known = library_of(context).case_of(files.get("he"), files.get("ihc"))
    for layer in layers:
        _describe(context, layer, known)
    answer: dict[str, Any] = {
        "patient": text_or_none(known.patient) if known else None,
        "layers": layers,
        "registration": None,
        "registration_problem": None,
        "quality": None,
    }
    registered = None
    if registration:
        try:
            path = context.root.resolve(registration)
            registered = path.with_name("he_registered.ome.tif")
            seen = stamp(path)
            transform = context.pool.transforms.load(path)
            require_same(transform, registered_beside(path), layers)
            answer["quality"] = short_quality(path.with_name("quality.json"))
            answer["registration"] = {
                "path": registration, "stamp": seen, **transform_document(transform), "quality": answer["quality"],
            }  # fmt: skip
        except RestainError as error:
            answer["registration_problem"] = message(error, context.root.folder)
    for layer in layers:
        layer["frame"] = _frame(context, layer, files, registered)
        del layer["file"]
    return answer


def _describe(context: Context, layer: dict[str, Any], known: Case | None) -> None:
    """Add the slide, or why it cannot be shown, and a label."""
    role, file = layer["role"], layer["file"]
    labels = {"he": "H&E", "ihc": "IHC", "virtual": "virtual IHC"}
    made = next((one.label for one in known.virtual if one.path == file), None) if known else None
    layer |= {"label": made or labels[role], "slide": None}
    if file is None:
        return
    given = {"he": known.he_mpp, "ihc": known.ihc_mpp}.get(role) if known else None
    try:
        layer["slide"] = slide_document(context, file, given)
    except RestainError as error:
        layer["error"] = message(error, context.root.folder)


def _frame(context: Context, layer: dict[str, Any], files: dict[str, Path], registered: Path | None) -> str | None:
    if layer["role"] != "virtual":
        return str(layer["role"])
    if layer["slide"] is None:
        return None
    own = registered if registered is not None and own_file(registered) else None
    return frame_of(context, layer["file"], files.get("he"), files.get("ihc"), own)


def require_same(transform: Transform, registered: Registered | None, layers: list[dict[str, Any]]) -> None:
    """Refuse a registration of other slides than those shown.

    Args:
        transform: the registration.
        registered: what its ``quality.json`` says of the slides; None without.
        layers: with their slides.

    Raises:
        ItemError: a slide has another size in px than that which was registered, or is another file.
    """
    for layer in layers:
        slide, role = layer["slide"], layer["role"]
        if slide is None or role == "virtual":
            continue
        size, name = {
            "he": (transform.he_size, transform.he_name), "ihc": (transform.ihc_size, transform.ihc_name),
        }[role]  # fmt: skip
        if tuple(slide["size"]) != size:
            raise ItemError(
                f"The registration is of {name or 'a slide'} with {size[0]} x {size[1]} px; {slide['name']} has "
                f"{slide['size'][0]} x {slide['size'][1]}. {REGISTER_AGAIN}"
            )
        then = None if registered is None else registered.he if role == "he" else registered.ihc
        try:
            now = layer["file"].stat().st_size
        except OSError:  # gone meanwhile; its tiles will say so
            continue
        # a slide may have been renamed, or (without quality.json) only its name is known
        if (then is not None and then.bytes != now) or (then is None and name != slide["name"]):
            raise ItemError(
                f"The registration is of another {name or 'slide'} than this {slide['name']}, or the slide has changed "
                f"since. {REGISTER_AGAIN}"
            )


def short_quality(path: Path) -> dict[str, Any] | None:
    """How good a registration is, in a few figures; None where nothing says so."""
    if not own_file(path):
        return None
    try:
        document = small_object(path)
    except RestainError:
        return None
    stages = document.get("stages")
    stages = stages if isinstance(stages, dict) else {}

    def figure(stage: object, name: str) -> float | None:
        figures = stages.get(stage) if isinstance(stage, str) else None
        return number_or_none(figures.get(name)) if isinstance(figures, dict) else None

    last = document.get("stage")
    return {
        "status": text_or_none(document.get("status"), 40),
        "reason": text_or_none(document.get("reason"), 1000),
        "stage": text_or_none(last, 40),
        "confidence": number_or_none(document.get("confidence")),
        "mutual_information_before": figure("unaligned", "mutual_information"),
        "mutual_information_after": figure(last, "mutual_information"),
    }
