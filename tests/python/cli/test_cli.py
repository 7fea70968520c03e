"""The command line: what is printed, exit status, and that mistakes are one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import typer
from ptqx import cli, files, graph, models
from ptqx.errors import PtqxError
from torch import nn
from typer.testing import CliRunner

runner = CliRunner()
COMMANDS = [
    "demo",
    "train",
    "targets",
    "quantize",
    "qat",
    "prune",
    "export",
    "import",
    "explain",
    "coverage",
    "compare",
    "study",
    "scalings",
    "sensitivity",
    "mixed",
    "gradients",
    "gradient-memory",
    "bench",
    "report",
    "info",
]
DIGITS = ["--model", "cnn", "--dataset", "digits", "--model-option", "width=4"]


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time float models as they are: compiling takes longer than these tests."""
    from ptqx.study import formats

    monkeypatch.setattr(formats, "compiled", lambda model, example: (model, "eager"))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A checkpoint of a narrow CNN, not trained."""
    torch.manual_seed(0)
    path = tmp_path / "cnn.safetensors"
    files.write_tensors(path, models.cnn(width=4).state_dict())
    return path


def one_error_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, error
    assert error.endswith(lines[0] + "\n")
    assert "Traceback" not in error
    return lines[0]


def test_help_lists_the_commands_that_exist() -> None:
    result = runner.invoke(cli.app, ["--help"])
    assert result.exit_code == 0
    for command in COMMANDS:
        assert f" {command} " in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = runner.invoke(cli.app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_help_imports_nothing_that_only_commands_need() -> None:
    heavy = "{'ptqx.study', 'ptqx.train', 'matplotlib', 'torchvision', 'sklearn', 'torch._inductor'}"
    code = f"import sys, ptqx.cli; ptqx.cli.main(['--help']); sys.exit(len({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["comapre"], "No such command 'comapre'"),
        (["info", "--jsn", "x"], "No such option: --jsn"),
        (["compare", "--model", "cnn"], "Missing option"),
        (["compare", *DIGITS, "--weights", "w", "--threads", "two"], "--threads"),
        (["compare", *DIGITS, "--weights", "w", "--threads", "0"], "--threads"),
        (
            ["compare", *DIGITS, "--weights", "w", "--formats", "fp32,itn8"],
            "unknown format 'itn8'; did you mean int8",
        ),
        (["compare", *DIGITS, "--weights", "none.safetensors"], "no such checkpoint file: none.safetensors"),
        (["quantize", "--model", "cnn", "--dataset", "digit", "--weights", "w"], "did you mean digits?"),
        (["quantize", "--model", "vgg11", "--dataset", "digits", "--weights", "w.txt"], "w.txt"),
        (["scalings", *DIGITS, "--weights", "w", "--bits", "8,x"], "--bits must be whole numbers"),
        (["quantize", *DIGITS[:4], "--weights", "w", "--model-option", "width"], "NAME=VALUE"),
        (["quantize", *DIGITS[:4], "--weights", "w", "--model-option", "widht=4"], "did you mean width?"),
        (["targets", "int9"], "unknown recipe 'int9'"),
        (["quantize", *DIGITS, "--weights", "w", "--overrides", "{'a': 8}"], "can't be read as JSON"),
        (["qat", *DIGITS, "--weights", "w", "--overrides", "8"], "--overrides must be a JSON object"),
        (["quantize", *DIGITS, "--weights", "w", "--overrides", '{"a": {"bit": 8}}'], "did you mean bits?"),
        (
            ["quantize", *DIGITS, "--weights", "w", "--recipe", "int4", "--target", "openvino"],
            "target 'openvino' can't express int4: weights.bits=4 (kernels of 8 bits): use 8; residual=",
        ),
        (["quantize", *DIGITS, "--weights", "w", "--target", "opnvino"], "did you mean openvino"),
        (["quantize", *DIGITS, "--weights", "w", "--fit"], "--fit needs --target"),
        (["qat", *DIGITS, "--weights", "w", "--target", "general"], "--fit makes these changes"),
        (["bench", "--batch", "1,x"], "--batch must be whole numbers"),
        (["bench", "--engines", "openvion"], "did you mean openvino"),
        (["bench", "--models", "vgg11bn"], "did you mean vgg11_bn"),
        (["bench", "--plot", "speed.gif"], "ends in .png"),
        (["study", "--config", "none.yaml"], "can't read none.yaml"),
        (["sensitivity", *DIGITS, "--weights", "w", "--by", "los"], "unknown order 'los'; did you mean loss"),
        (
            ["sensitivity", *DIGITS, "--weights", "w", "--by", "hessian", "--hessian-images", "0"],
            "--by hessian needs --hessian-images",
        ),
        (["mixed", *DIGITS, "--weights", "w", "--bits", "3;4"], "--bits must be numbers separated by commas"),
        (["mixed", *DIGITS, "--weights", "w", "--drop", "1%"], "--drop must be numbers separated by commas"),
        (["mixed", *DIGITS, "--weights", "w", "--by", "los"], "unknown measure 'los'; did you mean loss"),
        (
            ["mixed", *DIGITS, "--weights", "w", "--widths", "4,9"],
            "widths: expected 2 to 8 bits, 'bf16', 'fp16', 'fp32'",
        ),
        (["report", "none.json"], "can't read none.json"),
        (["train", "--model", "cnnn"], "did you mean cnn"),
        (["train", "--no-such-option"], "No such option: --no-such-option"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else None,
)
def test_mistakes_end_in_one_line_and_status_two(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    assert message in one_error_line(capsys)


def test_data_folder_that_is_missing_is_one_line(
    capsys: pytest.CaptureFixture[str], weights: Path, tmp_path: Path
) -> None:
    arguments = ["--model", "vgg11_bn", "--dataset", "cifar100", "--weights", str(weights)]
    assert cli.main(["compare", *arguments, "--data-root", str(tmp_path), "--no-download"]) == 2
    assert "CIFAR100 is not whole" in one_error_line(capsys)


def test_report_of_something_else_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1, 2")
    assert cli.main(["report", str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html")]) == 2
    assert "not JSON" in one_error_line(capsys)
    assert not (tmp_path / "a.html").exists()


def _raise(error: BaseException) -> Callable[..., None]:
    def run(*args: object, **kwargs: object) -> None:
        raise error

    return run


def test_ctrl_c_is_one_line_and_status_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptqx.study.page_of", _raise(KeyboardInterrupt()))
    assert cli.main(["report", "x.json"]) == 130
    assert one_error_line(capsys) == "error: interrupted"


def test_messages_of_several_lines_become_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptqx.study.page_of", _raise(PtqxError("first\n  second")))
    assert cli.main(["report", "x.json"]) == 2
    assert one_error_line(capsys) == "error: first second"


def test_debug_shows_the_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PTQX_DEBUG", "1")
    assert cli.main(["report", "none.json"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_defects_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptqx.study.page_of", _raise(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["report", "x.json"])


def test_module_runs_as_a_program() -> None:
    result = subprocess.run([sys.executable, "-m", "ptqx", "nothing"], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == "error: No such command 'nothing'. (see ptqx --help)\n"


def test_info_names_versions_kernels_and_remedies(tmp_path: Path) -> None:
    result = runner.invoke(cli.app, ["info", "--json", str(tmp_path / "info.json")])
    assert result.exit_code == 0, result.output
    facts = json.loads((tmp_path / "info.json").read_text())
    assert facts["torch"] == torch.__version__
    assert facts["isa_ceiling"] in facts["isa_supported"]
    families = {kernel["family"] for kernel in facts["kernels"]}
    chosen = [kernel["family"] for kernel in facts["kernels"] if kernel["chosen"]]
    assert sorted(chosen) == sorted(families), "one kernel is chosen in every family"
    for text in (torch.__version__, facts["cpu"], facts["isa_ceiling"], "kernels chosen"):
        assert text in result.output


def test_info_names_the_remedy_of_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from ptqx.study import environment

    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'ptqx[onnx]'" in environment._package_line(environment.optional_package("onnx"))


def test_train_passes_its_options_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = runner.invoke(
        cli.app, ["train", "--epochs", "1", "--out", str(out), "--json", str(tmp_path / "t.json")]
    )
    assert result.exit_code == 0, result.output
    assert (out / "model.safetensors").is_file()
    assert json.loads((tmp_path / "t.json").read_text())["epochs"] == 1


def test_quantize_writes_a_model_that_loads_and_its_coverage(weights: Path, tmp_path: Path) -> None:
    from ptqx import graph

    out, result_file = tmp_path / "m.ptqx", tmp_path / "q.json"
    result = runner.invoke(
        cli.app,
        [
            "quantize",
            *DIGITS,
            "--weights",
            str(weights),
            "--recipe",
            "int4",
            "--out",
            str(out),
            "--json",
            str(result_file),
        ],
    )
    assert result.exit_code == 0, result.output
    assert "features.3" in result.output
    written = json.loads(result_file.read_text())
    assert written["format"] == "int4"
    assert written["execution"] == "integer"
    assert written["coverage"] == 100.0
    assert written["size_bytes"] == out.stat().st_size
    assert graph.load(out)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_quantize_fits_a_recipe_to_a_target(weights: Path, tmp_path: Path) -> None:
    from ptqx import graph

    out, result_file = tmp_path / "m.ptqx", tmp_path / "q.json"
    command = ["quantize", *DIGITS, "--weights", str(weights), "--recipe", "int4", "--calibration", "32"]
    command += ["--target", "pow2-device", "--fit", "--out", str(out), "--json", str(result_file)]
    result = runner.invoke(cli.app, command)
    assert result.exit_code == 0, result.output
    assert "pow2-device: weights.levels='uniform' (scales are powers of two): use 'fixed'" in result.output
    assert json.loads(result_file.read_text())["format"] == "int4-pow2-device"
    scales = [t for key, t in graph.load(out).tensors().items() if key.endswith("scale")]
    assert scales and all(t.numel() == 1 and float(torch.frexp(t)[0]) == 0.5 for t in scales)
    fits = ["quantize", *DIGITS, "--weights", str(weights), "--recipe", "int4", "--target", "cpu"]
    result = runner.invoke(cli.app, [*fits, "--calibration", "32", "--out", str(out)])
    assert result.exit_code == 0 and "use " not in result.output, result.output


def test_quantize_takes_overrides(weights: Path, tmp_path: Path) -> None:
    from ptqx import graph

    out = tmp_path / "m.ptqx"
    command = ["quantize", *DIGITS, "--weights", str(weights), "--recipe", "int4", "--calibration", "32"]
    command += ["--overrides", '{"features.3": {"weights": {"bits": 3}}}', "--out", str(out)]
    result = runner.invoke(cli.app, command)
    assert result.exit_code == 0, result.output
    assert graph.load(out).graph.nodes["features.3"].attrs["weight_bits"] == 3


def test_targets_lists_what_to_change(tmp_path: Path) -> None:
    from ptqx.quant import TARGETS, recipe, unmet

    found = tmp_path / "t.json"
    result = runner.invoke(cli.app, ["targets", "int4", "--json", str(found)])
    assert result.exit_code == 0, result.output
    assert "cpu: can express int4" in result.output
    written = json.loads(found.read_text())
    assert list(written) == list(TARGETS)
    for target, changes in written.items():
        assert [change["where"] for change in changes] == [f.where for f in unmet(recipe("int4"), target)]
        assert all(str(finding) in result.output for finding in unmet(recipe("int4"), target))


def test_quantize_takes_methods(weights: Path, tmp_path: Path) -> None:
    out, result_file = str(tmp_path / "m.ptqx"), tmp_path / "q.json"
    command = ["quantize", *DIGITS, "--weights", str(weights), "--recipe", "int4", "--out", out]
    named = ["--methods", "gptq:sweeps=1,bias_correction", "--calibration", "64", "--json", str(result_file)]
    result = runner.invoke(cli.app, [*command, *named])
    assert result.exit_code == 0, result.output
    assert json.loads(result_file.read_text())["format"] == "int4+gptq:sweeps=1+bias_correction"
    result = runner.invoke(cli.app, [*command, "--methods", "gptk"])
    assert result.exit_code == 2
    assert "unknown method 'gptk'; did you mean gptq?" in result.output


def test_coverage_says_what_becomes_integer(tmp_path: Path) -> None:
    out = tmp_path / "coverage.json"
    result = runner.invoke(cli.app, ["coverage", "--models", "cnn,lenet5", "--steps", "--json", str(out)])
    assert result.exit_code == 0
    assert "2 of 2 run in the engine" in result.output and "MACs are integer" in result.output
    rows = json.loads(out.read_text())
    assert [row["network"] for row in rows] == ["cnn", "lenet5"]
    assert all(row["mac_share"] == 1.0 and row["in_engine"] for row in rows)


def test_coverage_goes_on_after_a_network_that_does_not_convert(monkeypatch: pytest.MonkeyPatch) -> None:
    from ptqx.study import convertible
    from ptqx.study.bench import Network

    class NoLayer(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)

    class Cumulative(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cumsum(x, 1)

    class Float(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Conv2d(3, 4, 1), Cumulative(), nn.Conv2d(4, 2, 1), nn.Flatten())

    networks = {"none": NoLayer(), "half": Float().eval()}
    images = [torch.randn(2, 3, 4, 4)]
    monkeypatch.setattr(convertible, "load_network", lambda n: Network(n, networks[n], images))
    none, half = convertible.convertible(["none", "half"], progress=False).rows
    assert none.mac_share is None and "nothing to quantize" in none.reason
    assert half.mac_share == 1.0 and half.float_steps > 0 and not half.in_engine
    assert "engine runs integer layers only" in half.reason


def test_export_and_explain_take_the_file_that_quantize_wrote(weights: Path, tmp_path: Path) -> None:
    model = tmp_path / "cnn.ptqx"
    assert (
        runner.invoke(
            cli.app, ["quantize", *DIGITS, "--weights", str(weights), "--out", str(model)]
        ).exit_code
        == 0
    )
    integer = graph.load(model)
    assert integer.graph.image is not None and integer.graph.image.classes[3] == "3"
    x = torch.randn(5, 1, 8, 8)
    for option in ("--layers", "--engine"):
        out = tmp_path / f"{option}.pt2"
        words = ["export", str(model), "--out", str(out), "--to", "torch-export", option]
        assert runner.invoke(cli.app, words).exit_code == 0
        assert torch.equal(torch.export.load(out).module()(x), integer(x))
    result = runner.invoke(cli.app, ["explain", str(model), "--json", str(tmp_path / "rows.json")])
    assert result.exit_code == 0 and "classifier" in result.output
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["name"] for row in rows if row["kind"] == "linear"] == ["classifier"]
    words = ["explain", str(model), "--measure", "--batch-size", "2", "--json", str(tmp_path / "rows.json")]
    result = runner.invoke(cli.app, words)
    assert result.exit_code == 0 and "fp32/int8" in result.output
    for row in json.loads((tmp_path / "rows.json").read_text()):
        assert (row["measured"] is not None) == bool(row["macs"])


def test_explain_follows_a_value_and_counts_codes(weights: Path, tmp_path: Path) -> None:
    model, found = tmp_path / "cnn.ptqx", tmp_path / "rows.json"
    made = ["quantize", *DIGITS, "--weights", str(weights), "--calibration", "32", "--out", str(model)]
    assert runner.invoke(cli.app, made).exit_code == 0
    followed = ["explain", str(model), "--dataset", "digits", "--value", "features.3:2:1:3", "--sample", "4"]
    followed += ["--json", str(found)]
    result = runner.invoke(cli.app, followed)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("features.3 (conv2d), sample 4, channel 2, y 1, x 3; it reads")
    trace = json.loads(found.read_text())
    (line,) = (line for line in result.output.splitlines() if line.startswith("= accumulator, int32"))
    assert line.split()[3] == str(trace["accumulator"])
    assert trace["products"] == sum(tap["product"] for tap in trace["taps"])
    assert trace["place"] == [4, 2, 1, 3] and trace["input"]["qmax"] == 255
    words = ["explain", str(model), "--dataset", "digits", "--images", "20", "--json", str(found)]
    result = runner.invoke(cli.app, words)
    assert result.exit_code == 0 and "what would help" in result.output and "20 images" in result.output
    for row in json.loads(found.read_text()):
        assert (row["levels"] is not None) == bool(row["macs"])
    for wrong in ("classifier", "classifier:1:2", "classifier:x"):
        result = runner.invoke(cli.app, ["explain", str(model), "--value", wrong])
        assert result.exit_code == 2 and "--value must be LAYER:CHANNEL:Y:X" in result.output


@pytest.mark.parametrize("style", ["qdq", "integer"])
def test_export_to_onnx_prints_the_verdict(style: str, weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model, out, found = (tmp_path / name for name in ("cnn.ptqx", "cnn.onnx", "found.json"))
    made = ["quantize", *DIGITS, "--weights", str(weights), "--out", str(model)]
    assert runner.invoke(cli.app, made).exit_code == 0
    words = ["export", str(model), "--out", str(out), "--style", style, "--dataset", "digits"]
    result = runner.invoke(cli.app, [*words, "--samples", "40", "--json", str(found)])
    assert result.exit_code == 0, result.output
    assert f"{out.stat().st_size:,} bytes" in result.output and "40 samples" in result.output
    verdict = json.loads(found.read_text())
    assert verdict["samples"] == 40 and (verdict["equal"] or style == "qdq")


def test_help_texts_have_no_brackets_which_would_be_taken_for_markup() -> None:
    group = typer.main.get_command(cli.app)
    assert isinstance(group, typer.core.TyperGroup)
    parameters = [(name, p) for name, command in group.commands.items() for p in command.params]
    assert len(parameters) > 100
    for command, parameter in parameters:
        assert "[" not in (getattr(parameter, "help", None) or ""), f"{command}: {parameter.name}"


@pytest.mark.parametrize("command", ["quantize", "qat", "import"])
def test_a_ptqx_file_is_not_written_under_the_name_of_another_kind(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cnn.onnx"
    source = [str(out)] if command == "import" else [*DIGITS, "--weights", "digits"]
    assert cli.main([command, *source, "--out", str(out)]) == 2
    assert "cnn.onnx: a .ptqx file is written; ptqx export makes" in one_error_line(capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "cnn.onnx", "--to", "torch-export"], "cnn.onnx: a PyTorch program (torch-export) under"),
        (["--out", "cnn.pt2", "--json", "found.json"], "--dataset and --json are of the comparison of ONNX"),
    ],
)
def test_export_refuses_what_it_would_leave_out(
    options: list[str], message: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "cnn.ptqx"
    assert cli.main(["quantize", *DIGITS, "--weights", str(weights), "--out", str(model)]) == 0
    capsys.readouterr()
    placed = [str(tmp_path / word) if "." in word else word for word in options]
    assert cli.main(["export", str(model), *placed]) == 2
    assert message in one_error_line(capsys)
    assert not (tmp_path / placed[1]).exists()


def test_quantize_with_an_unknown_recipe_writes_nothing(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.ptqx"
    arguments = ["quantize", *DIGITS, "--weights", str(weights), "--recipe", "int9", "--out", str(out)]
    assert cli.main(arguments) == 2
    assert "unknown recipe 'int9'" in one_error_line(capsys)
    assert not out.exists()


def test_qat_trains_converts_and_resumes(weights: Path, tmp_path: Path) -> None:
    out, run = tmp_path / "m.ptqx", tmp_path / "run"
    arguments = [
        "qat",
        *DIGITS,
        "--weights",
        str(weights),
        "--recipe",
        "w4a4",
        "--epochs",
        "1",
        "--out",
        str(out),
    ]
    arguments += ["--run-folder", str(run), "--json", str(tmp_path / "q.json")]
    first = runner.invoke(cli.app, arguments)
    assert first.exit_code == 0, first.output
    assert {p.name for p in run.iterdir()} >= {"log.csv", "checkpoint.pt", "config.json"}
    content = out.read_bytes()
    assert runner.invoke(cli.app, arguments).exit_code == 0  # continues from the end: nothing left to train
    assert out.read_bytes() == content
    written = json.loads((tmp_path / "q.json").read_text())
    assert (written["kind"], written["execution"]) == ("qat", "integer")


def test_qat_takes_a_teacher_another_quantizer_and_stages(weights: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["qat", *DIGITS, "--weights", str(weights), "--recipe", "w3a3", "--epochs", "2"]
    arguments += ["--teacher", str(weights), "--teacher-model-option", "width=4", "--quantizer", "lsq_plus"]
    arguments += ["--progressive", "4", "--out", str(tmp_path / "m.ptqx"), "--run-folder", str(run)]
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert "calibrated: w3a3, integer top-1 " in result.output
    assert "epoch 1: w4a4, integer top-1 " in result.output and "epoch 2: w3a3" in result.output
    assert {path.name for path in run.iterdir()} >= {"1-w4a4", "best.ptqx", "log.csv"}
    config = json.loads((run / "config.json").read_text())
    assert len(config["teacher"]) == 64 and config["distillation"] > 0
    assert '"quantizer": "lsq_plus"' in config["recipe"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--progressive", "4;3"], "--progressive must be whole numbers separated by commas, got '4;3'"),
        (["--progressive", "3,4"], "progressive: expected falling numbers of bits from 8 to above"),
        (["--quantizer", "lsq+"], "unknown quantizer 'lsq+'; did you mean lsq"),
        (["--teacher-model", "cnn"], "--teacher-model needs --teacher, its checkpoint"),
        (["--val-split", "0"], "val_split must be in (0, 1), got 0.0"),
        (["--teacher", "nowhere.safetensors"], "no such checkpoint file: nowhere.safetensors"),
    ],
)
def test_qat_refuses_what_does_not_fit(
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["qat", *DIGITS, "--weights", str(weights), "--recipe", "w2a2", "--epochs", "4", *options]
    assert cli.main(arguments) == 2
    assert message in one_error_line(capsys)
    assert not (tmp_path / "runs").exists()


def test_scalings_prints_the_table(weights: Path, tmp_path: Path) -> None:
    result_file = tmp_path / "s.json"
    arguments = ["scalings", *DIGITS, "--weights", str(weights), "--bits", "8", "--json", str(result_file)]
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    for scaling in ("max-abs", "3-sigma", "percentile 99.9"):
        assert scaling in result.output
    assert len(json.loads(result_file.read_text())) == 6


def test_sensitivity_ranks_layers_with_costs_and_causes(weights: Path, tmp_path: Path) -> None:
    found = tmp_path / "s.json"
    arguments = ["sensitivity", *DIGITS, "--weights", str(weights), "--by", "size", "--images", "40"]
    arguments += ["--hessian-images", "20", "--calibration", "32", "--json", str(found)]
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert "Hessian trace" in result.output and "likely cause" in result.output
    rows = json.loads(found.read_text())
    sizes = [row["size_bytes"] for row in rows]
    assert sizes == sorted(sizes, reverse=True) and len(rows) == 4
    assert all(row["hessian_trace"] is not None and row["milliseconds"] > 0 for row in rows)


def test_mixed_prints_what_was_foreseen_and_what_is(weights: Path, tmp_path: Path) -> None:
    found, folder = tmp_path / "m.json", tmp_path / "models"
    arguments = [
        "mixed",
        *DIGITS,
        "--weights",
        str(weights),
        "--bits",
        "3,4",
        "--size",
        "1500",
        "--ms",
        "100",
    ]
    arguments += ["--by", "hessian", "--methods", "gptq:sweeps=0", "--images", "32", "--calibration", "32"]
    result = runner.invoke(cli.app, [*arguments, "--save-to", str(folder), "--json", str(found)])
    assert result.exit_code == 0, result.output
    assert "loss at 4" in result.output and "| 1500 bytes" in result.output
    rows = json.loads(found.read_text())["budgets"]
    assert [row["bytes"] for row in rows] == [row["real_bytes"] for row in rows]
    assert all(row["milliseconds"] > 0 and row["real_milliseconds"] > 0 for row in rows)
    sizes = {path.stat().st_size for path in folder.iterdir()}
    assert sizes == {row["file_bytes"] for row in rows}


def test_compare_draws_its_figure_and_refuses_other_names_first(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compare", *DIGITS, "--weights", str(weights), "--formats", "int8", "--calibration", "32"]
    assert cli.main([*arguments, "--plot", str(tmp_path / "all.jpg")]) == 2
    assert "ends in .png, .svg, .pdf" in one_error_line(capsys)
    result = runner.invoke(cli.app, [*arguments, "--plot", str(tmp_path / "all.png")])
    assert result.exit_code == 0, result.output
    assert "logits dB" in result.output
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")


def test_mixed_finds_the_bits_that_keep_to_a_drop(weights: Path) -> None:
    arguments = ["mixed", *DIGITS, "--weights", str(weights), "--by", "hessian", "--images", "32"]
    arguments += ["--calibration", "32", "--drop", "100"]
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert "--drop 100: 2 bits, " in result.output
    assert len([line for line in result.output.splitlines() if line.startswith("| 2 bits ")]) == 1


def test_mixed_checks_what_it_foresaw_in_a_sentence(weights: Path) -> None:
    arguments = ["mixed", *DIGITS, "--weights", str(weights), "--by", "hessian", "--images", "32"]
    arguments += ["--calibration", "32", "--widths", "4,8,fp16", "--test-images", "32"]
    result = runner.invoke(cli.app, [*arguments, "--bits", "4"])
    assert result.exit_code == 0, result.output
    assert "real bytes are those foreseen, all of them; real milliseconds are " in result.output
    assert " inf " not in result.output


def test_import_makes_a_model_of_an_onnx_file_and_compares(weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    state = files.read_tensors(weights)[0]
    model = models.cnn(width=4)
    model.load_state_dict(state)
    x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    integer = graph.quantize(model.eval(), [x], "int8")
    from ptqx import onnx

    onnx.export(integer, tmp_path / "cnn.onnx", x, style="qdq")
    result = runner.invoke(cli.app, ["import", str(tmp_path / "cnn.onnx"), "--dataset", "digits"])
    assert result.exit_code == 0, result.output
    assert "MACs are integer" in result.output and "steps equal" in result.output
    assert torch.equal(graph.load(tmp_path / "cnn.ptqx")(x), integer(x))


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("mixed", "ptqx mixed"),
        ("mixed:bits=3", "ptqx mixed"),
        ("pruned50", "ptqx prune"),
        ("sparse24", "sparse"),
    ],
)
def test_formats_that_are_no_recipes_name_their_command(
    name: str, command: str, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["targets", name], ["quantize", *DIGITS, "--weights", str(weights), "--recipe", name]):
        assert cli.main(words) == 2
        error = one_error_line(capsys)
        assert f"{name!r} is a format of compare, not a recipe; it is made by" in error and command in error


def test_import_of_no_onnx_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx")
    (tmp_path / "x.onnx").write_bytes(b"no model")
    assert cli.main(["import", str(tmp_path / "x.onnx")]) == 2
    assert "x.onnx" in one_error_line(capsys)
    assert not (tmp_path / "x.ptqx").exists()


def test_bench_prints_and_writes_what_it_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ptqx.study.bench import run

    for name in ("SAMPLE_SECONDS", "SETTLE_SECONDS", "CEILING_SECONDS"):
        monkeypatch.setattr(run, name, 5e-3)
    files_written = [tmp_path / name for name in ("b.json", "b.md", "b.png")]
    arguments = ["bench", "--models", "cnn", "--batch", "2", "--threads", "1", "--rounds", "2", "--layers"]
    arguments += ["--engines", "ptqx,torch-fp32"]
    for option, file in zip(("--json", "--markdown", "--plot"), files_written, strict=True):
        arguments += [option, str(file)]
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    rows = json.loads(files_written[0].read_text())["rows"]
    assert [row["engine"] for row in rows] == ["ptqx", "torch-fp32"]
    assert files_written[1].read_text().strip() in result.output
    assert files_written[2].stat().st_size > 1000


def test_compare_then_report(weights: Path, tmp_path: Path) -> None:
    results, page = tmp_path / "out.json", tmp_path / "out.html"
    arguments = [
        "compare",
        *DIGITS,
        "--weights",
        str(weights),
        "--formats",
        "fp32,fp16,int8",
        "--batch-size",
        "8",
    ]
    arguments += ["--calibration", "64", "--json", str(results), "--html", str(page)]
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    rows = json.loads(results.read_text())["rows"]
    assert [row["format"] for row in rows] == ["fp32", "fp16", "int8"]
    assert "| int8" in result.output
    again = tmp_path / "again.html"
    assert runner.invoke(cli.app, ["report", str(results), "--html", str(again)]).exit_code == 0
    assert again.read_text() == page.read_text()


def test_demo_leaves_a_report_results_and_models(tmp_path: Path) -> None:
    result = runner.invoke(cli.app, ["demo", "--out", str(tmp_path), "--epochs", "2"])
    assert result.exit_code == 0, result.output
    assert {p.name for p in tmp_path.iterdir()} >= {
        *("report.html", "results.json", "fp32.safetensors", "fp16.safetensors", "int8.ptqx", "int4.ptqx"),
    }
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert {"fp32", "fp16", "bf16", "int8", "int4"} <= {row["format"] for row in rows}
    assert all(row["format"] in result.output for row in rows)
    assert "<svg" in (tmp_path / "report.html").read_text()
    assert str(tmp_path / "report.html") in result.output
