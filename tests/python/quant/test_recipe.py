from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ptqx.errors import PtqxError
from ptqx.quant import Recipe, Scheme, presets, recipe, resolve

ALL_NAMES = [
    *presets(),
    *(f"w{w}a{a}" for w in range(2, 9) for a in range(2, 9)),
    *(f"int{b}{suffix}" for b in range(2, 9) for suffix in ("", "-dynamic", "-weight-only")),
]


@pytest.mark.parametrize("name", ALL_NAMES)
def test_preset_resolves_and_survives_json(name):
    preset = recipe(name)
    weights, _ = resolve(preset, "features.0")
    assert weights is not None
    assert weights.granularity == "channel"
    again = Recipe.from_json(preset.to_json())
    assert again == preset
    assert hash(again) == hash(preset)


@pytest.mark.parametrize(
    ("name", "weight_bits", "activation_bits", "kind"),
    [
        ("int8", 8, 8, "static"),
        ("int8-dynamic", 8, 8, "dynamic"),
        ("int8-weight-only", 8, None, "weight_only"),
        ("int4", 4, 8, "static"),
        ("w4a8", 4, 8, "static"),
        ("int4-weight-only", 4, None, "weight_only"),
        ("w4a4", 4, 4, "static"),
        ("w3a3", 3, 3, "static"),
        ("w2a4", 2, 4, "static"),
        ("w2a2", 2, 2, "static"),
        ("w6a5", 6, 5, "static"),
    ],
)
def test_preset_means_what_its_name_says(name, weight_bits, activation_bits, kind):
    preset = recipe(name)
    weights, activations = resolve(preset, "middle")
    assert weights.bits == weight_bits
    assert (activations and activations.bits) == activation_bits
    assert preset.kind == kind
    assert preset.dynamic == (kind == "dynamic")


def test_int4_is_w4a8_and_no_two_presets_are_the_same():
    assert recipe("int4") == recipe("w4a8")
    assert len({recipe(name) for name in presets()}) == len(presets())


@pytest.mark.parametrize("name", ["w1a8", "w9a8", "w4", "int16", "int8_dynamic", "", "W4A4"])
def test_unknown_recipe_lists_the_nearest(name):
    with pytest.raises(PtqxError, match=r"unknown recipe .*(did you mean|known:)"):
        recipe(name)


def test_recipe_of_wrong_type():
    with pytest.raises(PtqxError, match=r"expected a name or a Recipe, got 8"):
        recipe(8)


def test_recipe_passes_through_and_changes():
    preset = recipe("int8")
    assert recipe(preset) is preset
    assert recipe(preset, residual="requantized") == replace(preset, residual="requantized")
    with pytest.raises(PtqxError, match=r"did you mean residual"):
        recipe("int8", residuals="fused")


def test_edges_get_edge_bits_only_where_they_have_fewer():
    w4a4 = recipe("w4a4")
    assert [s.bits for s in resolve(w4a4, "first", is_edge=True)] == [8, 8]
    assert [s.bits for s in resolve(w4a4, "first", is_edge=False)] == [4, 4]
    assert [s.bits for s in resolve(replace(w4a4, edge_bits=None), "first", is_edge=True)] == [4, 4]
    assert [s.bits for s in resolve(replace(w4a4, edge_bits=6), "first", is_edge=True)] == [6, 6]
    assert [s.bits for s in resolve(recipe("w4a8", edge_bits=6), "first", is_edge=True)] == [6, 8]


def test_overrides_apply_in_order_and_the_exact_name_last():
    mixed = recipe(
        "w4a4",
        overrides={
            "features.3": {"weights": {"bits": 2}},
            "features.*": {"bits": 6},
            "*.3": {"activations": {"observer": "minmax"}},
        },
    )
    weights, activations = resolve(mixed, "features.3")
    assert (weights.bits, activations.bits, activations.observer) == (2, 6, "minmax")
    assert [s.bits for s in resolve(mixed, "classifier.1")] == [4, 4]


def test_levels_without_the_bits_of_an_override_become_uniform():
    mixed = recipe("w1a1", overrides={"down": {"bits": 8}})
    weights, activations = resolve(mixed, "down")
    assert (weights.levels, weights.bits, weights.granularity) == ("uniform", 8, "channel")
    assert (activations.levels, activations.bits, activations.symmetric) == ("uniform", 8, False)
    assert [s.levels for s in resolve(mixed, "up")] == ["binary", "sign"]
    wider = recipe("apot", overrides={"a": {"bits": 5}, "b": {"bits": 7}})
    assert [resolve(wider, name)[0].levels for name in "ab"] == ["apot", "uniform"]


