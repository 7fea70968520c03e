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


def listed(names: Iterable[str], limit: int = 6) -> str:
    """Return names as an error lists them: the first ones, and how many follow.

    >>> listed(f"conv{i}" for i in range(9))
    'conv0, conv1, conv2, conv3, conv4, conv5 and 3 more'
    """
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
