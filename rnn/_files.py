"""Model files that survive: a header and arrays in one file, whole or not at all.

Written by hand, without model code. The file is an .npz, which `np.load` opens too:
header.npy, the JSON of the caller's header and of each array's type and shape; the
arrays; the zip directory; and, as the archive's comment, a checksum of all before it.
Each byte follows from the content, so that the reader can refuse whatever the writer
would not have written.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import stat
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["ModelFileError", "read_arrays", "write_arrays"]

_VERSION = 1
_DTYPES = ("<f4", "<f8", "<i4", "<i8", "|u1")
_NAME = re.compile(r"(?!header$)[A-Za-z_][A-Za-z0-9_.-]{0,99}")  # safe for a file, too
_LONGEST_HEADER = 1 << 28  # bytes
_BLOCK_SIZE = 1 << 20  # bytes read at once
_COMMENT_SIZE = len("sha256:") + 64
_TEXT_START = 30 + len("header.npy") + 20 + 128  # of the JSON in header.npy
_LATER = 0xFFFFFFFF  # instead of a size: it follows, in 64 bits


class ModelFileError(ValueError):
    """A file that is damaged, or is not a model; the message begins with its name."""


class _Spec(NamedTuple):
    """What header.npy tells of an array."""

    dtype: str
    shape: tuple[int, ...]
    order: Literal["C", "F"]  # F is Fortran's

    @property
    def size(self) -> int:
        """The bytes of the elements."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def npy(self) -> bytes:
        """What stands before the elements in an .npy of version 1.0."""
        text = (
            f"{{'descr': '{self.dtype}', 'fortran_order': {self.order == 'F'}, "
            f"'shape': {self.shape}, }}"
        )
        text += " " * (-(len(text) + 11) % 64) + "\n"
        return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()


def write_arrays(
    path: str | os.PathLike[str],
    header: dict[str, Any],
    arrays: dict[str, NDArray[Any]],
) -> None:
    """Write a header and arrays to a file, which is replaced as a whole or not at all.

    The same content gives the same bytes.

    Args:
        path: The file; of a symbolic link, the file that it points to.
        header: What JSON gives back as it was: no tuples, no NaN, only strings as keys.
        arrays: Arrays of float32, float64, int32, int64, or uint8, by name.

    Raises:
        ValueError: `header` or `arrays` hold what `read_arrays` would refuse, or `path`
            exists and is not a regular file.
        OSError: The file cannot be written; the message names it.
    """
    specs = {name: _checked_spec(name, array) for name, array in arrays.items()}
    text = np.frombuffer(_checked_text(header, specs), np.uint8)
    digest = hashlib.sha256()
    with _naming(path), _replacing(Path(os.path.realpath(path))) as file:
        for piece in _pieces({"header": text, **arrays}):
            digest.update(piece)
            file.write(piece)
        file.write(b"sha256:" + digest.hexdigest().encode())


def read_arrays(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The header and the arrays of a file that `write_arrays` wrote.

    Memory for arrays is taken only if they fill the file. Whether their numbers are
    finite is for the caller to check.

    Raises:
        ModelFileError: The file is damaged, or `write_arrays` of this version did not
            write it; the message is one line and begins with the file's name.
        OSError: The file cannot be read; the message names it.
    """
    name = os.fsdecode(path)
    name = name if name.isprintable() else repr(name)
    with _naming(path), open(path, "rb") as file:
        problem = _damage(file)
        try:
            if not problem:
                return _read(file)
        except _NewerVersionError:
            problem = (
                "was written by a newer version of rnn, this one reads format version "
                f"{_VERSION}: update the package"
            )
        except (ValueError, RecursionError) as error:
            problem = f"is not a file that rnn wrote, {error}: save the model again"
    raise ModelFileError(f"{name} {problem}")


class _NewerVersionError(Exception):
    """The file says that it is of a later version."""


def _checked_spec(name: Any, array: Any) -> _Spec:
    """The type, shape, and order of an array that can be written."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"arrays holds the name {name!r:.80}: expected at most 100 letters, "
            'digits, ".", "_", "-", first a letter or "_", and not "header"; rename it'
        )
    if not isinstance(array, np.ndarray) or array.dtype.str not in _DTYPES:
        found = getattr(array, "dtype", type(array).__name__)
        raise ValueError(
            f"arrays[{name!r}] is of type {found}: expected an array of little-endian "
            "float32, float64, int32, int64, or uint8; convert it"
        )
    return _spec(array)


