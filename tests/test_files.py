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
from abuse import sealed
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn import _files
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


def forged(content, arrays=ARRAYS):
    """A file, right but for what its header.npy says: an object, or bytes."""
    text = content
    if not isinstance(text, bytes):
        text = json.dumps(content, ensure_ascii=False).encode()
    return abuse.forged(text, arrays)


def specs():
    return {name: _files._spec(array) for name, array in ARRAYS.items()}


def content():
    """What header.npy says."""
    return json.loads(_files._text(HEADER, specs()))


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
        assert file["U"].flags.fnc
        assert json.loads(file["header"].tobytes()) == content()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        for member in archive.infolist():
            assert member.compress_type == zipfile.ZIP_STORED
            assert member.date_time == (1980, 1, 1, 0, 0, 0)
        checksum = hashlib.sha256(path.read_bytes()[:-71]).hexdigest()
        assert archive.comment == f"sha256:{checksum}".encode()


def test_an_npy_begins_as_numpy_writes_it():
    for array in (*ARRAYS.values(), np.zeros(()), np.zeros((3, 0, 10**6), np.uint8)):
        head = _files._spec(array).npy()
        file = io.BytesIO(head)
        assert np.lib.format.read_magic(file) == (1, 0)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        assert (shape, fortran, dtype) == (array.shape, array.flags.fnc, array.dtype)
        assert file.tell() == len(head)
        assert len(head) % 64 == 0


def test_the_same_content_gives_the_same_bytes(tmp_path):
    arrays = {name: array.copy("K") for name, array in ARRAYS.items()}
    write_arrays(tmp_path / "a.npz", HEADER, ARRAYS)
    write_arrays(tmp_path / "b", HEADER, arrays)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b").read_bytes()
    # The format is fixed: what earlier releases wrote must stay readable.
    digest = hashlib.sha256((tmp_path / "b").read_bytes()).hexdigest()
    assert digest == "8997507134b7869bbffc33aef6bf383bd4aef38768fabec7cec7aac89ff387df"


def test_memory_stays_about_the_size_of_the_file(path):
    arrays = {"C": np.ones((1000, 1000)), "F": np.ones((1000, 1000), order="F")}
    try:
        tracemalloc.start()
        write_arrays(path, {}, arrays)
        assert tracemalloc.get_traced_memory()[1] < 1e6
        tracemalloc.reset_peak()
        read_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size + 3e6
    finally:
        tracemalloc.stop()


# Damage.


