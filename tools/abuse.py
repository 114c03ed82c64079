"""Abuse the readers and writers of files, and print what holds.

Usage: python tools/abuse.py [--seconds S] [--seed N]   (S: of fuzzing, 300 unless told)

Processes that save a model are killed; model files have bits flipped, are cut short,
lie about what they hold, and are fuzzed together with texts. One line for each claim;
the exit status is 1 if one fails. A kill is not a power cut: what has been written
survives in the kernel, so that the flushing to disk is not tried here.
"""

import argparse
import contextlib
import copy
import functools
import hashlib
import io
import math
import os
import random
import signal
import struct
import sys
import tempfile
import time
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a process that forks has one thread

import numpy as np
from tqdm import tqdm

from rnn import LanguageModel, _files, index_text, read_text, tokenize
from rnn._files import ModelFileError, read_arrays, write_arrays

KILLS, FLIPS, CUTS = 200, 10_000, 500
HEADER = {"words": ["</s>", "<unk>", "dogs", "größe", "\U0001f415"], "cost": 1.5}
ARRAYS = {
    "U": np.asfortranarray(np.linspace(-1, 1, 20).reshape(4, 5)),
    "W": np.eye(4, dtype=np.float32),
    "counts": np.arange(5),
}
MEGABYTE = 1e6


class Claim(NamedTuple):
    """What was tried, what came of it, and whether that is what should."""

    name: str
    figure: str
    holds: bool


def sealed(body: bytes) -> bytes:
    """Bytes with the checksum that belongs to them."""
    return body + b"sha256:" + hashlib.sha256(body).hexdigest().encode()


def text_of(header: Any) -> bytes:
    """The text of header.npy in a file with this header."""
    return _files._json(header)


def archive(text: bytes, arrays: dict[str, Any], compression: int = 0) -> bytes:
    """A model file as somebody else might make it, of any header and arrays."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as members:
        for name, array in {"header": np.frombuffer(text, np.uint8), **arrays}.items():
            data = array
            if not isinstance(array, bytes):
                member = io.BytesIO()
                np.lib.format.write_array(member, array)
                data = member.getvalue()
            members.writestr(zipfile.ZipInfo(f"{name}.npy"), data, compression)
        members.comment = b"-" * 71
    return sealed(file.getvalue()[:-71])


def progress(steps: Iterable[Any], name: str) -> Iterable[Any]:
    """The steps, with a bar on a terminal."""
    return tqdm(steps, name, leave=False, disable=None)


def outcome(path: Path, read: Callable[[Path], Any] = read_arrays) -> str:
    """What came of reading a file: loaded, refused, or something that must not be."""
    try:
        read(path)
    except ModelFileError as error:
        message = str(error)
        good = message.isprintable() and message.startswith(f"{path} ")
        return "refused" if good else f"a bad message: {message!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "loaded"


def told(outcomes: Counter[str]) -> str:
    """How often each outcome came."""
    return ", ".join(f"{n:,} {outcome}" for outcome, n in outcomes.most_common(5))


def model(count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The content of the saving with a number: 6 MB that differ in every byte."""
    value = count % 251
    return {"count": count}, {
        "U": np.full((1000, 500), value, np.int64, order="F"),
        "bytes": np.full(2_000_000, value, np.uint8),
    }


def save_forever(path: Path, count: int, pipe: int) -> None:
    """Save one model after the other, telling when each saving begins and ends."""
    while True:
        content = model(count)
        os.write(pipe, struct.pack("<cq", b"b", count))
        write_arrays(path, *content)
        os.write(pipe, struct.pack("<cq", b"e", count))
        count += 1


