"""Model files that survive: a header and arrays in one file, whole or not at all.

Written by hand, without model code. The file is an .npz, which `np.load` opens too: a
member header.npy, which holds JSON, and one for each array, none of them compressed.
The archive comment is a checksum of every byte before it, so that no damage is unseen.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

__all__ = ["ModelFileError", "read_arrays", "write_arrays"]

_FORMAT = "rnn model"
_VERSION = 1
_DTYPES = ("<f4", "<f8", "<i4", "<i8", "|u1")
_NAME = re.compile(r"(?!header$)[A-Za-z_][A-Za-z0-9_.-]{0,99}")  # safe for a file, too
_BLOCK = 1 << 20  # bytes read at once
_COMMENT = len("sha256:") + 64


class ModelFileError(ValueError):
    """A file that is damaged, or is not a model; the message begins with its name."""


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
        ValueError: `header` or `arrays` hold what cannot be kept, or `path` exists and
            is not a regular file.
        OSError: The file cannot be written; the message names it.
    """
    for name, array in arrays.items():
        _check_array(name, array)
    text = np.frombuffer(_json(header), np.uint8)
    with _naming(path), _replacing(Path(os.path.realpath(path))) as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.comment = bytes(_COMMENT)
            for name, array in {"header": text, **arrays}.items():
                member = zipfile.ZipInfo(f"{name}.npy")  # of 1980: no clock in the file
                with archive.open(member, "w", force_zip64=True) as stream:
                    npy.write_array(stream, array, allow_pickle=False)
        checksum = _checksum(file)
        file.seek(-_COMMENT, os.SEEK_END)
        file.write(checksum)


def read_arrays(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The header and the arrays of a file that `write_arrays` wrote.

    Memory is taken for no more than the file holds. Whether numbers are finite is for
    the caller to check.

    Raises:
        ModelFileError: The file is damaged, or no model; the message is one line and
            begins with the file's name.
        OSError: The file cannot be read; the message names it.
    """
    name = os.fsdecode(path)
    name = name if name.isprintable() else repr(name)
    with _naming(path), open(path, "rb") as file:
        problem = _damage(file)
        if problem:
            raise ModelFileError(f"{name} {problem}")
        try:
            return _read(file)
        except MemoryError:
            raise
        except Exception as error:  # whatever an archive made with malice can provoke
            reason = f"{error!r:.200}"
            raise ModelFileError(
                f"{name} is no model that rnn can read ({reason}): save the model again"
            ) from error


def _check_array(name: Any, array: Any) -> None:
    """Raise ValueError for an array that cannot be kept, or a name that is not safe."""
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


def _json(header: dict[str, Any]) -> bytes:
    """The text of header.npy, if it will give back the header as it was."""
    content = {"format": _FORMAT, "version": _VERSION, "header": header}
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
        if isinstance(header, dict) and json.loads(text)["header"] == header:
            return text
        problem = "it would come back changed"
    except (TypeError, ValueError, RecursionError) as error:
        problem = str(error)
    raise ValueError(
        f"header cannot be kept as JSON, {problem}: expected a dict of strings, finite "
        "numbers, booleans, None, lists, and dicts whose keys are strings; convert it"
    )


def _checksum(file: BinaryIO) -> bytes:
    """What the comment should be: the checksum of all that is before it."""
    left = file.seek(0, os.SEEK_END) - _COMMENT
    file.seek(0)
    digest = hashlib.sha256()
    while left > 0:
        block = file.read(min(_BLOCK, left))
        digest.update(block)
        left -= len(block)
    return f"sha256:{digest.hexdigest()}".encode()


def _damage(file: BinaryIO) -> str:
    """What is wrong with a file that does not end in its checksum; else nothing."""
    if os.fstat(file.fileno()).st_size == 0:
        return "is empty: name a file that rnn saved"
    checksum = _checksum(file)
    if file.read(_COMMENT + 1) == checksum:
        return ""
    file.seek(0)
    if b"header.npy" in file.read(100):
        return "is damaged or cut short: use a copy, or save the model again"
    return "is not a model: name a file that rnn saved"


def _read(file: BinaryIO) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The header and the arrays of an archive, sizes checked before memory is taken."""
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > size:
            raise ValueError("it holds more than there is room for")
        arrays = {
            member.filename.removesuffix(".npy"): _read_array(archive, member)
            for member in members
        }
    if len(arrays) < len(members) or "header" not in arrays:
        raise ValueError("it holds an array twice, or no header")
    content = json.loads(arrays.pop("header").tobytes())
    if content["format"] != _FORMAT or not isinstance(content["header"], dict):
        raise ValueError("its header has another form")
    if content["version"] != _VERSION:
        raise ValueError(
            f"it is of version {content['version']}, this package reads {_VERSION}: "
            "update the package"
        )
    for name, array in arrays.items():
        _check_array(name, array)
    return content["header"], arrays


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    """One array, if it is not compressed and fills its member."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError("it is compressed")
    with archive.open(member) as stream:
        if npy.read_magic(stream) != (1, 0):
            raise ValueError(f"{member.filename} has another form")
        shape, fortran, dtype = npy.read_array_header_1_0(stream)
        left = member.file_size - stream.tell()
        if dtype.str not in _DTYPES or math.prod(shape) * dtype.itemsize != left:
            raise ValueError(f"{member.filename} does not hold what it promises")
        array = np.empty(math.prod(shape), dtype)
        data = array.view(np.uint8).data
        while data:
            block = stream.read(_BLOCK)
            if not block:
                raise ValueError(f"{member.filename} is cut short")
            data[: len(block)] = block
            data = data[len(block) :]
        if stream.read(1):  # at the end, zipfile checks its own sum
            raise ValueError(f"{member.filename} is too long")
    return array.reshape(shape, order="F" if fortran else "C")


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file, which takes the place of another when all of it is on the disk."""
    mode = path.stat().st_mode if path.exists() else None
    if mode is not None and not stat.S_ISREG(mode):
        raise ValueError(f"path is {str(path)!r}: expected a regular file; name one")
    temporary = path.with_name(f".rnn-{os.getpid()}-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "x+b") as file:
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
