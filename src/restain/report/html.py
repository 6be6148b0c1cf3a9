"""Write a report: a single HTML file with everything in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

import restain
from restain.core.files import write_text
from restain.report.sections import Section


def write_report(path: Path, title: str, sections: Sequence[Section], subtitle: str = "") -> None:
    """Write a report that is readable without a network and prints.

    Args:
        path: the HTML file, written atomically.
        title: its title.
        sections: its parts, in order; more than two get a table of contents.
        subtitle: a line below the title.

    Raises:
        ItemError: it could not be written.
    """
    environment = Environment(
        loader=PackageLoader("restain.report", "templates"),
        autoescape=True,  # names of files and methods come from outside
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html")
    text = template.render(title=title, subtitle=subtitle, sections=sections, version=restain.__version__)
    write_text(path, text.encode("utf-8", "replace").decode("utf-8"))
