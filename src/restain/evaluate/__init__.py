"""Evaluation: protocols, pairing, per-image values, tables by level with intervals, and the reference to beat."""

from restain.evaluate.bootstrap import Estimate, estimate
from restain.evaluate.measure import Failure
from restain.evaluate.pictures import Example, Pictures
from restain.evaluate.protocol import Interval, Protocol, load_protocol
from restain.evaluate.reference import BestConstant, best_constant
from restain.evaluate.results import REFERENCE, Row, Summary, Unpaired
from restain.evaluate.run import evaluate
from restain.evaluate.tables import Table

__all__ = [
    "REFERENCE",
    "BestConstant",
    "Estimate",
    "Example",
    "Failure",
    "Interval",
    "Pictures",
    "Protocol",
    "Row",
    "Summary",
    "Table",
    "Unpaired",
    "best_constant",
    "estimate",
    "evaluate",
    "load_protocol",
]
