"""A registration as JSON, small enough for a browser that locks two slides to each other through it."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from restain.registration import Transform

NODES = 160
"""Nodes along each side of the field, at most; finer fields are sampled anew."""


def transform_document(transform: Transform) -> dict[str, Any]:
    """Sizes, um/px, matrix and field of a registration.

    Returns:
        ``he_size``, ``ihc_size`` (width, height; px), ``he_mpp``, ``ihc_mpp``, ``matrix`` (IHC px to H&E px) and
        ``field``: None, or ``columns``, ``rows``, ``origin`` and ``spacing`` (x, y; IHC px) and ``data``: little-endian
        float32 (dx, dy) row by row in IHC px, as base64. An IHC point p lies on the H&E at matrix(p + u(p)), with u
        bilinear between the nodes and constant beyond them.
    """
    return {
        "he_size": list(transform.he_size),
        "ihc_size": list(transform.ihc_size),
        "he_mpp": transform.he_mpp,
        "ihc_mpp": transform.ihc_mpp,
        "matrix": transform.matrix.tolist(),
        "field": None if transform.displacement is None else _field(transform, transform.displacement.shape),
    }


def _field(transform: Transform, shape: tuple[int, ...]) -> dict[str, Any]:
    rows, columns = (min(nodes, NODES) for nodes in shape[:2])
    # from the first node to the last, so that what lies beyond stays as it is
    spacing = [
        transform.spacing * (old - 1) / (new - 1) for old, new in zip(shape[1::-1], (columns, rows), strict=True)
    ]
    across, down = (
        start + step * np.arange(count)
        for start, step, count in zip(transform.origin, spacing, (columns, rows), strict=True)
    )
    places = np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2)
    moved = (transform.displaced(places) - places).astype("<f4")
    assert len(moved) == math.prod((rows, columns))
    return {
        "columns": columns,
        "rows": rows,
        "origin": [float(value) for value in transform.origin],
        "spacing": spacing,
        "data": base64.b64encode(moved.tobytes()).decode("ascii"),
    }
