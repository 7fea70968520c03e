"""Files: atomic writing, and reading of tensors that strangers may have written.

A file is written beside its destination and renamed: a reader sees the old file or the new one, never a half.
"""

from __future__ import annotations

import errno
import mmap
import os
import pickle
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import PtqxError

LEAST_PAGEABLE = 2**16  # bytes
PICKLE_SUFFIXES = (".pt", ".pth", ".th")


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success flush it to disk and rename it to `path`.

    The folder is made if missing. On any exception the temporary file is removed and `path` is untouched.

    Raises:
        PtqxError: the disk is full, or the folder can't be written; the old file, if any, is still there.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "log.txt"
    >>> with atomic_write(target) as partial:
    ...     _ = partial.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    path = Path(path)
    partial: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        os.close(descriptor)
        partial = Path(name)
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(partial, 0o666 & ~_umask())
        os.replace(partial, path)
    except (OSError, RuntimeError, SafetensorError) as error:
        if not _is_write_failure(error):
            raise
        raise PtqxError(f"can't write {path}: {error}; nothing was changed") from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file atomically; tensors that share memory are stored once per name."""
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    with atomic_write(path) as partial:
        save_file(plain, partial, metadata=dict(metadata or {}))


def pageable(content: bytes) -> Tensor:
    """The bytes as a uint8 tensor that lies in a file without a name, in the temporary folder: the system may
    take its pages back and reads them again when somebody looks. Short ones, and all where there is no such
    file to be had, lie in memory.

    >>> pageable(b"ptqx").tolist()
    [112, 116, 113, 120]
    """
    if len(content) >= LEAST_PAGEABLE:
        try:
            with tempfile.TemporaryFile() as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # pages that are not yet on the disk can't be taken back
                pages = mmap.mmap(file.fileno(), len(content), access=mmap.ACCESS_COPY)
            return torch.frombuffer(pages, dtype=torch.uint8)
        except OSError:
            pass
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a checkpoint's tensors and its string metadata ({} where the format has none).

    `.safetensors`, or `.pt/.pth/.th` with `weights_only=True`. For the latter the wrappers `state_dict`,
    `model_state_dict`, `model` and `net` are opened, and the prefixes `module.` and `_orig_mod.` are removed.

    Raises:
        PtqxError: no such file, unknown suffix, truncated or altered file, a pickle that would run code,
            tensors larger than the file, or no tensors inside.
    """
    path = Path(path)
    if not path.is_file():
        raise PtqxError(f"no such checkpoint file: {path}")
    if path.suffix == ".safetensors":
        tensors, metadata = _read_safetensors(path)
    elif path.suffix in PICKLE_SUFFIXES:
        tensors, metadata = _state_dict(read_pickle(path), path), {}
    else:
        raise PtqxError(f"{path}: expected .safetensors, {', '.join(PICKLE_SUFFIXES)}; got {path.suffix!r}")
    return {_bare(name): tensor for name, tensor in tensors.items()}, metadata


def read_pickle(path: Path) -> Any:
    """`torch.load(weights_only=True)` on the CPU; any failure becomes one PtqxError.

    A zip whose records claim more bytes than the file has (compressed or forged) is refused before loading.
    """
    try:
        zipped = zipfile.is_zipfile(path)
        if zipped:
            with zipfile.ZipFile(path) as archive:
                if sum(record.file_size for record in archive.infolist()) > path.stat().st_size:
                    raise PtqxError(f"{path} is damaged: its records claim more bytes than the file has")
        # A mapped storage can't grow, so a forged shape fails instead of allocating.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except PtqxError:
        raise
    except pickle.UnpicklingError as error:
        raise PtqxError(
            f"{path} can't be loaded safely: it is damaged, or holds Python objects beside tensors "
            f"({_first_line(error)}); save its state_dict() alone, or as .safetensors"
        ) from error
    except Exception as error:  # torch.load raises whatever type the damaged byte leads to
        raise PtqxError(f"{path} is not a readable checkpoint, or truncated: {_first_line(error)}") from error


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise PtqxError(f"{path} is not a readable safetensors file: {_first_line(error)}") from error


def _state_dict(loaded: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in ("state_dict", "model_state_dict", "model", "net"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
            break
    tensors_only = isinstance(loaded, Mapping) and all(isinstance(t, Tensor) for t in loaded.values())
    if not tensors_only or not loaded:
        raise PtqxError(f"{path} holds no state_dict: expected a mapping of names to tensors")
    tensors = {str(name): tensor.detach() for name, tensor in loaded.items()}
    claimed = sum(t.nbytes for t in tensors.values())
    if claimed > path.stat().st_size:
        raise PtqxError(f"{path} is damaged: its tensors claim {claimed} bytes, more than the file has")
    return tensors


def _bare(name: str) -> str:
    for prefix in ("module.", "_orig_mod.", "module."):
        name = name.removeprefix(prefix)
    return name


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def _is_write_failure(error: BaseException) -> bool:
    """True for what the file system did: an OSError, or one that torch or safetensors wrapped as text."""
    if isinstance(error, OSError):
        return True
    signs = (os.strerror(errno.ENOSPC), "unexpected pos", "PytorchStreamWriter", "os error")
    return any(sign in str(error) for sign in signs)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
