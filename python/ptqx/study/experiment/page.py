"""The page of a file of results, whichever command wrote it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ...files import write_text
from ..report import read_report
from .report import render
from .results import is_study, read_results


def page_of(results: str | os.PathLike[str], html: str | os.PathLike[str]) -> None:
    """Write the HTML page of a comparison's or a study's JSON.

    Raises:
        PtqxError: the file can't be read, or is neither.
    """
    try:
        study = is_study(json.loads(Path(results).read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        study = False  # read_report says what is wrong
    if study:
        write_text(html, render(read_results(results)))
    else:
        read_report(results).to_html(html)
