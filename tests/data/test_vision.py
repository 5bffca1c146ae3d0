"""MNIST and CIFAR: reading, downloading, damaged files."""

import hashlib
import http.server
import io
import os
import pickle
import socket
import tarfile
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from small_data import ready
from support import mnist
from torchvision import datasets

from kd.data.vision import CIFAR10, CIFAR100, MNIST
from kd.errors import UserError

real_data = pytest.mark.skipif("KD_DATA_DIR" not in os.environ, reason="KD_DATA_DIR is not set")


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def unreachable(monkeypatch):
    """Every address answers at once that it is not there."""
    nowhere = "http://127.0.0.1:9/"
    monkeypatch.setattr(datasets.MNIST, "mirrors", [nowhere])
    for source in (datasets.CIFAR10, datasets.CIFAR100):
        monkeypatch.setattr(source, "url", nowhere + source.filename)


def test_mnist_is_read_without_the_network(mnist_root, no_network, capfd, caplog):
    data = ready(mnist(mnist_root))
    assert data.num_samples == {"train": 50, "val": 10, "test": 20, "pool": 60}
    source = datasets.MNIST(mnist_root, train=True)
    assert torch.equal(data.arrays.train_inputs[:, 0], source.data)
    assert torch.equal(data.arrays.train_targets, source.targets)
    assert data.class_names == [str(i) for i in range(10)]
    assert capfd.readouterr() == ("", "")
    assert "train-images-idx3-ubyte, train-labels-idx1-ubyte" in caplog.text
    assert "differ from the published files" in caplog.text


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda data: data[:1000], r"damaged: 1000 bytes, its header says 47056"),
        (lambda data: data + b"\0", r"damaged: 47057 bytes, its header says 47056"),
        (lambda data: b"<html>" + data, "damaged: not an idx file"),
        (lambda data: b"", "damaged: not an idx file"),
    ],
)
@pytest.mark.parametrize("download", [True, False])
def test_a_damaged_mnist_file_is_named(mnist_root, no_network, damage, problem, download):
    path = mnist_root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=rf"train-images-idx3-ubyte \({problem}\)") as error:
        ready(mnist(mnist_root, download=download))
    assert "delete a damaged file" in str(error.value)
    assert "t10k" not in str(error.value)


def test_missing_mnist_without_download(tmp_path, no_network):
    with pytest.raises(UserError, match=r"data\.download=false") as error:
        ready(mnist(tmp_path / "none", download=False))
    assert str(error.value).count("(missing)") == 4
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match="not found"):
        mnist(tmp_path / "none", download=False).setup()


@pytest.mark.parametrize("build", [MNIST, CIFAR10, CIFAR100])
def test_a_failed_download_is_one_clear_message(tmp_path, unreachable, capfd, build):
    data = build(root=str(tmp_path / "new"), name="wanted", batch_size=16)
    with pytest.raises(UserError) as error:
        data.prepare_data()
    message = str(error.value)
    for part in (
        "data 'wanted'",
        str(tmp_path / "new"),
        "(missing)",
        "refused",
        "http://127.0.0.1:9/",
        "data=digits",
        "data=image_folder",
    ):
        assert part in message
    assert capfd.readouterr() == ("", "")
    assert socket.getdefaulttimeout() is None


def test_a_root_that_cannot_be_created(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"NotADirectoryError|FileExistsError"):
        mnist(tmp_path / "file").prepare_data()


@real_data
def test_the_real_mnist(no_network, caplog):
    data = ready(mnist(os.environ["KD_DATA_DIR"], download=False))
    assert data.num_samples == {"train": 54000, "val": 6000, "test": 10000, "pool": 60000}
    assert data.arrays.train_targets[:5].tolist() == [5, 0, 4, 1, 9]
    counts = torch.bincount(data.arrays.train_targets)
    held = torch.bincount(data.arrays.train_targets[data.split.val])
    assert torch.equal(held, (counts.double() / 10 + 0.5).long())
    assert not caplog.records


