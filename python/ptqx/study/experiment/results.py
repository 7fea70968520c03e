"""results.json: what a study has found so far, written whole after every unit of work."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import PtqxError
from ...files import write_text
from ..report import plain_values
from .part import Values

SCHEMA_VERSION = 1
FILE = "results.json"


@dataclass
class Results:
    """The content of results.json; all of it is plain values, from which the report is made.

    Attributes:
        info: name, tier, model, data set, numbers of images, parameters, seed; controls, from the title of a
            QAT row to that of its control.
        machine: CPU, cores, instruction set, versions, of the run that measured latency, or of the last one.
        config: the study as it was asked for.
        units: one per finished unit: part, name, fingerprint, seconds, values.
        rows: the table (`ptqx.study.experiment.table`). laws: fits of loss against bits. verdicts: tested
            claims. All three are made of `units`.
        seconds: of work, by part.
    """

    info: Values
    machine: Values
    config: Values
    units: list[Values] = field(default_factory=list)
    rows: list[Values] = field(default_factory=list)
    laws: list[Values] = field(default_factory=list)
    verdicts: list[Values] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def find(self, fingerprint: str) -> Values | None:
        """What a former run stored for the unit that has this fingerprint."""
        return next((entry for entry in self.units if entry["fingerprint"] == fingerprint), None)

    def of(self, part: str) -> list[Values]:
        """The values of a part's finished units, in order."""
        return [entry["values"] for entry in self.units if entry["part"] == part]

    def parts(self) -> list[str]:
        return list(dict.fromkeys(entry["part"] for entry in self.units))

    def summed_seconds(self) -> dict[str, float]:
        return {
            part: round(sum(e["seconds"] for e in self.units if e["part"] == part), 2)
            for part in self.parts()
        }

    def to_json(self) -> str:
        values = plain_values({"schema": SCHEMA_VERSION, "kind": "study", **vars(self)})
        return json.dumps(values, indent=1, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        """The table and the verdicts."""
        from .text import markdown

        return markdown(self)

    def write(self, folder: Path, order: Sequence[str]) -> None:
        """Write results.json, units in `order` of their fingerprints."""
        self.units.sort(key=lambda entry: order.index(entry["fingerprint"]))
        self.seconds = self.summed_seconds()
        write_text(folder / FILE, self.to_json())


def read_results(path: str | os.PathLike[str]) -> Results:
    """The results that a study wrote.

    Raises:
        PtqxError: the file can't be read or is none of a study's.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise PtqxError(f"can't read {path}: {error}") from error
    if not is_study(values) or values.pop("schema", None) != SCHEMA_VERSION:
        raise PtqxError(f"{path} is no study's results of this version of ptqx (schema {SCHEMA_VERSION})")
    values.pop("kind")
    try:
        return Results(**values)
    except TypeError as error:
        raise PtqxError(f"{path} is no study's results: {error}") from error


def is_study(values: Any) -> bool:
    """Whether a JSON document is a study's, not a comparison's."""
    return isinstance(values, dict) and values.get("kind") == "study"