def kill_one(path: Path, count: int, delay: float) -> tuple[int, int]:
    """Kill a process that saves; the last saving that it ended, that it began."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            save_forever(path, count, writing)
        finally:
            os._exit(1)
    os.close(writing)
    with open(reading, "rb") as pipe:
        first = pipe.read(9)  # the first saving begins
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        marks = struct.iter_unpack("<cq", first + pipe.read())
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise RuntimeError("the process that saves has ended by itself")
    numbers = {b"b": count, b"e": count - 1} | dict(marks)
    return numbers[b"e"], numbers[b"b"]


def kills(folder: Path, rng: random.Random) -> Claim:
    """After a kill the file holds the last model or the one that was being saved."""
    path = folder / "model.npz"
    start = time.perf_counter()
    write_arrays(path, *model(0))
    duration = time.perf_counter() - start
    last = inside = left = lost = 0
    for _ in progress(range(KILLS), "kills"):
        ended, begun = kill_one(path, last + 1, rng.uniform(0, 3 * duration))
        inside += begun > ended
        try:
            header, arrays = read_arrays(path)
            last = header["count"]
            _, expected = model(last)
            whole = all(
                np.array_equal(arrays[name], expected[name]) for name in expected
            )
            lost += not (whole and ended <= last <= begun)
        except (ModelFileError, OSError):
            lost += 1
            write_arrays(path, *model(last))
        for file in folder.glob(".rnn-*.tmp"):
            left += 1
            file.unlink()
    return Claim(
        f"{KILLS} kills lose no model",
        f"{lost} lost; {inside} fell into a saving, {left} of them before the old file "
        f"was replaced; {last} models saved",
        lost == 0 and inside >= KILLS // 4 and left >= KILLS // 10,
    )


def flips(folder: Path, rng: random.Random) -> Claim:
    """A file with one bit flipped is refused."""
    path = folder / "flipped.npz"
    write_arrays(path, HEADER, ARRAYS)
    data = path.read_bytes()
    outcomes = Counter[str]()
    with path.open("r+b", buffering=0) as file:
        for place in progress(rng.choices(range(8 * len(data)), k=FLIPS), "flips"):
            for bit in (1 << place % 8, 0):
                file.seek(place // 8)
                file.write(bytes([data[place // 8] ^ bit]))
                if bit:
                    outcomes[outcome(path)] += 1
    holds = outcomes == {"refused": FLIPS} and outcome(path) == "loaded"
    return Claim(f"{FLIPS:,} flipped bits are noticed", told(outcomes), holds)


def cuts(folder: Path, rng: random.Random) -> Claim:
    """A file that is cut short is refused."""
    path = folder / "cut.npz"
    write_arrays(path, HEADER, ARRAYS)
    lengths = rng.sample(range(path.stat().st_size), CUTS)
    outcomes = Counter[str]()
    for length in progress(sorted(lengths, reverse=True), "cuts"):
        os.truncate(path, length)
        outcomes[outcome(path)] += 1
    return Claim(
        f"{CUTS} cuts are noticed", told(outcomes), outcomes == {"refused": CUTS}
    )


def promising(shape: tuple[int, ...]) -> bytes:
    """An .npy that promises an array of a shape, and holds 8 bytes."""
    file = io.BytesIO()
    content = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, content)
    return file.getvalue() + bytes(8)


def bombs() -> dict[str, bytes]:
    """Files with a right checksum that ask for more memory than they are worth."""
    good = text_of(HEADER)
    deep = b"[" * 10**6
    shapes = ((10**10,), (10**5, 10**5), (0, 10**18), (-4, -5), (2**62, 4), (2,))
    files = {f"shape {s}": archive(good, {"U": promising(s)}) for s in shapes}
    files |= {
        "deep header": archive(deep, ARRAYS),
        "deep inside": archive(good.replace(b"1.5", deep + b"]" * 10**6), ARRAYS),
        "huge integer": archive(good.replace(b"1.5", b"9" * 10**6), ARRAYS),
        "no .npy": archive(good, {"U": b"dogs bark"}),
        "deflated": archive(good, {"U": np.zeros(10**7)}, zipfile.ZIP_DEFLATED),
    }
    body = bytearray(archive(good, {"U": np.zeros(10**4)})[:-71])
    entry = body.index(b"U.npy", body.index(b"PK\1\2"))
    body[entry - 26 : entry - 18] = struct.pack("<2I", 0xF0000000, 0xF0000000)
    files["a member of 4 GB"] = sealed(bytes(body))
    return files


def peak(path: Path) -> tuple[str, int]:
    """What came of reading a file, and the most memory in use meanwhile."""
    tracemalloc.start()
    try:
        return outcome(path), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def memory(folder: Path, rng: random.Random) -> Iterable[Claim]:
    """Reading takes memory as the file has bytes, if it is what it says."""
    path = folder / "bomb.npz"
    outcomes = Counter[str]()
    most, size, within = 0, 0, True
    for data in bombs().values():
        path.write_bytes(data)
        found, taken = peak(path)
        outcomes[found] += 1
        most, size = max((most, size), (taken, len(data)))
        within &= taken < 8 * len(data) + 2 * MEGABYTE
    yield Claim(
        f"{outcomes.total()} bombs are refused before memory is taken",
        f"{told(outcomes)}; at most {most / MEGABYTE:.1f} MB, for a file of "
        f"{size / MEGABYTE:.1f} MB",
        set(outcomes) == {"refused"} and within,
    )
    write_arrays(path, HEADER, {"U": np.zeros((1000, 5000)), "V": np.zeros(10**6)})
    size = path.stat().st_size
    found, taken = peak(path)
    yield Claim(
        "a model takes memory as its file has bytes",
        f"{found}: {taken / MEGABYTE:.1f} MB, the file {size / MEGABYTE:.1f} MB",
        found == "loaded" and taken < size + 4 * MEGABYTE,
    )


PIECES = [
    *(
        b"\0",
        b"\n",
        b"\r",
        b"\r\n",
        b" ",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xc3",
        b"\x85",
    ),
    *(b"\xed\xa0\x80", b"\xf0\x9f\x90\x95", b"dogs", b"</s>", b"<unk>", b"a" * 9_999),
    *(b'"', b"[", b"]", b"{", b"}", b",", b":", b"-", b"0", b"1", b"9" * 30, b"1e999"),
    *(b"NaN", b"null", b"true", b"\\ud800", b"<f8", b"|O", b"C", b"F", b"version"),
    *(b"PK\3\4", b"PK\1\2", b"PK\5\6", b"PK\6\6", b"\xff\xff\xff\xff", b"header.npy"),
]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Bytes after a few changes: pieces put in, taken out, replaced, or repeated."""
    for _ in range(rng.randint(1, 4)):
        place = rng.randint(0, len(data))
        length = rng.choice([0, 0, 1, 1, 2, 8, rng.randint(0, len(data))])
        more = rng.choice(
            [
                *(b"", rng.randbytes(1), rng.randbytes(length), rng.choice(PIECES)),
                data[place : place + length] * 2,
            ]
        )
        data = data[:place] + more + data[place + length :]
    return data


