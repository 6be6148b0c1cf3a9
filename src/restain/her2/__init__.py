"""HER2 of a slide: scored on its IHC, real or virtual (``score``)."""

from restain.her2.run import score_images
from restain.her2.score import Scored, score_slide

__all__ = ["Scored", "score_images", "score_slide"]
