"""The run's log: one CSV row per epoch, and TensorBoard if wanted."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from ..errors import PtqxError
from ..files import write_text

Row = dict[str, int | float]


class Log:
    """Writes `log.csv` (and TensorBoard events) from the history; only on rank 0 and only with a folder."""

    def __init__(self, folder: Path | None, tensorboard: bool) -> None:
        self.path = None if folder is None else folder / "log.csv"
        self._events: Any = None
        if tensorboard and folder is not None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise PtqxError("tensorboard is not installed: pip install 'ptqx[study]'") from error
            self._events = SummaryWriter(str(folder / "tensorboard"))

    def write(self, history: list[Row]) -> None:
        """Replace the CSV by the whole history, so that resuming never doubles a row."""
        if self.path is not None:
            text = io.StringIO()
            columns = list(history[-1])  # rows of other runs may lack some
            writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(history)
            write_text(self.path, text.getvalue())
        if self._events is not None:
            for name, value in history[-1].items():
                self._events.add_scalar(name, value, int(history[-1]["epoch"]))
            self._events.flush()

    def close(self) -> None:
        if self._events is not None:
            self._events.close()
