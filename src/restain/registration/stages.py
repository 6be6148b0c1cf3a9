"""The stages of a registration: each is measured, and kept only where it helps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restain.core.files import atomic_path
from restain.core.items import once
from restain.core.progress import progress_bar
from restain.registration.assess import assess, overall
from restain.registration.blocks import BlockResult, Box, step
from restain.registration.coarse import Coarse, align
from restain.registration.landmarks import read_landmarks
from restain.registration.options import RegisterOptions
from restain.registration.overlay import overlay
from restain.registration.pictures import Side, stain_angle
from restain.registration.projective import check_projective, fit_projective
from restain.registration.quality import folding
from restain.registration.transform import Transform
from restain.registration.warp import WarpedSlide, warp_slide
from restain.slides import write_image

_SAME_STAIN = 3.5
"""Degrees of ``stain_angle`` below which both slides have one stain, from one laboratory."""
_WHOLE_SIDE = 1400
"""Longer side in px of the picture of the first elastic step."""
_WHOLE_GRID = 1 / 12
"""Spacing of that step's B-spline grid as a share of the longer side, if that is more than ``grid``."""
_LEVELS = {"elastic": 4, "blocks": 2}
"""Resolutions of elastix: blocks begin where the whole slide is aligned already, so two give what four do."""
_OVERLAY_SIDE = 900


class Rejected(Exception):  # noqa: N818 (not an error: an outcome)
    """The registration must not be passed on."""


