"""The H&E of a cohort row on its IHC's grid: the one place where datasets ask for a registration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from restain.core.errors import ItemError
from restain.data.cohort_table import CohortRow
from restain.registration.options import RegisterOptions
from restain.registration.register import register


def registered_row(row: CohortRow, folder: Path, options: RegisterOptions) -> tuple[CohortRow, Path]:
    """``row`` with its H&E registered in ``folder`` (or found there), and the mask of what was filled in.

    Raises:
        ItemError: the registration was rejected; the reason, and what to do.
    """
    if row.ihc is None:
        raise ItemError(f"{row.he}: the cohort gives no IHC slide for {row.name}.")
    found = register(row.he, row.ihc, folder, row.he_mpp, row.ihc_mpp, row.landmarks, options)
    if found.status != "ok":
        raise ItemError(
            f"{row.he} was not registered to {row.ihc.name}: {found.reason} Look at {folder / 'overlay.png'}. Points "
            "that both slides show help: mark at least four, and name their CSV in the cohort's column landmarks."
        )
    # the um/px in the file: that of the IHC, which the cohort may override
    return replace(row, he=found.he_registered, he_mpp=row.ihc_mpp), found.filled
