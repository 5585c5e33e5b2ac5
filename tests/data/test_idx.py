import gzip
import io
import os
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scalargrad.data import read_idx
from scalargrad.errors import DataError

KINDS = ["u1", "i1", "i2", "i4", "f4", "f8"]
HUGE = 2**32 - 1

with_path = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
arrays = st.sampled_from(KINDS).flatmap(
    lambda kind: hnp.arrays(
        np.dtype(kind), hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6)
    )
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file-idx-ubyte"


def refused(path, content, match, **expected):
    path.write_bytes(content)
    with pytest.raises(DataError, match=match) as caught:
        read_idx(path, **expected)
    assert str(path) in str(caught.value)
    assert "byte " in str(caught.value)


@with_path
@given(array=arrays, compressed=st.booleans())
def test_what_was_written_is_read(path, idx_bytes, zipped, array, compressed):
    content = idx_bytes(array)
    path.write_bytes(zipped(content) if compressed else content)
    read = read_idx(path)
    assert read.dtype == array.dtype
    assert read.dtype.isnative
    assert read.shape == array.shape
    assert read.tobytes() == array.tobytes()
    assert read.flags.writeable


@with_path
@given(array=arrays, data=st.data())
def test_every_truncation_is_noticed(path, idx_bytes, zipped, array, data):
    whole = idx_bytes(array)
    content = data.draw(st.sampled_from([whole, zipped(whole)]))
    cut = data.draw(st.integers(0, len(content) - 1))
    refused(path, content[:cut], "byte ")


@with_path
@given(array=arrays, data=st.data())
def test_a_damaged_gzip_file_gives_the_right_array_or_an_error(
    path, idx_bytes, zipped, array, data
):
    content = bytearray(zipped(idx_bytes(array)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        read = read_idx(path)
    except DataError:
        return
    assert read.shape == array.shape
    assert read.tobytes() == array.tobytes()


@with_path
@given(array=arrays, data=st.data())
def test_a_changed_plain_file_is_read_as_what_it_now_says_or_not_at_all(
    path, idx_bytes, array, data
):
    content = bytearray(idx_bytes(array))
    at = data.draw(st.integers(0, min(len(content) - 1, 3 + 4 * array.ndim)))
    content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        read = read_idx(path)
    except DataError:
        return
    assert idx_bytes(read) == content


@with_path
@given(
    content=st.binary(max_size=200), prefix=st.sampled_from([b"", b"\0\0\x08\1", b"\x1f\x8b\x08"])
)
def test_arbitrary_bytes_are_an_array_or_an_error(path, idx_bytes, prefix, content):
    path.write_bytes(prefix + content)
    try:
        outcome = read_idx(path)
    except DataError as error:
        outcome = error
    if isinstance(outcome, DataError):
        assert str(outcome).startswith(f"{path}, byte ")
    else:
        assert idx_bytes(outcome) == prefix + content


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "byte 0: the data end here, 4 bytes too early"),
        (b"\0\0\x08", "byte 3: the data end here, 1 bytes too early"),
        (b"\0\1\x08\1", "byte 0: magic number 0x00010801 is not that of an IDX file"),
        (b"\0\0\x0a\1", "byte 0: magic number 0x00000a01"),
        (b"\0\0\x08\0", "byte 0: magic number 0x00000800"),
        (b"\0\0\x08\xff", "byte 0: magic number 0x000008ff"),
        (b"PK\3\4 and so on", "byte 0: magic number 0x504b0304"),
        (b"\0\0\x08\2\0\0\0\1", "byte 8: the data end here, 4 bytes too early"),
    ],
)
def test_a_wrong_or_short_header(path, content, match):
    refused(path, content, match)


def test_the_type_and_shape_asked_for_are_checked_where_they_stand(path, idx_bytes):
    images = idx_bytes(np.zeros((5, 3, 4), np.uint8))
    refused(path, images, "byte 2: elements of type uint8, expected float32", dtype="float32")
    refused(path, images, "byte 3: 3 dimensions, expected 1", shape=(None,))
    refused(path, images, "byte 8: dimension 1 is 3, expected 28", shape=(None, 28, 28))
    refused(path, images, "byte 4: dimension 0 is 5, expected 6", shape=(6, None, 4))
    assert read_idx(path, dtype="uint8", shape=(None, 3, 4)).shape == (5, 3, 4)


def test_multibyte_elements_match_their_native_type(path, idx_bytes):
    path.write_bytes(idx_bytes(np.array([1.5, -2.0], np.float32)))
    assert read_idx(path, dtype="float32").tolist() == [1.5, -2.0]


def test_fewer_or_more_bytes_than_promised(path, idx_bytes, zipped):
    whole = idx_bytes(np.arange(10, dtype=np.uint8))
    refused(path, whole[:-1], r"byte 8: the header promises 10 bytes .* 17 bytes holds only 9")
    refused(path, whole + b"!", "byte 18: the file goes on after the last element")
    refused(path, zipped(whole[:-1]), "byte 17 of the uncompressed data: .* 1 bytes too early")
    refused(path, zipped(whole + b"!"), "byte 18 of the uncompressed data: the file goes on")


