"""H&E to IHC: landmarks, coarse alignment, elastix, border repair, warping of points and slides."""

from restain.registration.landmarks import read_landmarks
from restain.registration.options import RegisterOptions, Registration
from restain.registration.projective import Limits, check_projective, fit_projective, quadrilateral_homography
from restain.registration.register import register
from restain.registration.shapes import warp_geojson, warp_points_csv
from restain.registration.transform import Transform
from restain.registration.warp import WarpedSlide, warp_slide

__all__ = [
    "Limits",
    "RegisterOptions",
    "Registration",
    "Transform",
    "WarpedSlide",
    "check_projective",
    "fit_projective",
    "quadrilateral_homography",
    "read_landmarks",
    "register",
    "warp_geojson",
    "warp_points_csv",
    "warp_slide",
]
