from __future__ import annotations

import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.quant import Scheme

UNSIGNED = {"signed": False, "symmetric": False}


@pytest.mark.parametrize(
    ("fields", "qmin", "qmax"),
    [
        ({"bits": 8}, -127, 127),
        ({"bits": 7}, -63, 63),
        ({"bits": 5}, -15, 15),
        ({"bits": 4}, -8, 7),
        ({"bits": 3}, -4, 3),
        ({"bits": 2}, -2, 1),
        ({"bits": 4, "narrow": True}, -7, 7),
        ({"bits": 3, "narrow": True}, -3, 3),
        ({"bits": 2, "narrow": True}, -1, 1),
        ({"bits": 8, "narrow": False}, -128, 127),
        ({"bits": 8, "symmetric": False}, -128, 127),
        ({"bits": 8, **UNSIGNED}, 0, 255),
        ({"bits": 4, **UNSIGNED}, 0, 15),
        ({"bits": 2, **UNSIGNED}, 0, 3),
    ],
    ids=str,
)
def test_code_range(fields, qmin, qmax):
    scheme = Scheme(**fields)
    assert (scheme.qmin, scheme.qmax) == (qmin, qmax)


@pytest.mark.parametrize(("bits", "storage"), [(2, 2), (3, 3), (4, 4), (5, 5), (8, 8)])
def test_storage_bits(bits, storage):
    assert Scheme(bits=bits).storage_bits == storage


def test_dtype_follows_sign():
    assert Scheme().dtype is torch.int8
    assert Scheme(**UNSIGNED).dtype is torch.uint8


def test_scheme_is_hashable_with_observer_args_in_any_form():
    from_mapping = Scheme(observer="percentile", observer_args={"percentile": 99.0})
    from_pairs = Scheme(observer="percentile", observer_args=[("percentile", 99.0)])
    assert from_mapping == from_pairs
    assert len({from_mapping, from_pairs}) == 1


def test_dict_round_trip():
    scheme = Scheme(bits=4, granularity="group", group_size=8, observer="ksigma", observer_args={"k": 2.5})
    assert Scheme(**scheme.to_dict()) == scheme


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bits": 1}, "bits: expected 2 to 8"),
        ({"bits": 9}, "bits: expected 2 to 8"),
        ({"bits": 4.0}, "bits: expected an int, got 4.0"),
        ({"bits": True}, "bits: expected an int"),
        ({"signed": 1}, "signed: expected True or False"),
        ({"narrow": "yes"}, "narrow: expected"),
        ({"signed": False}, "symmetric=True needs signed=True"),
        ({"narrow": True, **UNSIGNED}, "narrow=True needs signed=True"),
        ({"granularity": "chanel"}, "did you mean channel"),
        ({"granularity": "group"}, "group_size: expected a positive multiple of 4, got 0"),
        ({"granularity": "group", "group_size": 6}, "multiple of 4, got 6"),
        ({"granularity": "group", "group_size": -4}, "multiple of 4, got -4"),
        ({"group_size": 8}, "needs granularity='group'"),
        ({"levels": "unifrom"}, "did you mean uniform"),
        ({"rounding": "nearst"}, "did you mean nearest"),
        ({"observer": "percentil"}, "did you mean percentile"),
        ({"observer": "percentile", "observer_args": {"percentle": 99}}, "did you mean percentile"),
        ({"observer_args": {"k": 3}}, "unknown argument of observer 'minmax' 'k'"),
        (
            {"observer": "ksigma", "observer_args": {"k": []}},
            "observer_args: expected names and plain values",
        ),
        ({"levels": "shift"}, "signed=False, symmetric=False"),
    ],
    ids=str,
)
def test_bad_scheme_names_what_is_wrong(fields, message):
    with pytest.raises(PtqxError, match=message):
        Scheme(**fields)