class Job:
    """One registration on its way: what is known so far, and the clock."""

    def __init__(self, out: Path, key: str, he: Side, ihc: Side, options: RegisterOptions) -> None:
        self.out, self.key, self.he, self.ihc, self.options = out, key, he, ihc, options
        self.seconds: dict[str, float] = {}
        self.stages: dict[str, dict[str, Any]] = {}
        self.blocks: dict[str, list[dict[str, Any]]] = {}
        self.notes: list[str] = []

    def run(self, landmarks: Path | None) -> dict[str, Any]:
        """All stages; the document for ``quality.json``."""
        he, ihc = self.he, self.ihc
        unaligned = self._transform(np.eye(3))
        document: dict[str, Any] = {"status": "ok", "reason": "", "stage": "projective"}
        transform = unaligned
        try:
            self._measure("unaligned", unaligned)
            document["stain_angle"] = self._stains()
            coarse = self._projective(landmarks)
            document |= {
                "confidence": round(coarse.confidence, 4),
                "projective": {"source": coarse.source, "ncc": round(coarse.ncc, 4), "rival": round(coarse.rival, 4)},
            }
            self._check(coarse, landmarks is not None)
            transform = self._transform(coarse.matrix)
            self._measure("projective", transform)
            self._check_gain()
            if self.options.elastic:
                transform, document["stage"] = self._elastic(transform)
            with self._clock("warping"):
                warped = warp_slide(
                    he.slide, transform, self.out / "he_registered.ome.tif", self.out / "filled.ome.tif",
                    quality=self.options.jpeg_quality,
                )  # fmt: skip
            transform.save(self.out / "transform.json")
            document["filled"] = round(warped.filled, 6)
        except Rejected as reason:
            document |= {"status": "rejected", "reason": str(reason)}
            for name in ("he_registered.ome.tif", "filled.ome.tif", "transform.json", "field.npz"):
                (self.out / name).unlink(missing_ok=True)
        if document["status"] == "ok":
            document["reason"] = " ".join(self.notes)
        with self._clock("overlay"):
            self._overlay(unaligned, transform, "registered" if document["status"] == "ok" else "rejected")
        last = self.blocks.get(document["stage"], self.blocks["unaligned"])
        blocks = [
            {
                **{name: block[name] for name in ("row", "column", "x", "y", "width", "height")},
                "before": _figures(before),
                "after": _figures(block),
            }
            for before, block in zip(self.blocks["unaligned"], last, strict=True)
        ]
        sides = {
            name: {"slide": side.slide.path.name, "size": list(side.slide.size), "mpp": side.mpp}
            for name, side in (("he", he), ("ihc", ihc))
        }
        return {
            **document,
            **sides,
            "stages": self.stages,
            "blocks": blocks,
            "folding": folding(transform.jacobian()).to_json(),
            "seconds": self.seconds,
        }

    def _projective(self, landmarks: Path | None) -> Coarse:
        """The projective step; its matrix maps IHC um to H&E um."""
        he, ihc = self.he, self.ihc
        with self._clock("projective"):
            given = None
            if landmarks is not None:
                he_points, ihc_points = read_landmarks(landmarks, he.slide.size, ihc.slide.size)
                matrix, used = fit_projective(ihc_points, he_points, name=str(landmarks))
                given = np.diag([he.mpp, he.mpp, 1]) @ matrix @ np.diag([1 / ihc.mpp, 1 / ihc.mpp, 1])
                if not used.all():
                    self.notes.append(f"{int((~used).sum())} of {len(used)} landmarks were left out as outliers.")

            record = self._once("projective", lambda: _jsonable(align(he, ihc, given)))
        return Coarse(**{**record, "matrix": np.array(record["matrix"])})

    def _stains(self) -> float:
        """The angle between the stains.

        Raises:
            Rejected: they are one.
        """
        angle = round(stain_angle(self.he, self.ihc), 2)
        if angle < _SAME_STAIN and not self.options.same_stain:
            raise Rejected(
                f"both slides seem to have the same stain (their mean colours differ by only {angle:g} degrees). "
                "Give the H&E and the IHC; --same-stain registers these all the same."
            )
        return angle

    def _check_gain(self) -> None:
        """Refuse a projective step after which the stains share less than before.

        Raises:
            Rejected: with the figures.
        """
        worse = self._worse("unaligned", "projective")
        if worse:
            raise Rejected(f"the projective step made it worse: {worse}.")

    def _worse(self, before: str, after: str) -> str:
        """In which way a stage made it worse than an earlier one; empty where it did not."""
        was, now = (self.stages[name]["mutual_information"] for name in (before, after))
        if was is None or (now is not None and now >= was):
            return ""
        return f"the mutual information fell from {was:.4f} to " + ("nothing" if now is None else f"{now:.4f}")

    def _check(self, coarse: Coarse, by_hand: bool) -> None:
        """Refuse what must not be passed on.

        Raises:
            Rejected: with the reason.
        """
        score = f"confidence {coarse.confidence:.2f}: correlation {coarse.ncc:.2f}, {coarse.rival:.2f} at another turn"
        if not by_hand and coarse.confidence < self.options.confidence:
            raise Rejected(
                f"no alignment stands out ({score}; {self.options.confidence:g} is needed). The slides may show "
                "different tissue; if they do not, give at least four point pairs with --landmarks."
            )
        absurd = check_projective(
            self._pixels(coarse.matrix),
            self.ihc.slide.size,
            self.he.slide.size,
            self.ihc.mpp,
            self.he.mpp,
            self.options.limits,
        )
        if absurd:
            raise Rejected(f"the projective step is absurd: {absurd}.")
        if by_hand and coarse.confidence < self.options.confidence:
            self.notes.append(f"The landmarks do not bring similar tissue together ({score}); look at overlay.png.")

    def _elastic(self, transform: Transform) -> tuple[Transform, str]:
        """Both elastic steps, each kept only where it helps; the transform and the last stage kept."""
        options, kept = self.options, "projective"
        longest = max(self.ihc.extent)
        finest = max(self.he.mpp, self.ihc.mpp, options.working_mpp)
        steps = {
            "elastic": (1, max(finest, longest / _WHOLE_SIDE), max(options.grid, longest * _WHOLE_GRID)),
            "blocks": (options.blocks, finest, options.grid),
        }
        for name, (count, mpp, grid) in steps.items():
            with self._clock(name), progress_bar(f"elastix, {count} x {count}", count**2) as bar:
                found, report, smoothed = step(
                    transform,
                    self.he,
                    self.ihc,
                    count,
                    mpp,
                    grid,
                    _LEVELS[name],
                    self._resuming(f"{name} after {kept}", bar.advance),
                )
            reason = self._why_not(name, kept, found, report)
            if found is not None:
                self.stages.setdefault(name, {}).update(registration=report, smoothed=round(smoothed, 4))
            if reason:
                self.notes.append(f"Stage {name} was not kept: {reason}.")
                self.stages.setdefault(name, {"registration": report})["rejected"] = reason
                continue
            assert found is not None
            transform, kept = found, name
        return transform, kept

    def _why_not(self, name: str, kept: str, found: Transform | None, report: list[dict[str, Any]]) -> str:
        """Why a step must not be kept; empty where it may."""
        if found is None:
            return "it would fold or stretch the tissue beyond bounds"
        if all(block["reason"] for block in report):
            return "no block could be registered (" + "; ".join(sorted({block["reason"] for block in report})) + ")"
        self._measure(name, found)
        return self._worse(kept, name)

    def _resuming(
        self, name: str, advance: Callable[[], None]
    ) -> Callable[[Box, Callable[[], BlockResult]], BlockResult]:
        """Does the work on a block, or takes what an earlier call found."""

        def each(box: Box, work: Callable[[], BlockResult]) -> BlockResult:
            path = self.out / ".state" / f"{name} {box.name}.npz"

            def do() -> dict[str, Any]:
                result = work()
                with atomic_path(path) as temporary, temporary.open("wb") as stream:
                    np.savez(stream, field=result.field)
                return {"before": result.before, "after": result.after, "reason": result.reason}

            record = self._once(f"{name} {box.name}", do, path)
            advance()
            with np.load(path, allow_pickle=False) as stored:
                return BlockResult(stored["field"], **record)

        return each

    def _once(self, name: str, work: Callable[[], dict[str, Any]], *files: Path) -> dict[str, Any]:
        return once(work, self.out / ".state" / f"{name}.json", self.key, lambda: files)

    def _measure(self, name: str, transform: Transform) -> None:
        """Note the figures of a stage."""
        with self._clock("quality"):
            record = self._once(
                f"quality {name}", lambda: {"blocks": assess(transform, self.he, self.ihc, self.options.blocks)}
            )
        self.blocks[name] = record["blocks"]
        self.stages.setdefault(name, {}).update(overall(record["blocks"]))

    def _transform(self, matrix: NDArray[np.float64]) -> Transform:
        """The transform of a homography from IHC um to H&E um."""
        he, ihc = self.he, self.ihc
        return Transform(
            matrix=self._pixels(matrix), displacement=None, origin=(0.0, 0.0), spacing=1.0,
            he_size=he.slide.size, ihc_size=ihc.slide.size, he_mpp=he.mpp, ihc_mpp=ihc.mpp,
            he_name=he.slide.path.name, ihc_name=ihc.slide.path.name,
        )  # fmt: skip

    def _pixels(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """A homography from IHC um to H&E um, for px."""
        pixels = np.diag([1 / self.he.mpp, 1 / self.he.mpp, 1]) @ matrix @ np.diag([self.ihc.mpp, self.ihc.mpp, 1])
        return np.asarray(pixels / np.linalg.norm(pixels), np.float64)

    def _overlay(self, before: Transform, after: Transform, title: str) -> None:
        mpp = max(self.ihc.mpp, max(self.ihc.extent) / _OVERLAY_SIDE)
        size = tuple(max(1, round(side / mpp)) for side in self.ihc.extent)
        pictures = [WarpedSlide(self.he.slide, stage).read(0, 0, size[0], size[1], mpp)[0] for stage in (before, after)]
        ihc = self.ihc.slide.read(0, 0, size[0], size[1], mpp)
        write_image(self.out / "overlay.png", overlay(pictures[0], pictures[1], ihc, mpp, "unaligned", title))

    @contextmanager
    def _clock(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0) + time.perf_counter() - start, 2)


def _figures(block: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in block.items() if key not in ("row", "column", "x", "y", "width", "height")}


def _jsonable(coarse: Coarse) -> dict[str, Any]:
    return {**asdict(coarse), "matrix": coarse.matrix.tolist()}
