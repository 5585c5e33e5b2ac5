import gzip
import hashlib
import http.server
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from scalargrad.data import Examples, Split, mnist
from scalargrad.errors import DataError

TRAIN = np.random.default_rng(0).integers(0, 256, (7, 28, 28), np.uint8)
TRAIN_LABELS = np.array([5, 0, 4, 1, 9, 2, 1], np.uint8)
TEST = np.random.default_rng(1).integers(0, 256, (3, 28, 28), np.uint8)
TEST_LABELS = np.array([7, 2, 1], np.uint8)
FILES = {
    "train-images-idx3-ubyte": TRAIN,
    "train-labels-idx1-ubyte": TRAIN_LABELS,
    "t10k-images-idx3-ubyte": TEST,
    "t10k-labels-idx1-ubyte": TEST_LABELS,
}


@pytest.fixture
def folder(tmp_path, idx_bytes) -> Path:
    """The four files, plain, with a few images."""
    for name, array in FILES.items():
        (tmp_path / name).write_bytes(idx_bytes(array))
    return tmp_path


def test_both_parts(folder):
    data = mnist(folder)
    assert isinstance(data, Split)
    (x_train, y_train), (x_test, y_test) = data
    assert (x_train.shape, x_train.dtype) == ((7, 784), np.float64)
    assert np.array_equal(x_train, TRAIN.reshape(7, 784) / 255)
    assert (y_train.tolist(), y_train.dtype) == (TRAIN_LABELS.tolist(), np.int64)
    assert np.array_equal(x_test, TEST.reshape(3, 784) / 255)
    assert y_test.tolist() == TEST_LABELS.tolist()


@pytest.mark.parametrize(("part", "labels"), [("train", TRAIN_LABELS), ("test", TEST_LABELS)])
def test_one_part_alone_needs_only_its_own_files(folder, part, labels):
    other = "t10k" if part == "train" else "train"
    for file in folder.glob(f"{other}-*"):
        file.unlink()
    examples = mnist(str(folder), part=part)
    assert isinstance(examples, Examples)
    assert examples.y.tolist() == labels.tolist()


def test_pixels_as_asked_for(folder):
    as_stored = mnist(folder, part="test", dtype="uint8").x
    assert as_stored.dtype == np.uint8
    assert np.array_equal(as_stored, TEST.reshape(3, 784))
    single = mnist(folder, part="test", dtype="float32").x
    assert single.dtype == np.float32
    assert np.array_equal(single, TEST.reshape(3, 784).astype(np.float32) / np.float32(255))


def test_zero_is_paper_and_one_is_ink(folder, idx_bytes):
    images = np.zeros((3, 28, 28), np.uint8)
    images[0] = 255
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(images))
    x, _ = mnist(folder, part="test")
    assert (x[0] == 1.0).all()
    assert (x[1:] == 0.0).all()


@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
def test_every_spelling_of_the_names(folder, zipped, dotted, compressed):
    for name in FILES:
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        new = name.replace("-idx", ".idx") if dotted else name
        if compressed:
            (folder / f"{new}.gz").write_bytes(zipped(content))
        else:
            (folder / new).write_bytes(content)
    assert mnist(folder).test.y.tolist() == TEST_LABELS.tolist()


def test_everything_missing_is_named_at_once(tmp_path):
    with pytest.raises(DataError) as caught:
        mnist(tmp_path / "nowhere")
    message = str(caught.value)
    for name in FILES:
        assert f"{name} or {name.replace('-idx', '.idx')} or {name}.gz" in message
    assert "part=" not in message
    assert "download=True" in message


def test_half_of_the_files_are_pointed_out(folder):
    for file in folder.glob("train-*"):
        file.unlink()
    with pytest.raises(DataError) as caught:
        mnist(folder)
    message = str(caught.value)
    assert "t10k" not in message
    assert "part='test' reads the files that are there" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"part": "valid"}, "^part is 'valid': expected 'train', 'test' or None"),
        ({"dtype": "float16"}, "^dtype is 'float16': expected 'float64', 'float32' or 'uint8'"),
    ],
)
def test_impossible_arguments_are_refused(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        mnist(folder, **arguments)


def test_mirrors_come_in_a_list(folder):
    with pytest.raises(TypeError, match=r"^mirrors is 'http://localhost': expected a list"):
        mnist(folder, download=True, mirrors="http://localhost")


def refused(folder, name, content, match):
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=match) as caught:
        mnist(folder, part="test")
    assert str(folder / name) in str(caught.value)


def test_images_and_labels_must_be_equally_many(folder, idx_bytes):
    refused(
        folder,
        "t10k-labels-idx1-ubyte",
        idx_bytes(TRAIN_LABELS),
        r"t10k-images-idx3-ubyte, byte 4, says 3 images and .*, byte 4, says 7 labels",
    )


def test_a_data_set_without_images_is_refused(folder, idx_header):
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx_header("u1", (0, 28, 28)))
    refused(folder, "t10k-labels-idx1-ubyte", idx_header("u1", (0,)), "0 images .* at least 1")


