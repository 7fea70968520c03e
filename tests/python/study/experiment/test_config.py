"""YAML into a study: mistakes are named, with the nearest that exists."""

from __future__ import annotations

from pathlib import Path

import pytest
from ptqx.errors import PtqxError
from ptqx.study import read_study
from ptqx.study.experiment.part import units

STUDIES = sorted((Path(__file__).parents[4] / "studies").glob("*.yaml"))
GOOD = """
name: good
model: cnn
dataset: digits
train: {epochs: 1}
ptq: [int8]
qat: [{recipe: w4a4, epochs: 1}]
parts: {biases: }
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text)
    return path


def test_there_are_studies() -> None:
    assert {"digits", "lenet5_mnist", "resnet20_cifar10", "vgg11_cifar100"} <= {path.stem for path in STUDIES}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_studies_of_the_repository_are_good(path: Path) -> None:
    study = read_study(path)
    planned = units(study)
    assert study.name == path.stem
    assert len({(unit.part, unit.name) for unit in planned}) == len(planned)
    assert len({unit.fingerprint({}) for unit in planned}) == len(planned)


def test_rows_have_the_names_of_recipe_and_method(tmp_path: Path) -> None:
    study = read_study(written(tmp_path, GOOD))
    assert study.titles == ["fp32", "fp16", "bf16", "int8", "w4a4-qat"]


def test_weights_lie_beside_the_file_unless_they_are_a_data_set(tmp_path: Path) -> None:
    text = GOOD.replace("train: {epochs: 1}", "weights: model.safetensors")
    assert read_study(written(tmp_path, text)).weights == str(tmp_path / "model.safetensors")
    assert (
        read_study(written(tmp_path, GOOD.replace("train: {epochs: 1}", "weights: mnist"))).weights == "mnist"
    )
    given = read_study(written(tmp_path, GOOD), "other.safetensors")
    assert (given.weights, given.train) == ("other.safetensors", None)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dataset: digits", "datset: digits", "unknown key in config 'datset'; did you mean dataset"),
        ("model: cnn", "", "config: model missing"),
        ("name: good", "name: [a]", r"config.name: expected text, got \['a'\]"),
        ("{epochs: 1}", "{epochs: one}", "config.train.epochs: expected a whole number, got 'one'"),
        ("{epochs: 1}", "{epochs: 1, amp: off}", "config.train.amp: expected text, got False; on, off"),
        ("{epochs: 1}", "{epoch: 1}", "unknown key in config.train 'epoch'; did you mean epochs"),
        ("{epochs: 1}", "{epochs: 1}\nweights: a.pt", "either weights, a checkpoint, or train"),
        ("[int8]", "[itn8]", "unknown recipe 'itn8'; did you mean int8"),
        ("[int8]", "[int8, int8]", "two rows are called 'int8'"),
        ("[int8]", "[{recipe: int8, name: a/b}]", "can't be the name of a row"),
        ("[int8]", "[{recipe: int8, changes: {wieghts: 4}}]", "unknown Recipe field 'wieghts'"),
        ("[int8]", "[{recipe: int8, changes: {weights: {bit: 4}}}]", "unknown Scheme field 'bit'"),
        ("[int8]", "int8", "config.ptq: expected a list, got 'int8'"),
        ("epochs: 1}]", "epochs: 1, seed: 1}]", "unknown key in config.qat.0. 'seed'; did you mean seeds"),
        ("epochs: 1}]", "epochs: 1, train: {lrr: 1}}]", "unknown key in w4a4-qat: train 'lrr'"),
        ("biases: ", "bias: ", "unknown part 'bias'; did you mean biases"),
        ("biases: ", "biases: {biases: [int16]}", "unknown bias 'int16'"),
        ("biases: ", "bit_widths: {bits: [9]}", "expected 2 to 8, got 9"),
        ("biases: ", "bit_widths: {families: [weight]}", "did you mean weights"),
        ("biases: ", "observers: {activations: [minmx]}", "unknown observer 'minmx'; did you mean minmax"),
        ("name: good", "name: good\nname: bad", "key 'name' stands twice"),
        ("name: good", "name: good\ntier: gpu", "unknown tier 'gpu'; did you mean cpu"),
        ("name: good", "name: good\nformats: [fp64]", "unknown float format 'fp64'"),
        ("name: good", "name: good\nbatch_size: 0", "batch_size must be at least 1, got 0"),
        ("name: good", "name: 'good", "is not YAML"),
        (GOOD, "- a", "expected a mapping of keys to values, got list"),
    ],
    ids=lambda value: (
        value.strip().splitlines()[-1] if isinstance(value, str) and value.strip() else "nothing"
    ),
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(PtqxError, match=message):
        read_study(written(tmp_path, GOOD.replace(old, new)))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PtqxError, match=r"can't read .*none.yaml"):
        read_study(tmp_path / "none.yaml")
