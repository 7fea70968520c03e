"""The one exception ptqx raises for input it cannot accept."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PtqxError(ValueError):
    """Bad input: the message names the argument, what was expected and what came.

    The command line prints it as one line and exits with status 2.
    """


def unknown_name(kind: str, name: object, known: Iterable[str]) -> PtqxError:
    """Return the error for a name that is not in `known`, with the nearest ones.

    >>> str(unknown_name("model", "vgg11bn", ["vgg11_bn", "lenet5"]))
    "unknown model 'vgg11bn'; did you mean vgg11_bn?"
    >>> str(unknown_name("dataset", "imagenet", ["cifar10", "mnist"]))
    "unknown dataset 'imagenet'; known: cifar10, mnist"
    """
    names = sorted(known)
    nearest = difflib.get_close_matches(str(name), names, n=3, cutoff=0.6)
    hint = f"did you mean {', '.join(nearest)}?" if nearest else f"known: {', '.join(names)}"
    return PtqxError(f"unknown {kind} {str(name)!r}; {hint}")