def _spec(array: NDArray[Any]) -> _Spec:
    """The type, shape, and order of an array."""
    return _Spec(array.dtype.str, array.shape, "F" if array.flags.fnc else "C")


def _text(header: dict[str, Any], specs: dict[str, _Spec]) -> bytes:
    """The JSON in header.npy."""
    content = {
        "format": "rnn model",
        "version": _VERSION,
        "arrays": {name: spec._asdict() for name, spec in specs.items()},
        "header": header,
    }
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode()


def _checked_text(header: dict[str, Any], specs: dict[str, _Spec]) -> bytes:
    """The JSON in header.npy, if it gives back the header as it was."""
    try:
        text = _text(header, specs)
        same = isinstance(header, dict) and json.loads(text)["header"] == header
        problem = "" if same else "it would come back changed"
    except (TypeError, ValueError, RecursionError) as error:
        problem = str(error)
    if not problem and len(text) <= _LONGEST_HEADER:
        return text
    raise ValueError(
        f"header cannot be kept as JSON, {problem or 'it is too long'}: expected a "
        "dict of strings, finite numbers, booleans, None, lists, and dicts whose keys "
        f"are strings, at most {_LONGEST_HEADER:,} bytes of text; convert it"
    )


def _parsed(text: bytes) -> tuple[dict[str, Any], dict[str, _Spec]]:
    """The caller's header, and what the JSON tells of each array."""
    match json.loads(text):
        case {"format": "rnn model", "version": int(version)} if version > _VERSION:
            raise _NewerVersionError
        case {"arrays": dict(arrays), "header": dict(header)}:
            specs = {name: _parsed_spec(name, spec) for name, spec in arrays.items()}
            if _text(header, specs) == text:
                return header, specs
    raise ValueError("its header has another form")


def _parsed_spec(name: str, spec: Any) -> _Spec:
    """What the JSON tells of an array, if there can be such an array."""
    match spec:
        case {"dtype": str(dtype), "shape": list(shape), "order": "C" | "F" as order}:
            lengths = len(shape) <= 64 and all(type(n) is int and n >= 0 for n in shape)
            possible = lengths and math.prod(shape) < 1 << 60  # sizes fit 64 bits
            if possible and dtype in _DTYPES and _NAME.fullmatch(name):
                return _Spec(dtype, tuple(shape), order)
    raise ValueError("its header tells of an array that there cannot be")


def _elements(array: NDArray[Any], order: Literal["C", "F"]) -> memoryview:
    """The bytes of an array in its order; a copy only if it is not contiguous."""
    return np.asarray(array, order=order).reshape(-1, order=order).view(np.uint8).data


def _records(
    name: str, spec: _Spec, data: bytes | memoryview, offset: int
) -> tuple[bytes, bytes]:
    """What stands before an array's elements, and its entry in the zip directory."""
    npy, member = spec.npy(), f"{name}.npy".encode()
    size, length = len(npy) + spec.size, len(member)
    checksum = zlib.crc32(data, zlib.crc32(npy))
    # Zip version 4.5, no flags, not compressed, midnight on 1 January 1980.
    both = struct.pack("<5H3I", 45, 0, 0, 0, 33, checksum, _LATER, _LATER)
    local = b"PK\3\4" + both + struct.pack("<2H", length, 20) + member
    entry = b"PK\1\2-\0" + both + struct.pack("<5H2I", length, 28, *[0] * 4, _LATER)
    return (
        local + struct.pack("<2H2Q", 1, 16, size, size) + npy,
        entry + member + struct.pack("<2H3Q", 1, 24, size, size, offset),
    )