def test_every_flipped_bit_is_noticed(path, valid):
    for place in range(8 * len(valid)):
        data = bytearray(valid)
        data[place // 8] ^= 1 << place % 8
        refusal(path, data)


def test_every_flipped_bit_is_noticed_with_a_right_checksum(path, valid):
    body = valid[:-71]
    for place in range(8 * len(body)):
        data = bytearray(body)
        data[place // 8] ^= 1 << place % 8
        refusal(path, sealed(data))


def test_every_truncation_is_noticed(path, valid):
    for length in range(len(valid)):
        refusal(path, valid[:length])
        refusal(path, sealed(valid[: min(length, len(valid) - 72)]))


def test_bytes_before_or_behind_are_noticed(path, valid):
    for more in (b"\0", b"sha256:", valid):
        refusal(path, valid + more)
        refusal(path, more + valid)
        refusal(path, sealed(valid + more))
        refusal(path, sealed(more + valid[:-71]))


def test_damage_is_found_block_by_block(path):
    write_arrays(path, {}, {"a": np.ones(10**6)})
    data = path.read_bytes()[:-1]
    tracemalloc.start()
    try:
        refusal(path, data)
        assert tracemalloc.get_traced_memory()[1] < 3e6
    finally:
        tracemalloc.stop()


def test_damage_is_called_damage(path, valid):
    for data in (valid[:-1], valid[:100], valid + b" ", b"Q" + valid[1:]):
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
    assert refusal(path, sealed(data)).startswith("is not a file that rnn wrote, it ")


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
    for version in (2, 10**1000):
        message = refusal(path, forged({"format": "rnn model", "version": version}))
        assert message == (
            "was written by a newer version of rnn, this one reads format version 1: "
            "update the package"
        )


# Malice: the checksum is right, the content is not.


def zipped(members, compression=zipfile.ZIP_STORED):
    """A zip archive with the checksum of its bytes as its comment."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, compression)
        archive.comment = b"-" * 71
    return sealed(file.getvalue()[:-71])


def npy(shape, data=b""):
    return _files._Spec("<f8", shape, "C").npy() + data


def text_of(*keys, value):
    """A valid content with one value in it changed."""
    changed = place = content()
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return changed


HOSTILE_ARCHIVES = {
    "74 GiB in a header.npy": zipped([("header.npy", npy((10**10,)))]),
    "deflated": zipped([("header.npy", npy((1,), bytes(8)))], zipfile.ZIP_DEFLATED),
    "text instead of a header": zipped([("header.npy", b"dogs bark" * 100)]),
    "no bytes for the header": zipped([("header.npy", b"")]),
    **abuse.bombs(),
}
HOSTILE_TEXTS = {
    "empty": b"",
    "not JSON": b"dogs bark",
    "not UTF-8": b'{"format": "rnn model\xff"}',
    "UTF-16": json.dumps(content()).encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + _files._text(HEADER, {}),
    "nested lists": b"[" * 100_000,
    "nested objects": b'{"header":' * 100_000,
    "closed nested lists": b"[" * 100_000 + b"]" * 100_000,
    "nested header": _files._text({"a": 0}, {}).replace(
        b"0", b"[" * 100_000 + b"]" * 100_000
    ),
    "huge integer": _files._text({"a": 0}, {}).replace(b"0", b"9" * 100_000),
    "NaN": _files._text({"a": 0}, {}).replace(b"0", b"NaN"),
    "infinite": _files._text({"a": 0}, {}).replace(b"0", b"1e999"),
    "lone surrogate": _files._text({"a": 0}, {}).replace(b"0", b'"\\ud800"'),
    "duplicate key": _files._text({"a": 0}, {}).replace(b'"a": 0', b'"a": 0, "a": 0'),
    "other blanks": _files._text({"a": 0}, {}).replace(b": 0", b":0"),
    "list": [],
    "number": 1,
    "null": None,
    "no format": {k: v for k, v in content().items() if k != "format"},
    "no version": {k: v for k, v in content().items() if k != "version"},
    "no arrays": {k: v for k, v in content().items() if k != "arrays"},
    "no header": {k: v for k, v in content().items() if k != "header"},
    "another key": {**content(), "more": 1},
    "another format": text_of("format", value="pickle"),
    "version 0": text_of("version", value=0),
    "version true": text_of("version", value=True),
    "version 1.0": text_of("version", value=1.0),
    "version in words": text_of("version", value="2"),
    "header a list": text_of("header", value=[]),
    "header a string": text_of("header", value="U"),
    "arrays a list": text_of("arrays", value=["U"]),
    "one array more": text_of("arrays", "V", value=content()["arrays"]["U"]),
    "no array at all": text_of("arrays", value={}),
    "array null": text_of("arrays", "U", value=None),
    "array without order": text_of("arrays", "b", value={"dtype": "<i4", "shape": [2]}),
    "another order": text_of("arrays", "U", "order", value="A"),
    "order C": text_of("arrays", "U", "order", value="C"),
    "order F of a vector": text_of("arrays", "b", "order", value="F"),
    "another key of an array": text_of("arrays", "U", "more", value=1),
    **{
        f"dtype {dtype!r}": text_of("arrays", "U", "dtype", value=dtype)
        for dtype in ("|O", "O", "<i8", ">f8", "f8", "<f4", "<c16", "|b1", "|V8", "", 8)
    },
    **{
        f"shape {i}": text_of("arrays", "U", "shape", value=shape)
        for i, shape in enumerate(
            (
                [-2, -3],
                [-1],
                [-1000],
                [3, 2],
                [6],
                [6, True],
                [2.0, 3.0],
                ["2", "3"],
                [[2, 3]],
                6,
                "23",
                None,
                [],
                [10**10],
                [10**18],
                [2**63],
                [2**64, 2**64],
                [10**4000] * 100,
                [0, 2**62],
                [0, 10**4000],
                [0, 10**400, 10**400],
                [1] * 64 + [6],
                [1] * 100_000,
            )
        )
    },
}


def test_the_forger_is_good_enough(path, valid):
    assert forged(_files._text(HEADER, specs())) == forged(content()) == valid
    path.write_bytes(forged(_files._text({"a": 0}, {}), {}))
    assert read_arrays(path) == ({"a": 0}, {})


@pytest.mark.parametrize("data", HOSTILE_ARCHIVES.values(), ids=HOSTILE_ARCHIVES)
def test_a_hostile_archive_is_refused_before_memory_is_taken(path, data):
    refused_within(20e6, path, data)


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_a_hostile_header_is_refused_before_memory_is_taken(path, text):
    refused_within(20e6, path, forged(text))


def refused_within(peak, path, data):
    """Refuse a file; the memory that it takes is bounded."""
    tracemalloc.start()
    try:
        message = refusal(path, data)
        assert tracemalloc.get_traced_memory()[1] < peak
    finally:
        tracemalloc.stop()
    assert message.startswith("is not a file that rnn wrote, ")


def records(valid, name):
    """Where a member stands in a zip file: its local header, its directory entry."""
    member = f"{name}.npy".encode()
    first = valid.index(member)
    return first - 30, valid.index(member, first + 1) - 46


SIZE = len("PK__") + 26 + 4  # before the size of 64 bits, but for the name


def test_an_order_that_the_writer_would_not_choose_is_refused(path, monkeypatch):
    array = np.ones(3)
    honest, spec = _files._spec, _files._Spec("<f8", (3,), "F")
    with monkeypatch.context() as forger:
        forger.setattr(_files, "_spec", lambda a: spec if a is array else honest(a))
        data = forged(_files._text({}, {"a": spec}), {"a": array})
    refused_within(20e6, path, data)


@pytest.mark.parametrize("name", ["header", "U", "b"])
@pytest.mark.parametrize(
    ("local", "entry", "value"),
    [
        (6, 8, b"\1"),  # encrypted
        (8, 10, b"\x08"),  # deflated
        (30, 46, b"x"),  # another name
        (30, 46, b"/"),  # a path
        (14, 16, bytes(4)),  # another CRC-32
        (SIZE, SIZE + 16, b"\xff" * 4),  # another size
    ],
)
def test_a_forged_zip_record_is_refused(path, valid, name, local, entry, value):
    if local == SIZE:
        local, entry = local + len(f"{name}.npy"), entry + len(f"{name}.npy")
    for places in (0, 1), (0,), (1,):
        body = bytearray(valid[:-71])
        for place in places:
            at = records(valid, name)[place] + (local, entry)[place]
            assert body[at : at + len(value)] != value
            body[at : at + len(value)] = value
        refused_within(3e6, path, sealed(body))


@pytest.mark.parametrize(
    "name",
    ["../U", "/U", "a/b", "a\\b", "", ".", "..", "-U", "1", "U\n", "ü", "U" * 101],
)
def test_an_unsafe_name_is_refused(path, name):
    with pytest.raises(
        ValueError, match=r"^arrays holds the name .*: expected at most"
    ):
        write_arrays(path, {}, {name: np.ones(2)})
    assert not path.exists()
    arrays = {name: np.ones(2)}
    spec = {name: _files._spec(arrays[name])}
    refused_within(3e6, path, forged(_files._text({}, spec), arrays))


def test_a_name_cannot_come_twice(path):
    for arrays in ({"U": ARRAYS["b"]}, {"U": ARRAYS["b"], "u": ARRAYS["b"]}):
        spec = {name: _files._spec(array) for name, array in arrays.items()}
        text = _files._text({}, spec)
        twice = text.replace(b'"u"', b'"U"')
        if twice == text:
            description = json.dumps(spec["U"]._asdict()).encode()
            twice = text.replace(description, description + b', "U": ' + description)
        refused_within(3e6, path, forged(twice, arrays))


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


def test_a_header_that_is_too_long_is_refused(path, monkeypatch):
    header = {"a": "b" * 100}
    length = len(_files._text(header, {}))
    monkeypatch.setattr(_files, "_LONGEST_HEADER", length)
    write_arrays(path, header, {})
    assert read_arrays(path)[0] == header
    monkeypatch.setattr(_files, "_LONGEST_HEADER", length - 1)
    with pytest.raises(ModelFileError, match="does not begin with a header"):
        read_arrays(path)
    with pytest.raises(ValueError, match="JSON, it is too long: expected"):
        write_arrays(path, header, {})


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
@pytest.mark.parametrize("step", ["fsync", "replace", "piece"])
def test_an_error_leaves_the_old_file_and_nothing_else(
    path, valid, monkeypatch, step, error
):
    def fail(*arguments):
        raise error

    def pieces(arrays, pieces=_files._pieces):
        yield from list(pieces(arrays))[:3]
        raise error

    if step == "piece":
        monkeypatch.setattr(_files, "_pieces", pieces)
    else:
        monkeypatch.setattr(os, step, fail)
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


def loads_only_what_was_written(scratch, data):
    """A file is refused with one line, or writing its content gives its bytes."""
    rewrite(scratch, data)
    try:
        content = read_arrays(scratch)
    except ModelFileError as error:
        message = str(error)
        assert message.startswith(f"{scratch} ")
        assert message.isprintable()
        return
    write_arrays(scratch, *content)
    assert scratch.read_bytes() == data


@given(st.binary(max_size=300), st.booleans())
def test_arbitrary_bytes_are_refused(scratch, data, seal):
    loads_only_what_was_written(scratch, sealed(data) if seal else data)


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
def test_a_changed_file_is_refused(scratch, changes, seal):
    valid = forged(_files._text(HEADER, specs()))
    data = sealed(changed(valid[:-71], changes)) if seal else changed(valid, changes)
    loads_only_what_was_written(scratch, data)


@settings(max_examples=300)
@given(CHANGES)
def test_a_changed_header_is_refused_or_as_written(scratch, changes):
    text = changed(_files._text(HEADER, specs()), changes)
    loads_only_what_was_written(scratch, forged(text))


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
def test_arbitrary_json_is_refused_or_as_written(scratch, value):
    data = forged({**content(), "header": value, "arrays": {}}, {})
    loads_only_what_was_written(scratch, data)
