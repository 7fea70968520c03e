from __future__ import annotations

import io
import json
import math
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from ptqx.errors import PtqxError
from ptqx.study import Report, Row, plots, read_report
from ptqx.study.page import headlines

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
    assert all(set(row) == keys | {"sqnr_db"} for row in json.loads(report.to_json())["rows"])


def test_reports_without_the_ratio_of_the_logits_are_read(report: Report, tmp_path: Path) -> None:
    values = json.loads(report.to_json())
    for row in values["rows"]:
        del row["sqnr_db"]
    (tmp_path / "old.json").write_text(json.dumps(values))
    again = read_report(tmp_path / "old.json")
    assert [row["sqnr_db"] for row in again.rows] == [None] * 4
    assert "<svg" in again.to_html()


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
    assert lines[0].split("|")[-2].strip() == "logits dB"
    assert [line.split("|")[-2].strip() for line in lines[2:6]] == ["-", "-", "42.0", "42.0"]
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


def many(report: Report, changes: dict[str, Any] | None = None) -> Report:
    """Twelve integer formats of different sizes, one of them at chance."""
    rows = [report.rows[0]]
    for i in range(12):
        row = {**report.rows[2], "format": f"format{i}", "top1": 69.0 + 0.01 * i, "drop": 1.0 - 0.01 * i}
        interval = [row["drop"] - 0.2, row["drop"] + 0.2]
        rows.append({**row, "drop_ci95": interval, "size_bytes": 10**6 * (12 - i)})
    rows[4] |= {"top1": 1.0, "drop": 69.0, "drop_ci95": [68.0, 70.0], **(changes or {})}
    sqnr = [{**report.sqnr[0], "format": row["format"], "output_db": 31.0} for row in rows]
    return replace(report, rows=rows, sqnr=sqnr)


def test_page_of_many_formats_has_few_cards_and_a_map_of_ratios(report: Report) -> None:
    crowded = many(report)
    cards = headlines(crowded)
    assert [card["format"] for card in cards] == ["format11"]  # better and smaller than all others
    assert len(headlines(report)) == 2
    page = crowded.to_html()
    assert "that no other one beats in both size and accuracy" in page
    assert "that no other one beats" not in report.to_html()
    figure = plots.sqnr_per_layer(crowded.sqnr)
    assert [axis.get_images() != [] for axis in figure.axes] == [True, True]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == [
        row["format"] for row in crowded.rows
    ]
    assert all(axis.get_images() == [] for axis in plots.sqnr_per_layer(report.sqnr).axes)


def test_a_network_at_chance_does_not_squeeze_the_others(report: Report) -> None:
    figure = plots.accuracy_and_cost(many(report).rows)
    low, high = figure.axes[0].get_xlim()
    assert 60.0 < low < 69.0 and high > 70.0
    assert any(text.get_text() == "1.00" for text in figure.axes[0].texts)
    against = plots.accuracy_against(many(report).rows).axes[0]
    assert against.get_ylim()[0] > 60.0
    assert "format3 1.0 %" in [text.get_text() for text in against.texts]


def test_latencies_nobody_measured_have_no_panel(report: Report) -> None:
    untimed = [{**row, "latency_ms": None} for row in report.rows]
    panels = [len(plots.accuracy_and_cost(rows).axes) for rows in (report.rows, untimed)]
    assert panels[0] == panels[1] + 1


def test_costs_that_differ_much_have_a_logarithmic_axis(report: Report) -> None:
    def scale(latency: float) -> str:
        figure = plots.accuracy_and_cost(many(report, {"latency_ms": latency}).rows)
        return str(figure.axes[-1].get_xscale())

    assert scale(25.0) == "linear" and scale(9e3) == "log"


def test_names_in_a_crowd_do_not_cover_each_other(report: Report) -> None:
    rows = [{**row, "size_bytes": 10**6, "top1": 69.0} for row in many(report).rows]
    figure = plots.accuracy_against(rows)
    figure.savefig(io.BytesIO())
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 13
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_plot_is_written_as_its_name_says(report: Report, suffix: str, tmp_path: Path) -> None:
    report.to_plot(tmp_path / f"all{suffix}")
    begin = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    assert (tmp_path / f"all{suffix}").read_bytes().startswith(begin)


def test_plot_refuses_other_names_and_empty_reports(report: Report, tmp_path: Path) -> None:
    with pytest.raises(PtqxError, match=r"ends in .png, .svg, .pdf, got .*all.jpg"):
        report.to_plot(tmp_path / "all.jpg")
    with pytest.raises(PtqxError, match="no rows"):
        Report(rows=[], info={}, machine={}).to_plot(tmp_path / "all.png")


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
