"""examples/: image files in, the same numbers out as PyTorch computes from the same pixels."""

from __future__ import annotations

import importlib.util
import io
import struct
import subprocess
import sysconfig
import zlib
from pathlib import Path

import numpy as np
import ptqx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

Image = pytest.importorskip("PIL.Image")
CLASSES = tuple(f"kind {i}" for i in range(7))
OPTIONS = ptqx.ImageOptions(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), classes=CLASSES)


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth in part and noisy in part, as photographs are: uint8 [height, width, 3]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = F.interpolate(torch.rand(1, 3, 5, 5, generator=generator), (height, width), mode="bicubic")
    noise = torch.rand(1, 3, height, width, generator=generator) * 0.2
    return ((coarse + noise).clamp(0, 1)[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def expected_input(pixels: np.ndarray, options: ptqx.ImageOptions, size: int = 32) -> Tensor:
    """By PyTorch: resize, crop, normalize."""
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    target, (height, width) = options.resize or size, x.shape[2:]
    shorter = min(height, width)
    full = (height * target // shorter, width * target // shorter)
    if full != (height, width):  # in float64: float32 places the taps of a wide image less exactly
        x = F.interpolate(x.double(), full, mode="bilinear", antialias=True)
    top, left = (round((extent - size) / 2) for extent in full)
    x = x[:, :, top : top + size, left : left + size].float() / 255
    column = (1, -1, 1, 1)
    return (x - torch.tensor(options.mean).reshape(column)) / torch.tensor(options.std).reshape(column)


@pytest.fixture
def model(qmodel: ptqx.IntegerModel, tmp_path: Path) -> Path:
    ptqx.save(qmodel, tmp_path / "model.ptqx", image=OPTIONS)
    return tmp_path / "model.ptqx"


def classified(
    examples: Path,
    model: Path,
    *arguments: object,
    shape: tuple[int, ...] = (-1, 3, 32, 32),
    program: str = "classify",
):
    """The program's text, the inputs it made and the logits it got."""
    dumps = model.with_suffix(".in"), model.with_suffix(".out")
    done = run(examples / program, model, *arguments, "--dump-input", dumps[0], "--dump-output", dumps[1])
    assert done.returncode == 0, done.stderr
    inputs, logits = (torch.from_numpy(np.fromfile(dump, dtype=np.float32)) for dump in dumps)
    inputs = inputs.reshape(shape)
    return done.stdout, inputs, logits.reshape(len(inputs), -1)


def test_png_of_the_input_s_size_gives_the_very_pixels(
    examples: Path, model: Path, qmodel: ptqx.IntegerModel, tmp_path: Path
) -> None:
    pictures = [picture(32, 32, seed) for seed in range(3)]
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for pixels, file in zip(pictures, files, strict=True):
        Image.fromarray(pixels).save(file)
    text, inputs, logits = classified(examples, model, *files, "--threads", 2)
    expected = torch.cat([expected_input(pixels, OPTIONS) for pixels in pictures])
    assert torch.equal(inputs, expected)
    assert torch.equal(logits, qmodel(expected))
    blocks = text.split(str(tmp_path))[1:]
    for block, row in zip(blocks, logits.double().softmax(1), strict=True):
        lines = [line.split("%") for line in block.splitlines()[1:]]
        best = row.topk(5)
        assert [name.strip() for _, name in lines] == [CLASSES[i] for i in best.indices.tolist()]
        for (percent, _), probability in zip(lines, best.values.tolist(), strict=True):
            assert float(percent) == pytest.approx(100 * probability, abs=0.006)


@pytest.mark.parametrize("size", [(48, 64), (211, 100), (20, 33), (31, 500)], ids=str)
@pytest.mark.parametrize("resize", [0, 40])
def test_other_sizes_are_resized_and_cropped_as_pytorch_does(
    size: tuple[int, int], resize: int, examples: Path, model: Path, qmodel: ptqx.IntegerModel
) -> None:
    pixels, file = picture(*size), model.with_suffix(".png")
    Image.fromarray(pixels).save(file)
    _, inputs, logits = classified(examples, model, file, "--resize", resize)
    options = ptqx.ImageOptions(OPTIONS.mean, OPTIONS.std, resize)
    assert torch.allclose(inputs, expected_input(pixels, options), rtol=0, atol=1e-5)
    assert torch.equal(logits, qmodel(inputs))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
@pytest.mark.parametrize("format", ["png", "jpeg"])
def test_every_kind_of_pixel_is_read(
    mode: str, format: str, examples: Path, model: Path, tmp_path: Path
) -> None:
    if format == "jpeg" and mode in ("RGBA", "P"):
        pytest.skip(f"JPEG has no {mode}")
    image = Image.fromarray(picture(32, 32)).convert(mode)
    image.save(tmp_path / f"a.{format}", **({"quality": 95} if format == "jpeg" else {}))
    pixels = np.asarray(Image.open(tmp_path / f"a.{format}").convert("RGB"))
    _, inputs, _ = classified(examples, model, tmp_path / f"a.{format}")
    # Decoders of JPEG may differ by a level or two.
    atol = 0.0 if format == "png" else 2.01 / 255 / min(OPTIONS.std)
    assert torch.allclose(inputs, expected_input(pixels, OPTIONS), rtol=0, atol=atol)


ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_start(height: int, width: int, bits: int, interlaced: bool) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)


def png_file(samples: np.ndarray, gamma: float | None = None, interlaced: bool = False) -> bytes:
    """A PNG file of [height, width, 3], uint8 or uint16, as Pillow can't write it."""
    height, width, _ = samples.shape
    passes = [samples[y::dy, x::dx] for y, x, dy, dx in (ADAM7 if interlaced else ((0, 0, 1, 1),))]
    big_endian = samples.dtype.newbyteorder(">")
    rows = b"".join(b"\0" + row.astype(big_endian).tobytes() for part in passes for row in part)
    extra = b"" if gamma is None else png_chunk(b"gAMA", struct.pack(">I", round(gamma * 100000)))
    end = png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return png_start(height, width, 8 * samples.itemsize, interlaced) + extra + end


RARE_PNGS = {
    "gamma": lambda pixels: png_file(pixels, gamma=1.0),
    "interlaced": lambda pixels: png_file(pixels, interlaced=True),
    "16 bits": lambda pixels: png_file(pixels.astype(np.uint16) * 256 + 200),
}


@pytest.mark.parametrize("kind", RARE_PNGS)
def test_png_samples_are_taken_as_stored(kind: str, examples: Path, model: Path, tmp_path: Path) -> None:
    pixels = picture(32, 32)
    (tmp_path / "a.png").write_bytes(RARE_PNGS[kind](pixels))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png").convert("RGB")), pixels)
    _, inputs, _ = classified(examples, model, tmp_path / "a.png")
    assert torch.equal(inputs, expected_input(pixels, OPTIONS))


def test_one_channel_is_luma_and_options_replace_what_the_file_lacks(examples: Path, tmp_path: Path) -> None:
    net = ptqx.models.cnn(in_channels=1, num_classes=3).eval()
    qmodel = ptqx.quantize(net, [torch.randn(4, 1, 32, 32)], "int8")
    ptqx.save(qmodel, tmp_path / "m.ptqx")
    pixels = picture(32, 32)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    done = run(examples / "classify", tmp_path / "m.ptqx", tmp_path / "a.png")
    assert done.returncode == 2 and "needs --mean and --std of 1 channels" in done.stderr
    arguments = (tmp_path / "a.png", "--mean", 0.5, "--std", 0.25)
    text, inputs, logits = classified(examples, tmp_path / "m.ptqx", *arguments, shape=(-1, 1, 32, 32))
    gray = np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
    assert torch.equal(inputs, expected_input(gray, ptqx.ImageOptions((0.5,), (0.25,))))
    assert torch.equal(logits, qmodel(inputs)) and f"%  {int(logits.argmax())}" in text


def _jpeg() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture(64, 64)).save(stream, "jpeg")
    return stream.getvalue()


def _png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture(64, 64)).save(stream, "png")
    return stream.getvalue()


