from __future__ import annotations

import json
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from ptqx.errors import PtqxError
from ptqx.study import Report, Row, read_report

HOSTILE = "<script>alert('x')</script>"  # as in the fixture `report`


def test_json_holds_everything_and_comes_back_equal(report: Report, tmp_path: Path) -> None:
    report.to_json(tmp_path / "results.json")
    again = read_report(tmp_path / "results.json")
    assert again.rows == report.rows
    assert again.speed == report.speed
    assert float(again.sqnr[0]["output_db"]) == math.inf


def test_json_rows_have_exactly_the_contract_s_keys(report: Report) -> None:
    keys = {
        *("format", "kind", "execution", "top1", "drop", "drop_ci95", "agreement", "size_bytes"),
        *("latency_ms", "throughput", "speedup_vs_fp32", "coverage", "batch", "threads", "isa", "detail"),
    }
    assert set(Row.__annotations__) == keys
    assert all(set(row) == keys for row in json.loads(report.to_json())["rows"])


def test_json_is_strict_json(report: Report) -> None:
    assert "Infinity" not in report.to_json()
    assert "NaN" not in report.to_json()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "list of rows"),
        ('{"rows": 3}', "list of rows"),
        ('{"rows": [], "schema": 99}', "schema 1"),
        ('{"schema": 1, "rows": [], "info": {}, "machine": {}, "rowz": 1}', "unknown key 'rowz'"),
        ('{"schema": 1, "rows": []}', "info"),
        ('{"schema": 1, "rows": [{"format": "int8"}], "info": {}, "machine": {}}', "lacks"),
        ('{"schema": 1, "rows": [7], "info": {}, "machine": {}}', "lacks"),
    ],
    ids=[
        "truncated",
        "list",
        "rows-number",
        "other-version",
        "unknown-key",
        "no-info",
        "row-keys",
        "row-type",
    ],
)
def test_other_json_raises_one_clear_error(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(PtqxError, match=message) as caught:
        read_report(file)
    assert str(file) in str(caught.value)


def test_missing_file_raises(tmp_path: Path) -> None:
    with pytest.raises(PtqxError, match="can't read"):
        read_report(tmp_path / "none.json")


def test_markdown_has_a_line_for_every_format_and_says_what_was_not_measured(report: Report) -> None:
    lines = report.to_markdown().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:6]] == ["fp32", "fp16", "int8", "int4-qat"]
    assert "not measured" in lines[3]
    assert "+0.50 [+0.25, +0.75]" in lines[4]
    assert "4.00x" in lines[4]
    assert len({len(line) for line in lines[:6]}) == 1
    assert "batch of 64 on 2 threads" in lines[-1]


def test_repr_and_notebook_view_show_the_table(report: Report) -> None:
    assert repr(report) == report.to_markdown()
    assert "<table>" in report._repr_html_()
    assert HOSTILE not in report._repr_html_()


class _Loads(HTMLParser):
    """Collects what a page would load, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "data") and not (value or "").startswith("#"):
                self.loads.append(f"{tag} {name}={value}")


@pytest.fixture
def page(report: Report) -> str:
    return report.to_html()


def test_page_loads_nothing(page: str) -> None:
    parser = _Loads()
    parser.feed(page)
    assert parser.loads == []
    assert not {"script", "link", "iframe", "img"} & set(parser.tags)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_page_escapes_text_of_others(page: str) -> None:
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert "a &amp; b" in page


def test_page_has_figures_tables_machine_and_limits(page: str) -> None:
    parser = _Loads()
    parser.feed(page)
    assert parser.tags.count("svg") == 6
    for text in ("not measured", "Energy is not measured", "int4-qat", "Coverage", "avx2", "8.0 GiB"):
        assert text in page, text


def test_page_of_a_float_only_report_has_no_empty_sections(report: Report) -> None:
    page = Report(rows=report.rows[:1], info={"model": "cnn", "dataset": "digits"}, machine={}).to_html()
    assert "Coverage" not in page
    assert "Where the error is" not in page


def test_page_is_written_atomically(report: Report, tmp_path: Path) -> None:
    report.to_html(tmp_path / "deep" / "report.html")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["report.html"]


def test_figures_leave_the_user_s_style_alone(report: Report) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    before = dict(matplotlib.rcParams)
    report.to_html()
    assert dict(matplotlib.rcParams) == before


def test_missing_matplotlib_names_the_remedy(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PtqxError, match=r"pip install 'ptqx\[study\]'"):
        report.to_html()
