import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scalargrad.data import download
from scalargrad.errors import DataError

CONTENT = bytes(range(256)) * 1200
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` on the loopback interface, as badly as `answers` says, one per request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.answers: list[str] = []
        self.ranges: list[str | None] = []
        self.stopped = threading.Event()

    def url(self, name: str = "file") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        answer = self.server.answers.pop(0) if self.server.answers else "good"
        self.close_connection = True
        if answer.isdigit():
            self.send_error(int(answer))
            return
        content = b"?" * len(CONTENT) if answer == "wrong" else self.server.content
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
        if asked and start >= len(content):
            self.send_error(416)
            return
        if answer == "ignore range":
            start, asked = 0, None
        self.send_response(206 if asked else 200)
        if asked:
            said = 0 if answer == "lie about range" else start
            self.send_header("Content-Range", f"bytes {said}-{len(content) - 1}/{len(content)}")
        body = content[start:]
        cut = body[: len(body) // 3]
        if answer == "cut chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(f"{len(body):x}\r\n".encode() + cut)
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(cut if answer in ("cut", "stall") else body)
        if answer == "stall":
            self.wfile.flush()
            self.server.stopped.wait(60)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.stopped.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "file"


@pytest.fixture
def part(path: Path) -> Path:
    return path.with_name("file.part")


def fetch(server: Server, path: Path, **arguments: object) -> Path:
    arguments = {"size": len(CONTENT), "sha256": SHA256, **arguments}
    return download([server.url()], path, **arguments)


def test_the_file_arrives_whole_and_nothing_is_left_beside_it(server, path):
    assert fetch(server, str(path)) == path
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["file"]
    assert server.ranges == [None]


def test_a_file_that_is_there_is_verified_and_not_fetched(server, path):
    fetch(server, path)
    assert fetch(server, path, sha256=SHA256.upper()) == path
    assert len(server.ranges) == 1


def test_a_different_file_is_not_overwritten(server, path):
    path.parent.mkdir()
    path.write_bytes(b"mine")
    with pytest.raises(DataError, match=r"folder.file exists and is not .* move it away"):
        fetch(server, path)
    assert path.read_bytes() == b"mine"
    assert server.ranges == []


@pytest.mark.parametrize("cut", ["cut", "cut chunked"])
def test_a_transfer_that_breaks_off_is_taken_up_where_it_stopped(server, path, cut):
    server.answers = [cut, "cut"]
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    first, second, third = server.ranges
    assert first is None
    assert 0 < int(second[6:-1]) < int(third[6:-1]) < len(CONTENT)


def test_the_next_call_takes_up_what_an_earlier_one_kept(server, path, part):
    server.answers = ["cut"] * 3
    with pytest.raises(DataError, match=r"broke off after \d+ bytes") as caught:
        fetch(server, path)
    assert not path.exists()
    kept = part.stat().st_size
    assert part.read_bytes() == CONTENT[:kept]
    assert f"({kept} of {len(CONTENT)} bytes are kept)" in str(caught.value)
    server.ranges.clear()
    fetch(server, path)
    assert server.ranges == [f"bytes={kept}-"]
    assert path.read_bytes() == CONTENT
    assert not part.exists()


def test_a_stalled_server_is_given_up_and_asked_for_the_rest(server, path):
    server.answers = ["stall"]
    fetch(server, path, timeout=0.2)
    assert path.read_bytes() == CONTENT
    assert len(server.ranges) == 2


def test_ctrl_c_keeps_what_has_arrived(server, path, part, monkeypatch):
    import tqdm

    class Interrupted(tqdm.tqdm):
        def update(self, n=1):
            if self.n > 100_000:
                raise KeyboardInterrupt
            return super().update(n)

    monkeypatch.setattr(tqdm, "tqdm", Interrupted)
    # A bar that is not shown does not count, so it has to be shown.
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with pytest.raises(KeyboardInterrupt):
        fetch(server, path)
    kept = part.read_bytes()
    assert 0 < len(kept) < len(CONTENT)
    assert CONTENT.startswith(kept)
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "*")
    fetch(server, path)
    assert server.ranges == [None, f"bytes={len(kept)}-"]
    assert path.read_bytes() == CONTENT


def test_a_server_that_ignores_range_is_read_from_the_start(server, path, part):
    part.parent.mkdir()
    part.write_bytes(CONTENT[:1000])
    server.answers = ["ignore range"]
    fetch(server, path)
    assert server.ranges == ["bytes=1000-"]
    assert path.read_bytes() == CONTENT


def test_an_answer_from_another_place_than_asked_is_refused(server, path, part):
    part.parent.mkdir()
    part.write_bytes(CONTENT[:1000])
    server.answers = ["lie about range"] * 3
    with pytest.raises(
        DataError, match=r"Content-Range 'bytes 0-.*' when asked for bytes from 1000"
    ):
        fetch(server, path)
    assert part.read_bytes() == CONTENT[:1000]
    assert not path.exists()


def test_a_wrong_file_never_gets_the_name(server, path, part):
    server.answers = ["wrong"]
    wrong = hashlib.sha256(b"?" * len(CONTENT)).hexdigest()
    with pytest.raises(DataError, match=f"SHA-256 {wrong}, expected {SHA256}"):
        fetch(server, path)
    assert not path.exists()
    assert not part.exists()
    assert server.ranges == [None]


def test_a_wrong_beginning_kept_from_before_is_thrown_away(server, path, part):
    part.parent.mkdir()
    part.write_bytes(b"?" * 1000)
    fetch(server, path)
    assert server.ranges == ["bytes=1000-", None]
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("kept", "ranges"), [(CONTENT, []), (CONTENT + b"!", [None]), (b"?" * len(CONTENT), [None])]
)
def test_a_part_that_is_already_as_long_as_the_file_or_longer(server, path, part, kept, ranges):
    part.parent.mkdir()
    part.write_bytes(kept)
    fetch(server, path)
    assert server.ranges == ranges
    assert path.read_bytes() == CONTENT


def test_no_more_than_the_known_size_is_stored(server, path, part, monkeypatch):
    server.content = CONTENT * 10
    fetch(server, path)
    assert path.read_bytes() == CONTENT


def test_a_shorter_file_on_the_server(server, path, part):
    server.content = CONTENT[:-10]
    with pytest.raises(DataError, match="HTTP Error 416"):
        fetch(server, path)
    assert not path.exists()


@pytest.mark.parametrize("answer", ["404", "503", "wrong"])
def test_the_next_address_is_tried(server, path, answer):
    server.answers = [answer]
    download([server.url("a"), server.url("b")], path, size=len(CONTENT), sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert len(server.ranges) == 2


def test_the_next_address_takes_up_what_the_first_one_sent(server, path):
    server.answers = ["cut", "500"]
    download([server.url("a"), server.url("b")], path, size=len(CONTENT), sha256=SHA256)
    assert server.ranges[0] is None
    assert server.ranges[1] == server.ranges[2] == f"bytes={len(CONTENT) // 3}-"
    assert path.read_bytes() == CONTENT


def test_the_error_lists_every_address_with_its_failure(server, path, monkeypatch):
    server.answers = ["404"]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as closed:
        nobody = f"http://127.0.0.1:{closed.server_address[1]}/file"
    with pytest.raises(DataError) as caught:
        download([server.url(), nobody], path, size=len(CONTENT), sha256=SHA256)
    message = str(caught.value)
    assert f"{server.url()}: HTTP Error 404" in message
    assert f"{nobody}: <urlopen error" in message
    assert "0 of 307200 bytes are kept" in message


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/file", "file"])
def test_only_http_addresses_are_opened(path, url):
    with pytest.raises(ValueError, match=r"^urls holds .*: expected an http or https address"):
        download([url], path, size=1, sha256=SHA256)


@pytest.mark.parametrize("urls", [[], "http://127.0.0.1/file"])
def test_addresses_come_in_a_list_with_something_in_it(path, urls):
    with pytest.raises(ValueError, match=r"^urls is .*: expected a list of one address or more"):
        download(urls, path, size=1, sha256=SHA256)
