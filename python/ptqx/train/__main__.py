"""`python -m ptqx.train`: the command without the rest of the command line."""

import sys

import typer

from ..errors import PtqxError
from .command import train

if __name__ == "__main__":
    try:
        typer.run(train)
    except PtqxError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
