"""The page of the taxonomy: complete, and its pictures are those that the command draws."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ptqx.errors import PtqxError
from ptqx.quant import LEVELS, METHODS, OBSERVERS, QUANTIZERS, TARGETS, presets
from ptqx.study import draw_pictures, names
from ptqx.study.formats import QAT_SUFFIX
from ptqx.study.pictures import PICTURES

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "taxonomy.md").read_text()
FORMATS = [name for name in names() if not name.endswith(QAT_SUFFIX)]
WRITTEN = set(re.findall(r"`([^`\n]+)`", PAGE))
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    "identifiers",
    [presets(), FORMATS, LEVELS, OBSERVERS, QUANTIZERS, METHODS, TARGETS],
    ids=["recipes", "formats", "levels", "observers", "quantizers", "methods", "targets"],
)
def test_every_identifier_is_on_the_page(identifiers: object) -> None:
    assert set(identifiers) - WRITTEN == set()  # type: ignore[call-overload]


def test_tables_of_formats_have_a_row_for_every_format() -> None:
    tables = [
        [line.split("|")[1].strip() for line in part.splitlines() if line.startswith("| ")]
        for part in re.split(r"\n{2,}", PAGE)
    ]
    of_formats = [table[1:] for table in tables if table[:1] == ["format"]]
    assert of_formats and all(table == FORMATS for table in of_formats)


def test_pictures_of_the_page_are_those_of_the_command() -> None:
    shown = re.findall(r"!\[[^\]]+\]\(taxonomy/(\w+)\.png\)", PAGE)
    assert sorted(shown) == sorted(PICTURES) == sorted(path.stem for path in (DOCS / "taxonomy").iterdir())


def test_command_draws_every_picture(tmp_path: Path) -> None:
    written = draw_pictures(tmp_path / "pictures")
    assert [path.stem for path in written] == list(PICTURES)
    for path in written:
        content = path.read_bytes()
        width = int.from_bytes(content[16:20], "big")
        assert content.startswith(PNG) and width == 1000 and len(content) > 5000


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(PtqxError, match="expected a folder"):
        draw_pictures(tmp_path / "taken")
