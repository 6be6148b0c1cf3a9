"""Reports: one HTML file each, readable without a network, from results that others computed."""

from restain.report.dataset import draw_levels
from restain.report.evaluation import evaluation_sections, write_evaluation_report
from restain.report.html import write_report
from restain.report.pictures import Picture, chart, photo, signed_map
from restain.report.sections import (
    Facts,
    Figure,
    Listing,
    Note,
    PictureRow,
    PictureTable,
    Section,
    Table,
    Text,
)

__all__ = [
    "Facts",
    "Figure",
    "Listing",
    "Note",
    "Picture",
    "PictureRow",
    "PictureTable",
    "Section",
    "Table",
    "Text",
    "chart",
    "draw_levels",
    "evaluation_sections",
    "photo",
    "signed_map",
    "write_evaluation_report",
    "write_report",
]