@pytest.mark.parametrize("compressed", [False, True])
def test_a_label_that_is_no_digit(folder, idx_bytes, zipped, compressed):
    content = idx_bytes(np.array([7, 10, 255], np.uint8))
    refused(
        folder,
        "t10k-labels-idx1-ubyte",
        zipped(content) if compressed else content,
        "byte 9 of the uncompressed data: label 10 of example 1, expected 0 to 9",
    )


def test_images_of_another_size(folder, idx_bytes):
    refused(
        folder,
        "t10k-images-idx3-ubyte",
        idx_bytes(np.zeros((3, 32, 28), np.uint8)),
        "byte 8: dimension 1 is 32, expected 28",
    )


def test_images_in_the_place_of_labels(folder, idx_bytes):
    refused(folder, "t10k-labels-idx1-ubyte", idx_bytes(TEST), "byte 3: 3 dimensions, expected 1")


def test_pixels_that_are_not_bytes(folder, idx_bytes):
    content = idx_bytes(TEST.astype(np.float32))
    refused(folder, "t10k-images-idx3-ubyte", content, "byte 2: elements of type float32")


def test_hostile_files_cost_no_memory(folder, idx_header, zipped, peak_memory):
    hostile = idx_header("u1", (2**32 - 1, 28, 28))
    for content in (hostile, zipped(hostile)):
        (folder / "t10k-images-idx3-ubyte").write_bytes(content)
        with pytest.raises(DataError, match="the header promises 3367254359280"):  # noqa: SIM117
            with peak_memory() as peak:
                mnist(folder, part="test")
        assert peak() < 1 << 19


@pytest.fixture
def mirror(tmp_path_factory, folder, zipped, monkeypatch):
    """A folder on the loopback interface that serves the four files, as the only known MNIST."""
    served = tmp_path_factory.mktemp("mirror")
    module = sys.modules["scalargrad.data.mnist"]
    parts = {}
    for part, pair in module._PARTS.items():
        known = []
        for file in pair:
            content = zipped((folder / file.name).read_bytes())
            (served / f"{file.name}.gz").write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            known.append(file._replace(size=len(content), sha256=digest))
        parts[part] = type(pair)(*known)
    monkeypatch.setattr(module, "_PARTS", parts)
    monkeypatch.setenv("no_proxy", "*")

    requests: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, *details: object) -> None:
            requests.append(self.path)

    handler = partial(Handler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", served, requests
        server.shutdown()
        thread.join()


def test_download_fetches_what_is_missing_and_only_once(folder, mirror, tmp_path):
    url, _, requests = mirror
    new = tmp_path / "new" / "folder"
    for _ in range(2):
        data = mnist(new, download=True, mirrors=[f"{url}/"])
        assert data.train.y.tolist() == TRAIN_LABELS.tolist()
        assert np.array_equal(data.test.x, TEST.reshape(3, 784) / 255)
    assert sorted(requests) == sorted(f"/{name}.gz" for name in FILES)
    assert sorted(file.name for file in new.iterdir()) == sorted(f"{name}.gz" for name in FILES)


def test_download_leaves_files_alone_and_fetches_only_the_part_asked_for(folder, mirror):
    url, _, requests = mirror
    (folder / "t10k-labels-idx1-ubyte").unlink()
    (folder / "train-labels-idx1-ubyte").unlink()
    assert mnist(folder, part="test", download=True, mirrors=[url]).y.tolist() == [7, 2, 1]
    assert requests == ["/t10k-labels-idx1-ubyte.gz"]


def test_a_mirror_with_other_files_is_refused(folder, mirror, zipped, idx_bytes):
    url, served, _ = mirror
    name = "t10k-labels-idx1-ubyte"
    (folder / name).unlink()
    size = (served / f"{name}.gz").stat().st_size
    (served / f"{name}.gz").write_bytes(bytes(size))
    with pytest.raises(DataError, match=rf"{name}.gz could not be downloaded.*SHA-256"):
        mnist(folder, part="test", download=True, mirrors=[url])
    assert not (folder / f"{name}.gz").exists()


def test_without_download_nothing_is_fetched(folder, mirror):
    url, _, requests = mirror
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="Missing: t10k-labels-idx1-ubyte"):
        mnist(folder, part="test", mirrors=[url])
    assert requests == []


def test_the_ten_thousand_real_images(shared_data):
    x, y = mnist(shared_data / "mnist10k", part="test")
    assert x.shape == (10_000, 784)
    pixels = gzip.decompress((shared_data / "mnist10k/t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    assert np.array_equal(255 * x, np.frombuffer(pixels, np.uint8).reshape(x.shape))
    assert (x.min(), x.max()) == (0.0, 1.0)
    assert y[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_the_known_checksums_are_those_of_the_real_files(shared_data):
    for file in sys.modules["scalargrad.data.mnist"]._PARTS["test"]:
        content = (shared_data / "mnist10k" / f"{file.name}.gz").read_bytes()
        assert len(content) == file.size
        assert hashlib.sha256(content).hexdigest() == file.sha256


def test_memory_of_the_real_images_is_little_more_than_theirs(shared_data, peak_memory):
    with peak_memory() as peak:
        x, _ = mnist(shared_data / "mnist10k", part="test", dtype="uint8")
    assert peak() < 1.25 * x.nbytes
