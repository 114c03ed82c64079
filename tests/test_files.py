"""Model files: whole or not at all, and nothing but what was written comes back."""

import hashlib
import io
import json
import os
import resource
import stat
import tracemalloc
import zipfile

import abuse
import numpy as np
import pytest
from abuse import archive, sealed, text_of
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn._files import ModelFileError, read_arrays, write_arrays

HEADER = {"words": ["</s>", "größe", "\U0001f415", "\n"], "cost": 0.1, "rest": [None]}
ARRAYS = {
    "U": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "b": np.array([1, -2], np.int32),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.npz"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A file that the examples of a property share."""
    return tmp_path_factory.mktemp("files") / "scratch.npz"


@pytest.fixture
def valid(path):
    """The bytes of a small valid file."""
    write_arrays(path, HEADER, ARRAYS)
    return path.read_bytes()


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def rewrite(path, data):
    """Write a new file: emptying the old one waits for the disk on some systems."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def refusal(path, data):
    """The message with which a file of these bytes is refused: one line, its name."""
    rewrite(path, data)
    with pytest.raises(ModelFileError) as caught:
        read_arrays(path)
    message = str(caught.value)
    assert message.startswith(f"{path} ")
    assert message.isprintable()
    assert len(message) < len(str(path)) + 300
    return message.removeprefix(f"{path} ")


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u1"])
@pytest.mark.parametrize(
    "shape", [(), (0,), (1,), (3, 0), (2, 3), (2, 3, 4), (1,) * 40]
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_back(path, dtype, shape, order):
    array = np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape)
    array = np.asarray(array, order=order)
    write_arrays(path, {}, {"first": array, "second": array})
    header, arrays = read_arrays(path)
    assert header == {}
    assert_same(arrays, {"first": array, "second": array})
    for found in arrays.values():
        assert found.flags.c_contiguous == array.flags.c_contiguous
        assert found.flags.f_contiguous == array.flags.f_contiguous
        assert found.flags.writeable


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[::2],
        lambda a: a[:, ::-1],
        lambda a: a[1:, 1:, 1:],
        lambda a: a.transpose(1, 0, 2),
        lambda a: np.broadcast_to(a[0], a.shape),
    ],
)
def test_arrays_that_are_not_contiguous_come_back(path, view):
    array = view(np.arange(60.0).reshape(3, 4, 5))
    assert not array.flags.forc
    write_arrays(path, {}, {"a": array})
    assert_same(read_arrays(path)[1], {"a": array})


@pytest.mark.parametrize(
    "header",
    [
        {},
        HEADER,
        {"": "", "nested": {"list": [[], {}, [True, False, None]]}},
        {"z": 1, "a": 2},
        {"numbers": [0, -1, 2**200, 1e308, 5e-324, 0.1, -0.0]},
        {"text": '\0\x7f\u2028\ufeff"\\/'},
    ],
)
def test_the_header_comes_back_in_its_order(path, header):
    write_arrays(path, header, {})
    found, arrays = read_arrays(path)
    assert json.dumps(found) == json.dumps(header)
    assert arrays == {}


def test_numbers_that_are_not_finite_are_left_to_the_caller(path):
    array = np.array([np.nan, np.inf, -np.inf, -0.0])
    write_arrays(path, {}, {"a": array})
    assert read_arrays(path)[1]["a"].tobytes() == array.tobytes()


def test_numpy_and_zip_open_the_file(path):
    write_arrays(path, HEADER, ARRAYS)
    with np.load(path, allow_pickle=False) as file:
        assert file.files == ["header", *ARRAYS]
        assert_same({name: file[name] for name in ARRAYS}, ARRAYS)
        assert json.loads(file["header"].tobytes())["header"] == HEADER
    with zipfile.ZipFile(path) as members:
        assert members.testzip() is None
        for member in members.infolist():
            assert member.compress_type == zipfile.ZIP_STORED
            assert member.date_time == (1980, 1, 1, 0, 0, 0)
        checksum = hashlib.sha256(path.read_bytes()[:-71]).hexdigest()
        assert members.comment == f"sha256:{checksum}".encode()


def test_the_same_content_gives_the_same_bytes(tmp_path):
    arrays = {name: array.copy("K") for name, array in ARRAYS.items()}
    write_arrays(tmp_path / "a.npz", HEADER, ARRAYS)
    write_arrays(tmp_path / "b", HEADER, arrays)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b").read_bytes()


def test_memory_stays_about_the_size_of_the_file(path):
    arrays = {"C": np.ones((1000, 1000)), "F": np.ones((1000, 1000), order="F")}
    try:
        tracemalloc.start()
        write_arrays(path, {}, arrays)
        assert tracemalloc.get_traced_memory()[1] < 10e6  # one array more
        tracemalloc.reset_peak()
        read_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size + 4e6
    finally:
        tracemalloc.stop()


# Damage.


def test_every_flipped_bit_is_noticed(path, valid):
    for place in range(8 * len(valid)):
        data = bytearray(valid)
        data[place // 8] ^= 1 << place % 8
        refusal(path, data)


def test_every_truncation_is_noticed(path, valid):
    for length in range(len(valid)):
        refusal(path, valid[:length])


def test_bytes_before_or_behind_are_noticed(path, valid):
    for more in (b"\0", b"sha256:", valid):
        refusal(path, valid + more)
        refusal(path, more + valid)


def test_damage_is_called_damage(path, valid):
    for data in (valid[:-1], valid[:200], valid + b" ", b"Q" + valid[1:]):
        assert refusal(path, data).startswith("is damaged or cut short: use a copy")


# Other files.


def plain_npz():
    file = io.BytesIO()
    np.savez(file, U=np.ones(3))
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [b"x", b"dogs bark\n" * 100, b"\0" * 71, b"\x80\x04N.", plain_npz(), b"PK\3\4"],
)
def test_another_file_is_called_another_file(path, data):
    assert refusal(path, data).startswith("is not a model: name a file that rnn saved")
    assert refusal(path, sealed(data)).startswith("is no model that rnn can read (")


def test_an_empty_file_is_called_empty(path):
    assert refusal(path, b"").startswith("is empty: ")
    refusal(path, sealed(b""))


def test_a_name_that_would_not_print_is_quoted(tmp_path):
    path = tmp_path / "a\nb"
    path.write_bytes(b"x")
    with pytest.raises(ModelFileError) as caught:
        read_arrays(path)
    assert str(caught.value).startswith(f"{str(path)!r} is not a model")
    with pytest.raises(ModelFileError):
        read_arrays(os.fsencode(path))


def test_what_cannot_be_read_is_named(tmp_path, path):
    with pytest.raises(FileNotFoundError) as caught:
        read_arrays(path)
    assert caught.value.filename == str(path)
    with pytest.raises(IsADirectoryError) as caught:
        read_arrays(tmp_path)
    assert caught.value.filename == str(tmp_path)


def test_a_missing_permission_is_named(path, valid):
    path.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # the superuser may read everything
            os.seteuid(65534)
        with pytest.raises(PermissionError) as caught:
            read_arrays(path)
    finally:
        os.seteuid(user)
    assert caught.value.filename == str(path)


def test_a_newer_version_is_called_newer(path):
    message = refusal(path, archive(text_of(HEADER).replace(b": 1,", b": 2,"), ARRAYS))
    assert "it is of version 2, this package reads 1: update the package" in message


# Malice: the checksum is right, the content is not.


HOSTILE_TEXTS = {
    "empty": b"",
    "not JSON": b"dogs bark",
    "not UTF-8": b'{"format": "rnn model\xff"}',
    "nested lists": b"[" * 100_000,
    "nested objects": b'{"header":' * 100_000,
    "huge integer": text_of({"a": 0}).replace(b": 0", b": " + b"9" * 100_000),
    "list": b"[]",
    "null": b"null",
    "no header": b'{"format": "rnn model", "version": 1}',
    "another format": b'{"format": "pickle", "version": 1, "header": {}}',
    "no version": b'{"format": "rnn model", "header": {}}',
    "version in words": b'{"format": "rnn model", "version": "1", "header": {}}',
    "header a list": b'{"format": "rnn model", "version": 1, "header": []}',
}


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_a_hostile_header_is_refused(path, text):
    refused_within(20e6, path, archive(text, ARRAYS))


@pytest.mark.parametrize("data", abuse.bombs().values(), ids=abuse.bombs())
def test_a_hostile_archive_is_refused_before_memory_is_taken(path, data):
    refused_within(8 * len(data) + 2e6, path, data)


def refused_within(peak, path, data):
    """Refuse a file; the memory that it takes is bounded."""
    tracemalloc.start()
    try:
        message = refusal(path, data)
        assert tracemalloc.get_traced_memory()[1] < peak
    finally:
        tracemalloc.stop()
    assert message.startswith("is no model that rnn can read (")


@pytest.mark.parametrize(
    "array",
    [np.array([1j]), np.array([True]), np.zeros(2, ">f8"), np.zeros(2, np.float16)],
)
def test_an_array_of_another_type_is_not_read(path, array):
    refused_within(1e6, path, archive(text_of({}), {"U": array}))


@pytest.mark.parametrize("name", ["../U", "/U", "a/b", "", "-U", "U\n", "ü", "U" * 101])
def test_an_unsafe_name_is_refused(path, name):
    with pytest.raises(ValueError, match=r"^arrays holds the name .*: expected"):
        write_arrays(path, {}, {name: np.ones(2)})
    assert not path.exists()
    refused_within(1e6, path, archive(text_of({}), {name: np.ones(2)}))


@pytest.mark.parametrize(
    "name", ["U", "training.U", "a-b.0", "_", "U" * 100, "headers"]
)
def test_a_safe_name_is_kept(path, name):
    write_arrays(path, {}, {name: np.ones(2)})
    assert list(read_arrays(path)[1]) == [name]


def test_a_name_is_not_repeated_at_length(path):
    with pytest.raises(ValueError, match="arrays holds the name") as caught:
        write_arrays(path, {}, {"U" * 10_000: np.ones(2)})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["header", 1, None, b"U", ("U",)])
def test_a_name_that_cannot_be_is_refused(path, name):
    with pytest.raises(ValueError, match=r"^arrays holds the name .*: expected"):
        write_arrays(path, {}, {name: np.ones(2)})


@pytest.mark.parametrize(
    "array",
    [
        np.array([None]),
        np.array(["a"]),
        np.array([1j]),
        np.array([True]),
        np.zeros(2, np.float16),
        np.zeros(2, np.int16),
        np.zeros(2, ">f8"),
        np.zeros(2, [("a", "f8")]),
        [1.0, 2.0],
        np.float64(1),
        None,
    ],
)
def test_another_type_is_refused(path, array):
    with pytest.raises(
        ValueError, match=r"^arrays\['b'\] is of type .*: expected .* conv"
    ):
        write_arrays(path, {}, {"a": np.ones(2), "b": array})
    assert not path.exists()


CIRCULAR = {}
CIRCULAR["self"] = CIRCULAR
DEEP = {}
for _ in range(100_000):
    DEEP = {"a": DEEP}


@pytest.mark.parametrize(
    "header",
    [
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": "\ud800"},
        {"\udfff": 1},
        {"a": (1, 2)},
        {1: "a"},
        {None: "a"},
        {"a": np.float32(1)},
        {"a": np.arange(2)},
        {"a": b"bytes"},
        {"a": {1}},
        {"a": 10**5000},
        CIRCULAR,
        DEEP,
        [],
        None,
        "U",
    ],
    ids=lambda header: f"{type(header).__name__}",
)
def test_a_header_that_json_does_not_keep_is_refused(path, header):
    with pytest.raises(
        ValueError,
        match=r"^header cannot be kept as JSON, .+: expected a dict .*convert",
    ) as caught:
        write_arrays(path, header, {})
    assert str(caught.value).isprintable()
    assert not path.exists()


# The file is replaced as a whole or not at all.


def test_a_file_gets_the_rights_that_the_umask_leaves(path):
    umask = os.umask(0o027)
    try:
        write_arrays(path, {}, ARRAYS)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_keeps_its_rights(path, valid):
    path.chmod(0o604)
    write_arrays(path, {}, ARRAYS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert path.read_bytes() != valid


def test_a_file_that_is_there_is_never_written_into(tmp_path, path, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda size: "0" * size)
    other = tmp_path / f".rnn-{os.getpid()}-00000000.tmp"
    other.write_bytes(b"of another")
    inode = other.stat().st_ino
    with other.open("rb") as file:
        with pytest.raises(FileExistsError):
            write_arrays(path, {}, ARRAYS)
        assert os.fstat(file.fileno()).st_ino == inode
        assert file.read() == b"of another"
    assert not path.exists()


def test_a_link_stays_a_link(tmp_path, path, valid):
    (tmp_path / "folder").mkdir()
    link = tmp_path / "folder" / "link"
    link.symlink_to("../model.npz")
    write_arrays(link, {"new": 1}, ARRAYS)
    assert link.is_symlink()
    assert not path.is_symlink()
    assert read_arrays(path)[0] == {"new": 1}
    assert os.listdir(tmp_path / "folder") == ["link"]


def test_a_link_to_nothing_yet_is_followed(tmp_path, path):
    link = tmp_path / "link"
    link.symlink_to(path)
    write_arrays(link, {}, ARRAYS)
    assert link.is_symlink()
    assert_same(read_arrays(path)[1], ARRAYS)


def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(ValueError, match=r"^path is .*: expected a regular file"):
            write_arrays(path, {}, ARRAYS)
    assert os.listdir(tmp_path) == ["fifo"]


def test_a_missing_folder_is_named(tmp_path):
    path = tmp_path / "missing" / "model.npz"
    with pytest.raises(FileNotFoundError) as caught:
        write_arrays(path, {}, ARRAYS)
    assert caught.value.filename == str(path)


def test_all_is_on_the_disk_before_the_file_is_replaced(path, valid, monkeypatch):
    steps = []

    def fsync(descriptor):
        mode = os.fstat(descriptor).st_mode
        steps.append("folder" if stat.S_ISDIR(mode) else os.fstat(descriptor).st_size)

    def replace(source, target, done=os.replace):
        assert source.parent == target.parent == path.parent
        assert source.name.startswith(f".rnn-{os.getpid()}-")
        assert path.read_bytes() == valid
        done(source, target)
        steps.append("replaced")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write_arrays(path, {"new": 1}, ARRAYS)
    assert steps == [path.stat().st_size, "replaced", "folder"]


def test_a_file_system_that_cannot_flush_a_folder_will_do(path, monkeypatch):
    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fsync)
    write_arrays(path, HEADER, ARRAYS)
    assert_same(read_arrays(path)[1], ARRAYS)


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()],
)
@pytest.mark.parametrize("step", ["fsync", "replace", "write_array"])
def test_an_error_leaves_the_old_file_and_nothing_else(
    path, valid, monkeypatch, step, error
):
    def fail(*arguments, **options):
        raise error

    owner = np.lib.format if step == "write_array" else os
    monkeypatch.setattr(owner, step, fail)
    with pytest.raises(type(error)) as caught:
        write_arrays(path, {"new": 1}, ARRAYS)
    if isinstance(error, OSError):
        assert caught.value.filename == str(path)
    assert path.read_bytes() == valid
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("limit", [10, 5000, 100_000])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(path, valid, limit):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_arrays(path, {}, {"a": np.ones(20_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == valid
    assert os.listdir(path.parent) == [path.name]


def test_what_is_refused_leaves_the_old_file(path, valid):
    with pytest.raises(ValueError, match="arrays"):
        write_arrays(path, {}, {"U": [1.0]})
    assert path.read_bytes() == valid


# Properties.


def only_model_file_errors(scratch, data):
    """Any bytes load, or are refused with one line."""
    rewrite(scratch, data)
    try:
        read_arrays(scratch)
    except ModelFileError as error:
        message = str(error)
        assert message.startswith(f"{scratch} ")
        assert message.isprintable()


@given(st.binary(max_size=300), st.booleans())
def test_arbitrary_bytes_are_refused(scratch, data, seal):
    only_model_file_errors(scratch, sealed(data) if seal else data)


CHANGES = st.lists(
    st.tuples(st.integers(0, 10**4), st.integers(0, 20), st.binary(max_size=20)),
    max_size=4,
)


def changed(data, changes):
    """Bytes with some of them replaced, removed, or others put between."""
    for place, length, more in changes:
        place %= len(data) + 1
        data = data[:place] + more + data[place + length :]
    return data


@settings(max_examples=300)
@given(CHANGES, st.booleans())
def test_a_changed_file_ends_in_no_other_error(scratch, changes, seal):
    valid = archive(text_of(HEADER), ARRAYS)
    data = sealed(changed(valid[:-71], changes)) if seal else changed(valid, changes)
    only_model_file_errors(scratch, data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), JSON))
def test_every_header_of_json_comes_back_or_is_refused(scratch, header):
    try:
        write_arrays(scratch, header, {})
    except ValueError:
        assert "Infinity" in json.dumps(header)
    else:
        assert read_arrays(scratch) == (header, {})


@given(JSON)
def test_arbitrary_json_ends_in_no_other_error(scratch, value):
    text = json.dumps(value).encode()
    only_model_file_errors(scratch, archive(text, ARRAYS))
    text = json.dumps({"format": "rnn model", "version": 1, "header": value}).encode()
    only_model_file_errors(scratch, archive(text, ARRAYS))
