"""Tables as plain text."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], numeric: Collection[str] = ()) -> str:
    """Columns as wide as their widest cell, two spaces apart; those of `numeric` end at the right.

    >>> print(aligned(["layer", "MACs"], [["0", "1,728"], ["classifier", "90"]], ["MACs"]))
    layer        MACs
    0           1,728
    classifier     90
    """
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if name in numeric else cell.ljust(width)
            for cell, width, name in zip(row, widths, header, strict=True)
        ).rstrip()
        for row in [header, *rows]
    )
