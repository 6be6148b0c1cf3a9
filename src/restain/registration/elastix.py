"""One B-spline registration by elastix (Klein et al. 2010): which way each place of a picture has to move."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from restain.core.errors import ItemError

_ITERATIONS = 250
_SAMPLES = 2048
_GRID_FACTOR = 1.6
"""By how much the B-spline's grid is coarser at each coarser resolution."""
_BENDING = 1e4
"""Weight of the bending energy (per um2) beside a correlation of at most 1: keeps the map smooth on bare glass."""
_LEAST_SIDE = 32


@functools.cache
def _itk() -> Any:
    """The itk module: loading it takes a second, so only who registers does."""
    import itk

    return itk


def displacement(
    fixed: NDArray[np.float32],
    moving: NDArray[np.float32],
    fixed_mask: NDArray[np.bool_],
    moving_mask: NDArray[np.bool_],
    mpp: float,
    grid: float,
    levels: int,
    nodes: tuple[NDArray[np.float64], NDArray[np.float64]],
    seed: int = 0,
) -> NDArray[np.float32]:
    """What maps ``fixed`` onto ``moving``: a place p of the fixed picture shows what ``moving`` shows at p + u(p).

    The normalised correlation is maximised over random samples inside the masks, coarse to fine, by adaptive
    stochastic gradient descent, with a penalty on bending.

    Args:
        fixed: float32 [H, W]; pixel i lies at (i + 1/2) ``mpp``.
        moving: float32 [H, W], on the same grid.
        fixed_mask: where to compare.
        moving_mask: where ``moving`` is known.
        mpp: um/px.
        grid: spacing of the B-spline's control points, um.
        levels: resolutions, each half as fine as the next.
        nodes: positions x [columns] and y [rows], um, evenly spaced, where the displacement is wanted.
        seed: of the samples.

    Returns:
        float32 [rows, columns, 2], (x, y) in um.

    Raises:
        ItemError: elastix gave up (its reason).
    """
    if min(fixed.shape) < _LEAST_SIDE:
        raise ItemError(f"a picture of {fixed.shape[1]}x{fixed.shape[0]} px is too small to register")
    try:
        _, found = _itk().elastix_registration_method(
            _image(fixed, mpp),
            _image(moving, mpp),
            parameter_object=_parameters(grid, levels, seed),
            fixed_mask=_image(fixed_mask.astype(np.uint8), mpp),
            moving_mask=_image(moving_mask.astype(np.uint8), mpp),
            log_to_console=False,
        )
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ItemError(f"elastix gave up: {reason}") from error
    return _spline(found.GetParameterMap(0), *nodes)


def _spline(parameters: Any, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float32]:
    """A cubic B-spline transform's displacement at the crossings of x and y (um), [len(y), len(x), 2]."""
    columns, rows = (int(value) for value in parameters["GridSize"])
    origin = [float(value) for value in parameters["GridOrigin"]]
    spacing = [float(value) for value in parameters["GridSpacing"]]
    weights = np.array(parameters["TransformParameters"], np.float64).reshape(2, rows, columns)
    across, down = ((line - start) / step for line, start, step in zip((x, y), origin, spacing, strict=True))
    places = np.meshgrid(down, across, indexing="ij")
    parts = [map_coordinates(plane, places, order=3, prefilter=False, mode="nearest") for plane in weights]
    return np.stack(parts, axis=2).astype(np.float32)


def _parameters(grid: float, levels: int, seed: int) -> Any:
    itk = _itk()
    parameters = itk.ParameterObject.GetDefaultParameterMap("bspline", levels)
    parameters["Metric"] = ["AdvancedNormalizedCorrelation", "TransformBendingEnergyPenalty"]
    parameters["Metric0Weight"], parameters["Metric1Weight"] = ["1"], [str(_BENDING)]
    parameters["FinalGridSpacingInPhysicalUnits"] = [str(grid)]
    parameters["GridSpacingSchedule"] = [str(_GRID_FACTOR ** (levels - 1 - level)) for level in range(levels)]
    parameters["MaximumNumberOfIterations"] = [str(_ITERATIONS)]
    parameters["NumberOfSpatialSamples"] = [str(_SAMPLES)]
    parameters["ImageSampler"], parameters["NewSamplesEveryIteration"] = ["RandomCoordinate"], ["true"]
    parameters["RequiredRatioOfValidSamples"] = ["0.02"]
    parameters["RandomSeed"] = [str(seed)]
    chosen = itk.ParameterObject.New()
    chosen.AddParameterMap(parameters)
    return chosen


def _image(plane: NDArray[Any], mpp: float) -> Any:
    image = _itk().image_from_array(np.ascontiguousarray(plane))
    image.SetSpacing([mpp, mpp])
    image.SetOrigin([mpp / 2, mpp / 2])
    return image