def cifar_archive(folder: Path, source: type[datasets.CIFAR10], monkeypatch) -> dict[str, bytes]:
    """A small archive in the original format, with torchvision's class told its checksums."""
    generator = torch.Generator().manual_seed(0)
    labels, classes = ("labels", 10) if source is datasets.CIFAR10 else ("fine_labels", 100)
    files, lists = {}, {}
    for kind, names in {"train_list": ["one", "two"], "test_list": ["three"]}.items():
        for name in names:
            size = (200, 3072)
            pixels = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator).numpy()
            targets = [i % classes for i in range(200)]
            files[name] = pickle.dumps({"data": pixels, labels: targets}, protocol=2)
        lists[kind] = [[name, hashlib.md5(files[name]).hexdigest()] for name in names]
    names = [f"name{i}" for i in range(classes)]
    files[source.meta["filename"]] = pickle.dumps({source.meta["key"]: names}, protocol=2)
    archive = folder / source.filename
    with tarfile.open(archive, "w:gz") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"{source.base_folder}/{name}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    checksum = hashlib.md5(files[source.meta["filename"]]).hexdigest()
    for attribute, value in {
        **lists,
        "meta": {**source.meta, "md5": checksum},
        "tgz_md5": hashlib.md5(archive.read_bytes()).hexdigest(),
    }.items():
        monkeypatch.setattr(source, attribute, value)
    return files


@pytest.fixture
def served(tmp_path):
    """A folder, and the address at which a server of this machine offers it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    folder = tmp_path / "server"
    folder.mkdir()
    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(params=["CIFAR10", "CIFAR100"])
def cifar(request, served, tmp_path, monkeypatch):
    build = {"CIFAR10": CIFAR10, "CIFAR100": CIFAR100}[request.param]
    source = getattr(datasets, request.param)
    files = cifar_archive(served[0], source, monkeypatch)
    monkeypatch.setattr(source, "url", served[1] + source.filename)

    def make(**settings):
        settings = {"val_fraction": 0.25, **settings}  # four images a class and file
        return build(root=str(tmp_path / "root"), name="cifar", batch_size=16, **settings)

    return SimpleNamespace(
        make=make,
        source=source,
        files=files,
        archive=served[0] / source.filename,
        folder=tmp_path / "root" / source.base_folder,
    )


# torchvision unpacks without a filter, which Python 3.12 and 3.13 remark on.
untar = pytest.mark.filterwarnings("ignore:Python 3.14:DeprecationWarning")


@untar
def test_cifar_is_downloaded_unpacked_and_read(cifar, capfd, monkeypatch):
    data = ready(cifar.make())
    assert capfd.readouterr() == ("", "")
    classes = 10 if cifar.source is datasets.CIFAR10 else 100
    assert data.class_names == [f"name{i}" for i in range(classes)]
    assert (data.num_samples["pool"], data.num_samples["test"]) == (400, 200)
    first = pickle.loads(cifar.files["one"])
    assert data.arrays.train_inputs.shape == (400, 3, 32, 32)
    assert data.arrays.train_inputs.is_contiguous()
    assert data.arrays.train_inputs[5].flatten().tolist() == first["data"][5].tolist()
    assert data.arrays.train_targets[:4].tolist() == [0, 1, 2, 3]
    monkeypatch.setattr(cifar.source, "url", "http://127.0.0.1:9/")
    cifar.archive.unlink()
    ready(cifar.make())  # intact: not asked for again


@untar
def test_a_damaged_cifar_file_is_unpacked_again(cifar):
    ready(cifar.make())
    (cifar.folder / "two").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"two \(damaged\)") as error:
        ready(cifar.make(download=False))
    assert "one (" not in str(error.value)
    assert ready(cifar.make()).num_samples["pool"] == 400


@untar
def test_a_truncated_archive_is_refused(cifar):
    cifar.archive.write_bytes(cifar.archive.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"one \(missing\), two \(missing\)") as error:
        ready(cifar.make())
    assert cifar.source.url in str(error.value)
    assert "corrupted" in str(error.value)