def test_overrides_win_over_edge_bits():
    mixed = recipe("w4a4", overrides={"first": {"bits": 5}})
    assert [s.bits for s in resolve(mixed, "first", is_edge=True)] == [5, 5]


def test_override_with_none_keeps_the_layer_float():
    part = recipe("int8", overrides={"head": {"weights": None, "activations": None}})
    assert resolve(part, "head") == (None, None)
    assert Recipe.from_json(part.to_json()) == part


def test_override_takes_a_whole_scheme():
    scheme = Scheme(bits=4, granularity="group", group_size=16)
    part = recipe("int8", overrides={"head": {"weights": scheme}})
    assert resolve(part, "head")[0] == scheme
    assert Recipe.from_json(part.to_json()) == part
    assert len({part, Recipe.from_json(part.to_json())}) == 1


def test_check_names_reports_an_override_that_matches_nothing():
    mixed = recipe("int8", overrides={"feature.0": {"bits": 4}, "classifier.*": {"bits": 4}})
    with pytest.raises(PtqxError, match=r"layer in overrides 'feature.0'; did you mean features.0"):
        mixed.check_names(["features.0", "classifier.1"])
    mixed.check_names(["feature.0", "classifier.1"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bias": "int16"}, "unknown bias 'int16'"),
        ({"residual": "fuse"}, "did you mean fused"),
        ({"requantize": "flot"}, "did you mean float"),
        ({"methods": "adaround"}, "methods: expected a sequence of names"),
        ({"methods": (3,)}, "methods: expected a sequence of names"),
        ({"methods": ("gptq", {"damping": 1.0})}, "got the entry {'damping': 1.0}"),
        ({"methods": ("gptk",)}, "unknown method 'gptk'; did you mean gptq"),
        ({"methods": [("gptq", {"dampin": 1.0})]}, "did you mean damping"),
        ({"methods": [("gptq", {"damping": [1]})]}, "expected a plain value"),
        ({"quantizer": "lqs"}, "did you mean lsq"),
        ({"edge_bits": 9}, "edge_bits: expected None or 2 to 8"),
        ({"weights": 8}, "weights: expected a Scheme"),
        ({"weights": {"bit": 4}}, "did you mean bits"),
        ({"weights": Scheme(granularity="sample")}, "granularity 'sample' is for activations"),
        ({"activations": Scheme(granularity="channel")}, "must be 'tensor' or 'sample'"),
        ({"overrides": ["a"]}, "overrides: expected a mapping"),
        ({"overrides": {"a": 4}}, r"overrides\['a'\]: expected a mapping, got 4"),
        ({"overrides": {"a": {"weight": {}}}}, "did you mean weights"),
        ({"overrides": {"a": {"weights": 4}}}, "expected a Scheme, its fields or None, got 4"),
        ({"overrides": {"a": {"weights": {"bit": 4}}}}, r"overrides\['a'\]: .*did you mean bits"),
        ({"overrides": {"a": {"bits": 12}}}, r"overrides\['a'\]: bits: expected 2 to 8"),
    ],
    ids=str,
)
def test_bad_recipe_names_what_is_wrong(changes, message):
    with pytest.raises(PtqxError, match=message):
        recipe("int8", **changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "can't be read"), ("[]", "must be an object"), ('{"weight": null}', "did you mean weights")],
)
def test_bad_json_is_one_clear_error(text, message):
    with pytest.raises(PtqxError, match=message):
        Recipe.from_json(text)


@given(
    weight_bits=st.integers(2, 8),
    activation_bits=st.integers(2, 8),
    edge_bits=st.none() | st.integers(2, 8),
    methods=st.lists(
        st.sampled_from(["nearest", ("gptq", {"damping": 0.1, "act_order": False})]), max_size=3
    ),
    overrides=st.dictionaries(
        st.text(max_size=5),
        st.fixed_dictionaries({}, optional={"bits": st.integers(2, 8), "weights": st.none()}),
    ),
)
def test_json_round_trip_of_any_recipe(weight_bits, activation_bits, edge_bits, methods, overrides):
    original = recipe(
        f"w{weight_bits}a{activation_bits}", edge_bits=edge_bits, methods=methods, overrides=overrides
    )
    again = Recipe.from_json(original.to_json())
    assert again == original
    assert hash(again) == hash(original)