@pytest.mark.parametrize("lengths", [(HUGE,), (HUGE, HUGE), (HUGE,) * 32, (1, HUGE, HUGE, 1)])
@pytest.mark.parametrize("compressed", [False, True])
def test_hostile_sizes_are_refused_before_anything_is_allocated(
    path, idx_header, zipped, peak_memory, lengths, compressed
):
    content = idx_header("f8", lengths) + bytes(1000)
    path.write_bytes(zipped(content) if compressed else content)
    with (
        pytest.raises(DataError, match=r"the header promises|no array can have"),
        peak_memory() as peak,
    ):
        read_idx(path)
    assert peak() < 1 << 19


@pytest.mark.parametrize("compressed", [False, True])
def test_a_zero_length_does_not_hide_hostile_ones(path, idx_header, zipped, compressed):
    content = idx_header("u1", (0, HUGE, HUGE, HUGE))
    refused(path, zipped(content) if compressed else content, "no array can have the shape")


def test_no_elements_are_an_array_without_elements(path, idx_header):
    path.write_bytes(idx_header("f4", (0, 28, 28)))
    assert read_idx(path).shape == (0, 28, 28)


def bomb(start: bytes, zeros: int) -> bytes:
    """`start` and then so many zero bytes, compressed without ever holding them."""
    content = io.BytesIO()
    with gzip.GzipFile(fileobj=content, mode="wb", mtime=0) as file:
        file.write(start)
        for _ in range(zeros >> 20):
            file.write(bytes(1 << 20))
    return content.getvalue()


def test_a_gzip_bomb_is_inflated_no_further_than_its_header_promises(path, idx_header, peak_memory):
    path.write_bytes(bomb(idx_header("u1", (100,)), 256 << 20))
    with pytest.raises(DataError, match=r"byte 108 of .*: the file goes on"), peak_memory() as peak:
        read_idx(path)
    assert peak() < 1 << 20


def test_memory_follows_what_the_file_holds_and_not_what_it_promises(path, idx_header, peak_memory):
    held = 8 << 20
    content = bomb(idx_header("u1", (HUGE,)), held)
    # Random bytes that gzip cannot shrink let the promise pass the test of the file's size.
    noise = gzip.compress(os.urandom(5 << 20), compresslevel=1, mtime=0)
    path.write_bytes(content + noise[:-2])
    assert path.stat().st_size * 1032 > HUGE
    with pytest.raises(DataError, match="cut short"), peak_memory() as peak:
        read_idx(path)
    assert peak() < 2 * (held + (5 << 20))


def test_memory_of_a_good_file_is_its_elements(path, idx_bytes, zipped, peak_memory):
    array = np.zeros((1 << 20, 8), np.uint8)
    for content in (idx_bytes(array), zipped(idx_bytes(array))):
        path.write_bytes(content)
        with peak_memory() as peak:
            read = read_idx(path)
        assert array.nbytes <= peak() < 1.5 * array.nbytes
        assert read.shape == array.shape


def test_the_limit_of_deflate_is_never_exceeded_by_a_real_file(path, idx_header):
    content = bomb(idx_header("u1", (64 << 20,)), 64 << 20)
    assert 1000 * len(content) < 64 << 20
    path.write_bytes(content)
    assert read_idx(path).shape == (64 << 20,)


def test_a_cut_gzip_file_names_where_it_ends(path, idx_bytes, zipped):
    whole = zipped(idx_bytes(np.frombuffer(os.urandom(1000), np.uint8)))
    refused(path, whole[:500], "uncompressed data: the gzip stream is cut short at byte 500 of")
    refused(path, whole[:-1], f"byte 1008 .* cut short at byte {len(whole) - 1} of the file")


def test_garbage_after_the_gzip_magic(path):
    refused(path, b"\x1f\x8b" + b"garbage" * 9, "byte 0 of .*: the gzip stream is damaged")
    good_header = gzip.compress(b"", mtime=0)[:10]
    refused(path, good_header + b"\xff" * 99, "byte 0 of .*: the gzip stream is damaged")


def test_a_wrong_checksum(path, idx_bytes, zipped):
    content = bytearray(zipped(idx_bytes(np.arange(9, dtype=np.uint8))))
    content[-8] ^= 1
    refused(path, content, "byte 17 of .* damaged here or soon after .*CRC")


def test_garbage_after_the_gzip_stream(path, idx_bytes, zipped):
    refused(path, zipped(idx_bytes(np.arange(9, dtype=np.uint8))) + b"more", "is damaged here")


def test_gzip_members_may_follow_one_another(path, idx_bytes, zipped):
    whole = idx_bytes(np.arange(9, dtype=np.uint8))
    path.write_bytes(zipped(whole[:5]) + zipped(b"") + zipped(whole[5:]))
    assert read_idx(path).tolist() == list(range(9))


def test_the_name_does_not_decide_whether_it_is_compressed(tmp_path, idx_bytes, zipped):
    whole = idx_bytes(np.arange(3, dtype=np.uint8))
    (tmp_path / "plain.gz").write_bytes(whole)
    (tmp_path / "compressed").write_bytes(zipped(whole))
    assert read_idx(str(tmp_path / "plain.gz")).tolist() == [0, 1, 2]
    assert read_idx(tmp_path / "compressed").tolist() == [0, 1, 2]


def test_what_is_not_a_file(tmp_path):
    with pytest.raises(DataError, match="not a regular file"):
        read_idx(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "absent")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="not a regular file"):
        read_idx(tmp_path / "pipe")


def test_big_endian_lengths(path):
    path.write_bytes(struct.pack(">BBBBI", 0, 0, 0x0B, 1, 2) + b"\x01\x02\xff\xfe")
    assert read_idx(path).tolist() == [258, -2]