BAD_FILES = {
    "empty": (lambda: b"", "neither a JPEG nor a PNG"),
    "text": (lambda: b"hello", "neither a JPEG nor a PNG"),
    "truncated JPEG": (lambda: _jpeg()[:900], "JPEG"),
    "only a signature": (lambda: b"\xff\xd8\xff", "JPEG"),
    "truncated PNG": (lambda: _png()[:900], ""),
    "damaged PNG": (lambda: _png()[:200] + b"\0" * 50 + _png()[250:], ""),
    "PNG that claims too much": (
        lambda: png_start(65535, 65535, 8, False) + _png()[33:],
        "65535x65535 pixels; expected",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_image_is_one_line_that_names_it(name: str, examples: Path, model: Path, tmp_path: Path) -> None:
    make, message = BAD_FILES[name]
    (tmp_path / "bad.img").write_bytes(make())
    done = run(examples / "classify", model, tmp_path / "bad.img")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"error: {tmp_path / 'bad.img'}: ") and message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.ptqx", "a.png"], "none.ptqx"),
        (["MODEL", "none.png"], "none.png: No such file"),
        (["MODEL", "a.png", "--thread", "1"], "unknown option --thread"),
        (["MODEL", "a.png", "--threads", "0"], "--threads: expected a whole number of 1 to 1024"),
        (["MODEL", "a.png", "--threads"], "--threads needs a value"),
        (["MODEL", "a.png", "--mean", "1,x,2"], '--mean: expected a number, got "x"'),
        (["MODEL", "a.png", "--std", "1,0,1"], "std positive"),
        (["MODEL", "a.png", "--resize", "20"], "can't be cropped"),
        (["MODEL"], "usage: classify"),
    ],
)
def test_mistake_ends_in_a_message_and_status_2(
    arguments: list[str], message: str, examples: Path, model: Path, tmp_path: Path
) -> None:
    Image.fromarray(picture(32, 32)).save(tmp_path / "a.png")
    words = [str(model) if word == "MODEL" else word for word in arguments]
    command = [str(examples / "classify"), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2 and message in done.stderr


def problem_of_torchvision() -> str | None:
    """Why torchvision's image operators can't be loaded, or None if they can."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return "torchvision is not installed"
    libraries = list(Path(spec.origin).parent.glob("image*.so"))
    try:
        for library in libraries:
            torch.ops.load_library(library)
    except OSError as error:
        return f"torchvision is not built for this torch: {error.__cause__ or error}"
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        return "Python has no shared library, whose symbols torchvision needs"
    return None if libraries else "torchvision has no image operators"


@pytest.fixture(scope="session")
def torchvision_loads() -> None:
    problem = problem_of_torchvision()
    if problem is not None:
        pytest.skip(problem)


def test_torchvision_that_does_not_load_is_one_line(examples: Path, model: Path, tmp_path: Path) -> None:
    Image.fromarray(picture(32, 32)).save(tmp_path / "a.png")
    command = [examples / "classify_torch", model, tmp_path / "a.png"]
    missing = run(*command, "--torchvision", tmp_path)
    assert f"({tmp_path} has neither image.so nor image_stable.so)" in missing.stderr
    for done in [missing, *([run(*command)] if problem_of_torchvision() else [])]:
        assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
        assert done.stderr.startswith("error: torchvision's image operators can't be loaded (")
        assert "install the torchvision that was built for this torch, or use classify" in done.stderr


@pytest.mark.usefixtures("torchvision_loads")
def test_torchvision_s_operators_give_what_classify_gives(
    examples: Path, model: Path, tmp_path: Path
) -> None:
    files = []
    for i, mode in enumerate(["RGB", "L", "RGBA", "P"]):
        files.append(tmp_path / f"{mode}.png")
        Image.fromarray(picture(40 + 9 * i, 50, seed=i)).convert(mode).save(files[-1])
    for kind, make in RARE_PNGS.items():
        files.append(tmp_path / f"{kind}.png")
        files[-1].write_bytes(make(picture(32, 32)))
    for threads in (1, 2):
        arguments = (*files, "--threads", threads, "--resize", 36)
        text, inputs, logits = classified(examples, model, *arguments, program="classify_torch")
        expected_text, expected_inputs, expected_logits = classified(examples, model, *arguments)
        assert torch.equal(inputs, expected_inputs) and torch.equal(logits, expected_logits)
        assert text == expected_text


@pytest.mark.usefixtures("torchvision_loads")
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_torchvision_s_jpeg_decoder_differs_by_a_level_or_two(
    mode: str, examples: Path, model: Path, tmp_path: Path
) -> None:
    Image.fromarray(picture(64, 48)).convert(mode).save(tmp_path / "a.jpeg", quality=95)
    _, inputs, _ = classified(examples, model, tmp_path / "a.jpeg", program="classify_torch")
    _, expected, _ = classified(examples, model, tmp_path / "a.jpeg")
    assert torch.allclose(inputs, expected, rtol=0, atol=2.01 / 255 / min(OPTIONS.std))


# torchvision 0.29.1 crashes on these, in Python as well: its PNG decoder comes back from libpng by longjmp.
CRASHES_TORCHVISION = ("damaged PNG", "PNG that claims too much")


@pytest.mark.usefixtures("torchvision_loads")
@pytest.mark.parametrize(
    "name", [*(name for name in BAD_FILES if name not in CRASHES_TORCHVISION), "missing"]
)
def test_bad_image_is_one_line_from_torchvision_too(
    name: str, examples: Path, model: Path, tmp_path: Path
) -> None:
    if name in BAD_FILES:
        (tmp_path / "bad.img").write_bytes(BAD_FILES[name][0]())
    done = run(examples / "classify_torch", model, tmp_path / "bad.img")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"error: {tmp_path / 'bad.img'}: ") and done.stderr.count("\n") == 1


def test_damaged_model_is_refused(examples: Path, model: Path, tmp_path: Path) -> None:
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    for command in ([examples / "classify", model, "a.png"], [examples / "throughput", model]):
        done = run(*command)
        assert done.returncode == 2 and "checksum" in done.stderr and "model.ptqx" in done.stderr


@pytest.mark.parametrize("tuning", [[], ["--tune", 0.1]], ids=["untuned", "tuned"])
def test_throughput_prints_rates_latencies_and_memory(
    examples: Path, model: Path, tuning: list[object]
) -> None:
    done = run(examples / "throughput", model, "--batch", 3, "--threads", 2, "--seconds", 0.2, *tuning)
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert words[:5] == ["batch", "3,", "threads", "2,", words[4]] and int(words[4]) >= 1
    rate, median = float(words[words.index("throughput") + 1]), float(words[words.index("latency") + 1])
    p99 = float(words[words.index("p90,") + 1])
    assert rate > 0 and 0 < median <= p99
    assert int(words[words.index("memory") + 1]) > 1000