def fuzz_model(path: Path, rng: random.Random) -> str:
    """Read a model file with changed bytes, a right checksum, or a changed header."""
    text = text_of(HEADER)
    valid = archive(text, ARRAYS)
    data = rng.choice(
        [
            lambda: mutated(valid, rng),
            lambda: sealed(mutated(valid[:-71], rng)),
            lambda: archive(mutated(text, rng), ARRAYS),
        ]
    )()
    path.write_bytes(data)
    return outcome(path)


def fuzz_language_model(path: Path, rng: random.Random) -> str:
    """Load a model, one thing in its header or arrays changed, from a whole file."""
    settings = rng.choice([1, 2]), rng.choice([None, 3])
    header, arrays = copy.deepcopy(saved_model(*settings))
    place: Any = header
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        parent, key = place, rng.choice(keys)
        place = parent[key]
        if rng.random() < 0.2:
            break
    parent[key] = rng.choice(
        [None, True, -1, 0, 1, 2, 0.5, 10**30, "", "</s>", [], [0], {}, "sigmoid"]
    )
    if rng.random() < 0.3:
        name = rng.choice(list(arrays))
        arrays[name] = rng.choice(
            [np.zeros(3), np.zeros((2, 2)), arrays["W"].T * np.nan, arrays["U"].T]
        )
    write_arrays(path, header, arrays)
    return outcome(path, LanguageModel.load)