def _end(directory: bytes, count: int, offset: int) -> bytes:
    """The zip directory, beginning at an offset, and all after it but the comment."""
    size = len(directory)
    return b"".join(
        [
            directory,
            struct.pack("<4sQ2H2I", b"PK\6\6", 44, 45, 45, 0, 0),
            struct.pack("<4Q", count, count, size, offset),
            struct.pack("<4sIQI", b"PK\6\7", 0, offset + size, 1),
            struct.pack("<4s4H", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF),
            struct.pack("<2IH", _LATER, _LATER, _COMMENT_SIZE),
        ]
    )


def _pieces(arrays: dict[str, NDArray[Any]]) -> Iterator[bytes | memoryview]:
    """The bytes of a file, but for the comment."""
    entries, offset = [], 0
    for name, array in arrays.items():
        spec = _spec(array)
        data = _elements(array, spec.order)
        head, entry = _records(name, spec, data, offset)
        yield head
        yield data
        entries.append(entry)
        offset += len(head) + spec.size
    yield _end(b"".join(entries), len(entries), offset)


def _damage(file: BinaryIO) -> str:
    """What is wrong with a file that does not end in its checksum; else nothing."""
    size = os.fstat(file.fileno()).st_size - _COMMENT_SIZE
    digest = hashlib.sha256()
    for start in range(0, size, _BLOCK_SIZE):
        digest.update(file.read(min(_BLOCK_SIZE, size - start)))
    comment = file.read(_COMMENT_SIZE)
    if comment == b"sha256:" + digest.hexdigest().encode():
        return ""
    file.seek(0)
    if file.read(40)[30:] == b"header.npy" or comment.startswith(b"sha256:"):
        return "is damaged or cut short: use a copy, or save the model again"
    return f"{'is not a model' if comment else 'is empty'}: name a file that rnn saved"


def _read(file: BinaryIO) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The content of a file, if the writer would write the same bytes for it."""
    end = file.seek(-_COMMENT_SIZE, os.SEEK_END)
    file.seek(_TEXT_START - 128 - 8)
    length = int.from_bytes(file.read(8), "little") - 128
    if not 0 < length <= min(end, _LONGEST_HEADER):
        raise ValueError("it does not begin with a header")
    file.seek(_TEXT_START)
    header, specs = _parsed(file.read(length))
    specs = {"header": _Spec("|u1", (length,), "C"), **specs}
    sizes = [spec.size for spec in specs.values()]
    for name, spec in specs.items():
        sizes.extend(map(len, _records(name, spec, b"", 0)))
    if sum(sizes) + len(_end(b"", 0, 0)) != end:
        raise ValueError("its size is not what its header tells")

    file.seek(0)
    arrays: dict[str, NDArray[Any]] = {}
    entries = []
    for name, spec in specs.items():
        offset = file.tell()
        found = file.read(len(_records(name, spec, b"", 0)[0]))
        arrays[name] = np.empty(spec.shape, spec.dtype, spec.order)
        data = _elements(arrays[name], spec.order)
        file.readinto(data)  # type: ignore[attr-defined]
        head, entry = _records(name, spec, data, offset)
        if found != head or _spec(arrays[name]) != spec:
            raise ValueError(f"its {name}.npy is not what its header tells")
        entries.append(entry)
    offset = file.tell()
    if file.read(end - offset) != _end(b"".join(entries), len(entries), offset):
        raise ValueError("its zip directory is not what its header tells")
    del arrays["header"]
    return header, arrays


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file, which takes the place of another when all of it is on the disk."""
    mode = path.stat().st_mode if path.exists() else None
    if mode is not None and not stat.S_ISREG(mode):
        raise ValueError(f"path is {str(path)!r}: expected a regular file; name one")
    temporary = path.with_name(f".rnn-{os.getpid()}-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            temporary.chmod(stat.S_IMODE(mode))
        os.replace(temporary, path)
    except BaseException:  # an interruption, too
        temporary.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # some file systems cannot do this for a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Make an error of the system name the file that the caller named."""
    try:
        yield
    except OSError as error:
        error.filename = os.fspath(path)
        raise
