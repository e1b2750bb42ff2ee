"""What a file of torch's holds, found without loading it: its kind, and what it would run.

A pickle names what it imports and calls. Reading those names runs nothing; loading the
file calls them, whatever they are.
"""

import io
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path

from edgewright.core.errors import ModelError

WEIGHTS = "weights"
# What tensors and plain containers are made of; torch's own loader of weights calls no
# others. Storage classes are told by their ending.
_HARMLESS = frozenset({
    "collections.OrderedDict", "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3", "torch._utils._rebuild_parameter",
    "torch._tensor._rebuild_from_type_v2", "torch.Size", "torch.device", "torch.Tensor",
    "torch.nn.parameter.Parameter", "torch.nn.Parameter", "torch.serialization._get_layout",
    "_codecs.encode", "builtins.bytearray", "__builtin__.bytearray", "builtins.set",
    "__builtin__.set", "torch.bfloat16", "torch.float16", "torch.float32", "torch.float64",
    "torch.int8", "torch.int16", "torch.int32", "torch.int64", "torch.uint8", "torch.bool",
})  # fmt: skip
_STRINGS = frozenset({
    "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING",
    "SHORT_BINSTRING",
})  # fmt: skip
_STORES = frozenset({"MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"})
_FETCHES = frozenset({"GET", "BINGET", "LONG_BINGET"})
_DEPTH = 4


def kind_of(path: Path) -> str:
    """Return the kind of a ``.pt`` file: a row of ``SOURCES``, or ``WEIGHTS``.

    Raises:
        ModelError: It is no file of torch's, or cannot be read.
    """
    data = _read(path)
    if zipfile.is_zipfile(io.BytesIO(data)):
        names = [name.partition("/")[2] or name for name in _zip(data, path).namelist()]
        if "constants.pkl" in names or any(name.startswith("code/") for name in names):
            return "torchscript"
        if "models/model.json" in names or "serialized_exported_program.json" in names:
            return "torch-export"
    elif not data.startswith(b"\x80"):
        raise ModelError(
            f"{path.name} is no file that torch wrote: it begins with {data[:8]!r}",
            hint="Give a file that torch.export.save, torch.jit.save or torch.save wrote.",
        )
    return "torch-pickle" if imports(path) else WEIGHTS


def imports(path: Path) -> tuple[str, ...]:
    """Return what loading ``path`` would import beyond tensors, like ``posix.system``.

    Raises:
        ModelError: It cannot be read, or a pickle in it is damaged.
    """
    data = _read(path)
    found = {name for held in _pickles(data, path, 0) for name in _globals(held, path)}
    return tuple(sorted({n for n in found if not _harmless(n)} | _compiled(data, path)))


def refuse(path: Path, names: tuple[str, ...]) -> ModelError:
    """Return the error for a pickle that nobody said may be trusted."""
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return ModelError(
        f"loading {path.name} would run what it names: {shown}",
        hint="Save weights as .safetensors and the model with torch.export.save; or give "
        "--trust-pickle if you made the file yourself.",
    )


def _harmless(name: str) -> bool:
    storage = name.startswith("torch.") and name.count(".") == 1 and name.endswith("Storage")
    return storage or name in _HARMLESS or name == "torch.storage.UntypedStorage"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"cannot read {path.name}: {error.strerror}",
            hint="Give the path of a file that may be read.",
        ) from error


def _zip(data: bytes, path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except zipfile.BadZipFile as error:
        raise ModelError(
            f"{path.name} is damaged or incomplete: {error}", hint="Copy the file again."
        ) from error


def _compiled(data: bytes, path: Path) -> set[str]:
    """Return the machine code in an archive, which torch loads with a program."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return set()
    with _zip(data, path) as archive:
        names = archive.namelist()
    return {n for n in names if "/aotinductor/" in n or n.endswith((".so", ".dll", ".dylib"))}


def _pickles(data: bytes, path: Path, depth: int) -> Iterator[bytes]:
    """Yield every pickle in ``data``, also those in archives inside an archive."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        if depth == 0:
            yield data
        return
    with _zip(data, path) as archive:
        for info in archive.infolist():
            try:
                held = archive.read(info)
            except (zipfile.BadZipFile, RuntimeError, EOFError) as error:
                raise ModelError(
                    f"{path.name} is damaged: {error}",
                    hint="Save the model again; the file is incomplete or was altered.",
                ) from error
            if held.startswith(b"PK") and depth < _DEPTH:
                yield from _pickles(held, path, depth + 1)
            elif info.filename.endswith(".pkl") or "opaque" in info.filename:
                yield held


def _globals(data: bytes, path: Path) -> Iterator[str]:
    """Yield what the pickles in ``data``, one after another, import."""
    stream = io.BytesIO(data)
    while len(data) - stream.tell() > 1:
        begun = stream.tell()
        try:
            yield from _globals_of_one(stream)
        except (ValueError, EOFError, IndexError, UnicodeDecodeError) as error:
            if begun:
                return  # what follows the pickles of an old file is raw storage
            raise ModelError(
                f"a pickle in {path.name} is damaged: {error}",
                hint="Save the model again; the file is incomplete or was altered.",
            ) from error


def _globals_of_one(stream: io.BytesIO) -> Iterator[str]:
    """Yield what one pickle imports; a name it keeps in its memo is looked up there."""
    strings: list[str] = []
    memo: dict[int, str] = {}
    for code, argument, _ in pickletools.genops(stream):
        name = code.name
        if name in _STRINGS:
            strings.append(str(argument))
        elif name in _STORES:
            place = len(memo) if argument is None else int(argument)
            memo[place] = strings[-1] if strings else ""
        elif name in _FETCHES:
            strings.append(memo.get(int(argument or 0), ""))
        elif name in {"GLOBAL", "INST"}:
            yield str(argument).replace(" ", ".", 1)
        elif name == "STACK_GLOBAL":
            yield ".".join(strings[-2:])
        elif name.startswith("EXT"):
            yield f"an extension numbered {argument}"