@functools.cache
def saved_model(
    batch: int, classes: int | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The content of the file of a small model whose training was interrupted."""
    settings: dict[str, Any] = {"tau": 2, "epochs": 2, "min_count": 1}
    model = LanguageModel(3, **settings, batch=batch, classes=classes)

    def stop(progress: Any) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        model.fit("dogs bark\nthe dogs see the cat\n" * 20, progress=stop)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.npz")
        model.save(path)
        return read_arrays(path)


def fuzz_text(read: Callable[[Path], Any]) -> Callable[[Path, random.Random], str]:
    """Read a file of pieces of texts and random bytes."""

    def fuzz(path: Path, rng: random.Random) -> str:
        pieces = rng.choices(PIECES, k=rng.randint(0, 20))
        if rng.random() < 0.5:
            pieces.insert(
                rng.randint(0, len(pieces)), rng.randbytes(rng.randint(0, 50))
            )
        path.write_bytes(b"".join(pieces))
        try:
            read(path)
        except ValueError as error:
            return (
                "refused" if str(error).isprintable() else f"a bad message: {error!r}"
            )
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "loaded"

    return fuzz


#: What is fuzzed: by name, a function of a path and a random generator.
TARGETS: dict[str, Callable[[Path, random.Random], str]] = {
    "read_arrays": fuzz_model,
    "LanguageModel.load": fuzz_language_model,
    "tokenize": fuzz_text(lambda path: tokenize(path.read_bytes().decode("latin-1"))),
    "read_text": fuzz_text(read_text),
    "index_text": fuzz_text(index_text),
    "index_text of characters": fuzz_text(lambda path: index_text(path, True)),
}


def fuzzing(folder: Path, rng: random.Random, seconds: float) -> Iterable[Claim]:
    """Whatever the bytes, a reader reads them or refuses them with a line."""
    for name, fuzz in TARGETS.items():
        outcomes = Counter[str]()
        share = seconds * (0.5 if fuzz is fuzz_model else 0.5 / (len(TARGETS) - 1))
        start = time.monotonic()
        with tqdm(total=math.ceil(share), desc=name, leave=False, disable=None) as bar:
            while (passed := time.monotonic() - start) < share:
                for _ in range(100):
                    path = folder / f"fuzz{rng.randint(0, 9)}"
                    path.unlink(missing_ok=True)
                    outcomes[fuzz(path, rng)] += 1
                bar.update(int(passed) - bar.n)
        # Both must have come, or the fuzzing reached one side of the reader only.
        holds = set(outcomes) == {"loaded", "refused"}
        yield Claim(f"{name} reads or refuses any bytes", told(outcomes), holds)


def main() -> int:
    """Try everything; the exit status."""
    parser = argparse.ArgumentParser(description="abuse the readers of files")
    parser.add_argument("--seconds", type=float, default=300, help="of fuzzing")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for abuse in (
            lambda: [kills(folder, rng)],
            lambda: [flips(folder, rng)],
            lambda: [cuts(folder, rng)],
            lambda: memory(folder, rng),
            lambda: fuzzing(folder, rng, arguments.seconds),
        ):
            for claim in abuse():
                verdict = "holds" if claim.holds else "FAILS"
                print(f"{verdict}  {claim.name}: {claim.figure}", flush=True)
                failed += not claim.holds
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
