import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scalargrad.data import names
from scalargrad.errors import DataError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "names.txt"


def test_the_real_file(shared_data):
    found = names(shared_data / "names.txt")
    assert len(found) == 32_033
    assert found[:3] == ["emma", "olivia", "ava"]
    assert found[-1] == "zzyzx"


# Spaces and line ends are what the reader takes away, so they cannot be in a name to keep.
lines = st.text(st.characters(codec="utf-8", exclude_characters="\0\n\ufeff")).filter(
    lambda text: text.strip()
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(expected=st.lists(lines, min_size=1), end=st.sampled_from(["\n", "\r\n", "\n\n \n"]))
def test_what_was_written_is_read_stripped(path, expected, end):
    path.write_bytes(end.join(expected).encode("utf-8"))
    assert names(path) == [name.strip() for name in expected]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_any_bytes_are_names_or_a_data_error(path, content):
    path.write_bytes(content)
    try:
        outcome = names(path)
    except DataError as error:
        outcome = error
    if isinstance(outcome, DataError):
        assert str(outcome).startswith(f"{path}, ")
    else:
        text = content.decode("utf-8").removeprefix("\ufeff")
        assert outcome == [line.strip() for line in text.split("\n") if line.strip()]
        assert outcome


def test_a_byte_order_mark_is_no_part_of_the_first_name(path):
    path.write_bytes(b"\xef\xbb\xbfemma\nava\n")
    assert names(str(path)) == ["emma", "ava"]


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\t\n"])
def test_a_file_without_names_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"names.txt, byte {len(content)}: .* without a name"):
        names(path)


def test_what_is_not_utf_8_is_named_by_line_and_byte(path):
    path.write_bytes("zoë\nrené\n".encode() + "zoë".encode("latin-1"))
    with pytest.raises(DataError, match=r"names.txt, line 3, byte 13: byte 0xeb is not UTF-8"):
        names(path)


@pytest.mark.parametrize(("codec", "line"), [("utf-16", 1), ("utf-16-le", 1), ("utf-16-be", 1)])
def test_utf_16_is_refused(path, codec, line):
    path.write_bytes("emma\nava\n".encode(codec))
    with pytest.raises(DataError, match=f"names.txt, line {line}, byte "):
        names(path)


def test_an_endless_line_is_refused_with_little_memory(path, peak_memory):
    path.touch()
    os.truncate(path, 1 << 30)
    with pytest.raises(DataError, match="line 1, byte 65536: the line is longer"):  # noqa: SIM117
        with peak_memory() as peak:
            names(path)
    assert peak() < 1 << 20


def test_the_longest_line_allowed(path):
    path.write_bytes(b"a" * 65_535 + b"\nb")
    assert [len(name) for name in names(path)] == [65_535, 1]


def test_a_missing_file_is_the_systems_error(path):
    with pytest.raises(FileNotFoundError, match=r"names.txt"):
        names(path)
