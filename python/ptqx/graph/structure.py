"""What a network returns: a tensor, or tuples, lists and dicts of tensors, each by its node's name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch

from ..errors import PtqxError

# A name, None where a network returns None, or a tuple, a list or a dict of such.
Structure: TypeAlias = Any

MAX_DEPTH = 8  # of tuples in tuples
_SEQUENCES: dict[str, Callable[[Any], Any]] = {"tuple": tuple, "list": list}


def mapped(structure: Structure, of_name: Callable[[Any], Any]) -> Any:
    """The same tuples, lists and dicts of `of_name` of each name.

    >>> mapped(("a", {"b": "b", "c": None}), str.upper)
    ('A', {'b': 'B', 'c': None})
    """
    if isinstance(structure, (tuple, list)):
        return type(structure)([mapped(part, of_name) for part in structure])
    if isinstance(structure, dict):
        return {key: mapped(part, of_name) for key, part in structure.items()}
    return None if structure is None else of_name(structure)


def leaves(structure: Any) -> list[Any]:
    """Names, or what stands in their places, in order; None is left out.

    >>> leaves(("a", {"b": ["c", "a"], "d": None}))
    ['a', 'c', 'a']
    """
    return [leaf for _, leaf in leaves_by_path(structure)]


def leaves_by_path(structure: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The same with their places: keys and positions with dots between them; "" of a single tensor.

    >>> list(leaves_by_path({"out": "a", "features": ["b", "c"]}))
    [('out', 'a'), ('features.0', 'b'), ('features.1', 'c')]
    """
    if isinstance(structure, (tuple, list, dict)):
        parts = structure.items() if isinstance(structure, dict) else enumerate(structure)
        for key, part in parts:
            yield from leaves_by_path(part, f"{path}.{key}" if path else str(key))
    elif structure is not None:
        yield path, structure


def require_equal(got: Any, expected: Any, what: str) -> None:
    """
    Raises:
        PtqxError: other tensors, or other numbers in them; `what` begins the message.
    """
    mine, others = dict(leaves_by_path(got)), dict(leaves_by_path(expected))
    if mine.keys() != others.keys():
        raise PtqxError(f"{what}: it gives {list(mine)}, not {list(others)}; it is a defect of ptqx")
    for path, tensor in mine.items():
        if not torch.equal(tensor, others[path]):
            where = f" of output {path}" if path else ""
            raise PtqxError(f"{what}: values{where} differ; it is a defect of ptqx")


def structure_to_json(structure: Structure, depth: int = 0) -> Any:
    """A name is a string; a tuple, a list and a dict are objects with that one key, whose value is an array,
    of pairs for a dict: readers of JSON need not keep the order of an object.

    Raises:
        PtqxError: tuples in tuples more than 8 deep.

    >>> structure_to_json(("a", {"b": "c"}))
    {'tuple': ['a', {'dict': [['b', 'c']]}]}
    """
    if structure is None or isinstance(structure, str):
        return structure
    if depth == MAX_DEPTH:
        raise PtqxError(f"the network returns tuples in tuples more than {MAX_DEPTH} deep")
    if isinstance(structure, dict):
        return {"dict": [[key, structure_to_json(part, depth + 1)] for key, part in structure.items()]}
    return {type(structure).__name__: [structure_to_json(part, depth + 1) for part in structure]}


def structure_from_json(raw: Any, depth: int = 0) -> Structure:
    """
    Raises:
        PtqxError: not what `structure_to_json` makes, or tuples in tuples more than 8 deep.

    >>> structure_from_json({"tuple": ["a", {"dict": [["b", "c"]]}]})
    ('a', {'b': 'c'})
    """
    if raw is None or isinstance(raw, str):
        return raw
    if isinstance(raw, dict) and len(raw) == 1 and depth < MAX_DEPTH:
        kind, parts = next(iter(raw.items()))
        if kind == "dict" and _are_pairs(parts):
            return {key: structure_from_json(part, depth + 1) for key, part in parts}
        if kind in _SEQUENCES and isinstance(parts, list):
            return _SEQUENCES[kind]([structure_from_json(part, depth + 1) for part in parts])
    raise PtqxError(f"output: expected a name, or an object of a tuple, a list or a dict, got {raw!r}")


def _are_pairs(parts: Any) -> bool:
    """Whether they are [key, part], no key twice."""
    if not isinstance(parts, list) or not all(isinstance(p, list) and len(p) == 2 for p in parts):
        return False
    keys = [key for key, _ in parts]
    return all(isinstance(key, str) for key in keys) and len(set(keys)) == len(keys)
