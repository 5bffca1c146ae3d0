"""The data modules: splits, identity, and every way in which files can be wrong."""

import hashlib
import http.server
import io
import logging
import os
import pickle
import random
import shutil
import socket
import tarfile
import threading
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image
from support import mnist, present
from torchvision import datasets

from kd.data import decode, image_folder
from kd.data.arrays import Arrays
from kd.data.datamodule import ImageDataModule
from kd.data.digits import Digits
from kd.data.image_folder import ImageFolder
from kd.data.scan import scan
from kd.data.splits import channel_statistics, stratified_split
from kd.data.views import CropFlip, Identity
from kd.data.vision import CIFAR10, CIFAR100, MNIST
from kd.errors import UserError
from kd.io import tensors as tensor_file

CONF = Path(__file__).resolve().parents[2] / "conf"
real_data = pytest.mark.skipif("KD_DATA_DIR" not in os.environ, reason="KD_DATA_DIR is not set")


class Given(ImageDataModule):
    """Whatever arrays a test gives; counts how often they are loaded."""

    def __init__(self, arrays: Arrays, **settings) -> None:
        super().__init__(**{"name": "given", "batch_size": 8, **settings})
        self.given, self.loads = arrays, 0

    def load(self) -> Arrays:
        self.loads += 1
        return self.given


def arrays(counts=(40, 25, 15), test=10, channels=1, side=4, **changes) -> Arrays:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    shape = (len(targets) + test, channels, side, side)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    names = [f"class{i}" for i in range(len(counts))]
    test_targets = torch.arange(test) % len(counts)
    whole = Arrays(images[test:], targets, images[:test], test_targets, names)
    return whole._replace(**changes)


def ready(data):
    data.prepare_data()
    data.setup()
    return data


# Splits


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.25, 0.5, 0.9])
def test_each_class_gets_its_rounded_share(fraction):
    counts = [1, 2, 7, 33, 118, 500]
    shuffled = torch.arange(6).repeat_interleave(torch.tensor(counts))[torch.randperm(661)]
    kept, held = stratified_split(shuffled, fraction, 0)
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(661))
    assert torch.equal(held, held.sort().values)
    assert torch.equal(kept, kept.sort().values)
    shares = [min(int(n * fraction + 0.5), n - 1) for n in counts]
    assert torch.bincount(shuffled[held], minlength=6).tolist() == shares


def test_the_split_is_a_function_of_the_split_seed_only():
    splits = []
    changes: list[dict[str, Any]] = [{}, {"batch_size": 3}, {"view": CropFlip()}, {"seed": 5}]
    for model_seed, settings in enumerate(changes):
        torch.manual_seed(model_seed)
        splits.append(ready(Given(arrays(), **settings)).split)
    assert all(torch.equal(splits[0].val, split.val) for split in splits)
    other = ready(Given(arrays(), split_seed=1)).split
    assert not torch.equal(splits[0].val, other.val)
    assert not set(splits[0].train.tolist()) & set(splits[0].val.tolist())


def test_every_sample_is_held_out_equally_often():
    targets = torch.arange(2).repeat_interleave(torch.tensor([20, 30]))
    held = torch.cat([stratified_split(targets, 0.2, seed)[1] for seed in range(1000)])
    counts = torch.bincount(held, minlength=50)
    assert int(counts.min()) > 140  # 200 expected, standard deviation 13
    assert int(counts.max()) < 260


def test_no_test_image_in_training_or_validation():
    data = ready(Digits(name="digits", batch_size=64))
    pool = {image.numpy().tobytes() for image in data.arrays.train_images}
    test = {image.numpy().tobytes() for image in data.arrays.test_images}
    assert not pool & test
    seen = torch.cat([batch.index for batch in data.val_dataloader()])
    train = data.train_dataloader()
    for epoch in range(3):
        train.sampler.set_epoch(epoch)
        assert not set(seen.tolist()) & {i for batch in train for i in batch.index.tolist()}


def test_a_validation_set_of_its_own_wins():
    given = arrays()
    own = given._replace(val_images=given.test_images[:6], val_targets=given.test_targets[:6])
    data = ready(Given(own, val_fraction=0.5))
    assert data.num_samples == {"train": 80, "val": 6, "test": 10, "pool": 80}
    (batch,) = data.val_dataloader()
    assert torch.equal(batch.target, present(own.val_targets))
    assert ready(Given(own, val_fraction=0.0)).num_samples["train"] == 80


# Normalisation


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_are_those_of_the_training_split(channels):
    data = ready(Given(arrays(channels=channels)))
    pixels = data.arrays.train_images[data.split.train].double() / 255
    torch.testing.assert_close(data.split.mean, pixels.mean((0, 2, 3)), rtol=0, atol=1e-14)
    expected = pixels.std((0, 2, 3), correction=0)
    torch.testing.assert_close(data.split.std, expected, rtol=0, atol=1e-14)
    whole = torch.cat([batch.input for batch in plain(data)])
    assert abs(float(whole.mean())) < 1e-6
    assert abs(float(whole.std(correction=0)) - 1) < 1e-6


def plain(data):
    loader = data.train_dataloader()
    loader.sampler.drop_last = False
    return loader


def test_a_constant_channel_is_normalised_to_zeros():
    images = torch.full((10, 1, 2, 2), 77, dtype=torch.uint8)
    mean, std = channel_statistics(images, torch.arange(10))
    assert (mean.item(), std.item()) == (77 / 255, 1 / 255)


@pytest.mark.parametrize(("name", "rows"), [("digits", None), pytest.param("mnist", None)])
def test_the_numbers_in_the_yaml_are_those_of_the_training_images(name, rows):
    if name == "mnist" and "KD_DATA_DIR" not in os.environ:
        pytest.skip("KD_DATA_DIR is not set")
    data = ready(from_config(name))
    pool = data.arrays.train_images
    mean, std = channel_statistics(pool, torch.arange(len(pool)))
    torch.testing.assert_close(data.split.mean, mean, rtol=0, atol=6e-5)
    torch.testing.assert_close(data.split.std, std, rtol=0, atol=6e-5)


# The module


def test_what_is_known_before_training():
    data = ready(Given(arrays(channels=3, side=6)))
    known = (data.in_channels, data.image_size, data.num_classes, data.class_names, data.name)
    assert known == (3, 6, 3, ["class0", "class1", "class2"], "given")
    data.setup("fit")
    data.setup("test")
    data.prepare_data()
    assert data.loads == 1


def test_before_setup_it_says_what_is_missing():
    with pytest.raises(RuntimeError, match=r"call prepare_data\(\) and setup\(\) first"):
        Given(arrays()).num_classes  # noqa: B018
    with pytest.raises(RuntimeError, match=r"call prepare_data\(\) and setup\(\) first"):
        Given(arrays()).train_dataloader()


def test_every_train_dataloader_starts_clean():
    data = ready(Given(arrays(), view=CropFlip(padding=1)))
    first = data.train_dataloader()
    first.sampler.set_epoch(3)
    expected = [batch.index.tolist() for batch in data.train_dataloader()]
    next(iter(first))
    assert [batch.index.tolist() for batch in data.train_dataloader()] == expected
    assert data.train_dataloader().state_dict()["batch"] == 0


def test_evaluation_shows_images_as_they_are():
    data = ready(Given(arrays(), view=CropFlip(padding=1), mean=[0.5], std=[0.25]))
    (batch,) = data.test_dataloader()
    expected = (data.arrays.test_images.double() / 255 - 0.5) / 0.25
    torch.testing.assert_close(batch.input.double(), expected, rtol=0, atol=1e-6)
    assert batch.index.tolist() == list(range(10))
    assert data.val_dataloader().view_space == Identity()
    assert data.train_dataloader().view_space == CropFlip(padding=1)


def test_a_variant_shares_tensors_and_has_no_trainer():
    data = Given(arrays())
    trainer: Any = SimpleNamespace()  # no attribute of it is read
    data.trainer = trainer
    early = data.variant(batch_size=5)
    assert early.trainer is None
    data.trainer = None
    ready(data)
    late, reseeded = data.variant(batch_size=4), data.variant(seed=9)
    early.setup()
    assert data.loads + early.loads == 1
    for other in (early, late, reseeded):
        assert other.arrays is data.arrays
    assert [d.train_dataloader().batch_size for d in (data, early, late)] == [8, 5, 4]
    assert late.fingerprint == data.fingerprint
    assert torch.equal(late.split.val, data.split.val)
    assert torch.equal(reseeded.split.val, data.split.val)
    assert reseeded.fingerprint == data.fingerprint
    orders = [list(d.train_dataloader().sampler.order()) for d in (late, reseeded)]
    assert orders[0] != orders[1]


def test_ranks_share_the_batch_of_a_trainer():
    data, batches = ready(Given(arrays(), batch_size=6)), []
    whole = [batch.index for batch in data.train_dataloader()]
    for rank in range(2):
        data.trainer = SimpleNamespace(
            world_size=2, global_rank=rank, overfit_batches=0, strategy=None
        )
        batches.append([batch.index for batch in data.train_dataloader()])
    assert all(
        torch.equal(torch.stack([a, b], 1).flatten(), c)
        for a, b, c in zip(*batches, whole, strict=True)
    )
    data.trainer.world_size = 4
    with pytest.raises(UserError, match=r"batch_size=6 does not divide among 4 devices"):
        data.train_dataloader()
    assert len(next(iter(data.val_dataloader())).index) == 9


def test_fingerprints_change_with_everything_that_matters():
    base = arrays()
    image = base.train_images.clone()
    image[7, 0, 1, 1] ^= 1
    targets = base.train_targets.clone()
    targets[0], targets[-1] = 2, 0
    given = {"mean": [0.5], "std": [0.25]}
    modules = {
        "base": Given(base, **given),
        "image": Given(base._replace(train_images=image), **given),
        "targets": Given(base._replace(train_targets=targets), **given),
        "test": Given(base._replace(test_images=base.test_images.flip(0)), **given),
        "names": Given(base._replace(class_names=["a", "b", "c"]), **given),
        "split": Given(base, split_seed=1, **given),
        "share": Given(base, val_fraction=0.2, **given),
        "mean": Given(base, mean=[0.4], std=[0.25]),
        "own": Given(base),
    }
    found = {name: ready(data).fingerprint for name, data in modules.items()}
    assert len(set(found.values())) == len(modules)
    assert found["base"] == ready(Given(base, batch_size=3, view=CropFlip(), **given)).fingerprint
    pools = {name: data.images_fingerprint("train") for name, data in modules.items()}
    same = {name for name, value in pools.items() if value == pools["base"]}
    assert same == {"base", "targets", "test", "names", "split", "share"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val_fraction": 1.0}, r"val_fraction must be in \(0, 1\), got 1.0"),
        ({"val_fraction": -0.1}, r"val_fraction must be in \(0, 1\), got -0.1"),
        ({"val_fraction": float("nan")}, r"val_fraction must be in \(0, 1\), got nan"),
        ({"batch_size": 0}, "batch_size must be ≥ 1, got 0"),
        ({"eval_batch_size": -3}, "eval_batch_size must be ≥ 1, got -3"),
        ({"seed": -1}, "seed must be ≥ 0"),
        ({"split_seed": -1}, "split_seed must be ≥ 0"),
        ({"view": "shift"}, "view must be a ViewSpace, got 'shift'"),
        ({"mean": [0.5]}, "mean and std must be of equal length, or both null"),
        ({"mean": [0.5], "std": [0.5, 0.5]}, "mean and std must be of equal length"),
        ({"mean": [0.5], "std": [0.0]}, r"std must be > 0, got \[0.0\]"),
    ],
)
def test_arguments_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        Given(arrays(), **settings)


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        (arrays(), {"val_fraction": 0.0}, r"data 'given': data.val_fraction must be in \(0, 1\)"),
        (arrays(), {"val_fraction": 0.001}, "holds out none of 80 training images"),
        (arrays(), {"mean": [0.5] * 3, "std": [1.0] * 3}, "3 values, the images 1 channels"),
        (
            arrays(train_images=torch.zeros(80, 1, 4, 5, dtype=torch.uint8)),
            {},
            "data 'given': images must be square, got 4 x 5",
        ),
        (arrays(counts=(80,)), {}, "at least two classes"),
        (arrays(counts=(40, 0, 40)), {}, "no training image of class class1"),
        (arrays(test=0), {}, "no test image"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(given, settings, message):
    with pytest.raises(UserError, match=message):
        Given(given, **settings).setup()


# Digits


def test_digits_keep_a_fixed_test_fifth():
    data, other = (ready(Digits(name="digits", batch_size=64, seed=seed)) for seed in (0, 5))
    assert data.num_samples == {"train": 1293, "val": 145, "test": 359, "pool": 1438}
    assert torch.equal(data.arrays.test_images, other.arrays.test_images)
    assert (data.in_channels, data.image_size, data.num_classes) == (1, 8, 10)
    assert data.class_names == [str(i) for i in range(10)]
    assert int(data.arrays.train_images.max()) == 255
    assert torch.bincount(data.arrays.test_targets).tolist() == [
        36, 36, 35, 37, 36, 36, 36, 36, 35, 36
    ]  # fmt: skip


# MNIST


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
    assert torch.equal(data.arrays.train_images[:, 0], source.data)
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


def test_mnist_that_is_missing_and_not_to_be_downloaded(tmp_path, no_network):
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


def test_a_root_that_cannot_be_made(tmp_path):
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


# CIFAR


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
    assert data.arrays.train_images.shape == (400, 3, 32, 32)
    assert data.arrays.train_images.is_contiguous()
    assert data.arrays.train_images[5].flatten().tolist() == first["data"][5].tolist()
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


# Image folders


def picture(seed: int, size=(12, 12), mode="RGB") -> Image.Image:
    data = random.Random(seed).randbytes(size[0] * size[1] * len(mode))
    return Image.frombytes(mode, size, data)


@pytest.fixture
def folder(tmp_path):
    """200 images: 3 classes of 50, 50, 40 in train and 20 each in test; PNG, so exact."""
    root = tmp_path / "images"
    seed = 0
    for split, counts in {"train": (50, 50, 40), "test": (20, 20, 20)}.items():
        for name, count in zip(("ant", "bee", "cat"), counts, strict=True):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                seed += 1
                suffix = (".png", ".PNG", ".Png")[number % 3]
                picture(seed).save(root / split / name / f"{number:03}{suffix}", format="PNG")
    return root


@pytest.fixture
def decoded(monkeypatch):
    """How many images each call decoded."""
    calls = []

    def count(paths, *rest):
        calls.append(len(paths))
        return decode.decode_all(paths, *rest)

    monkeypatch.setattr(image_folder, "decode_all", count)
    return calls


def images(root, **settings):
    settings = {"image_size": 12, "cache_dir": f"{root}-elsewhere", **settings}
    return ImageFolder(root=str(root), name="images", batch_size=16, **settings)


def test_a_folder_is_read(folder, decoded):
    (folder / "train" / "ant" / "notes.txt").write_text("not an image")
    (folder / "train" / "ant" / "._000.png").write_text("not data either")
    (folder / "train" / ".DS_Store").touch()
    data = ready(images(folder))
    assert data.num_samples == {"train": 126, "val": 14, "test": 60, "pool": 140}
    assert data.class_names == ["ant", "bee", "cat"]
    assert data.arrays.train_targets.tolist() == [0] * 50 + [1] * 50 + [2] * 40
    for number in (0, 49, 50, 139):
        pixels = torch.frombuffer(bytearray(picture(number + 1).tobytes()), dtype=torch.uint8)
        expected = pixels.view(12, 12, 3).permute(2, 0, 1)
        assert torch.equal(data.arrays.train_images[number], expected)
    assert decoded == [200]
    again = ready(images(folder))
    assert decoded == [200]
    assert again.fingerprint == data.fingerprint


def test_a_val_folder_wins(folder):
    (folder / "val" / "bee").mkdir(parents=True)
    picture(0).save(folder / "val" / "bee" / "x.jpeg")
    data = ready(images(folder, val_fraction=0.0))
    assert data.num_samples == {"train": 140, "val": 1, "test": 60, "pool": 140}
    assert next(iter(data.val_dataloader())).target.tolist() == [1]


def test_sizes_and_grey_have_caches_of_their_own(folder, decoded):
    small, grey = ready(images(folder, image_size=6)), ready(images(folder, grayscale=True))
    assert (small.in_channels, small.image_size) == (3, 6)
    assert (grey.in_channels, grey.image_size) == (1, 12)
    ready(images(folder, image_size=6))
    assert decoded == [200, 200]
    assert len(list((folder / ".kd_cache").glob("*.safetensors"))) == 2


@pytest.mark.parametrize("change", ["add", "remove", "rename", "rewrite", "touch", "move"])
def test_a_change_makes_the_cache_again(folder, decoded, change):
    before = ready(images(folder)).arrays.train_images
    path = folder / "train" / "cat" / "000.png"
    if change == "add":
        picture(999).save(folder / "train" / "cat" / "999.png")
    elif change == "remove":
        path.unlink()
    elif change == "rename":
        path.rename(path.with_name("zzz.png"))
    elif change == "rewrite":
        picture(999).save(path)
    elif change == "touch":
        os.utime(path, ns=(0, 1))
    else:
        path.rename(folder / "train" / "ant" / "cat.png")
    after = ready(images(folder)).arrays.train_images
    assert len(decoded) == 2
    assert torch.equal(before, after) == (change == "touch")
    ready(images(folder))
    assert len(decoded) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1000],
        lambda data: data[:100],
        lambda data: b"",
        lambda data: b"\xff" * 1000,
        lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
    ],
    ids=["truncated", "header only", "empty", "nonsense", "one bit"],
)
def test_a_damaged_cache_is_made_again(folder, decoded, damage, caplog):
    expected = ready(images(folder)).fingerprint
    (cache,) = (folder / ".kd_cache").glob("*.safetensors")
    cache.write_bytes(damage(cache.read_bytes()))
    assert ready(images(folder)).fingerprint == expected
    assert decoded == [200, 200]
    assert "is damaged" in caplog.text
    ready(images(folder))
    assert decoded == [200, 200]


def test_a_root_that_cannot_be_written(folder, decoded, tmp_path):
    (folder / ".kd_cache").touch()  # mkdir fails, as in a read-only folder, for root too
    ready(images(folder))
    (cache,) = Path(f"{folder}-elsewhere").glob("*.safetensors")
    assert cache.name.startswith("images-")
    ready(images(folder))
    assert decoded == [200]


def test_nothing_that_can_be_written(folder, decoded, caplog):
    for path in (folder / ".kd_cache", Path(f"{folder}-elsewhere")):
        path.touch()
    assert ready(images(folder)).num_samples["pool"] == 140
    assert "decoded again next time" in caplog.text
    ready(images(folder))
    assert decoded == [200, 200]


def test_a_full_disk_leaves_no_half_file(folder, monkeypatch, caplog):
    import safetensors.torch

    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    assert ready(images(folder)).num_samples["pool"] == 140
    assert "no space left" in caplog.text
    assert [path.name for path in (folder / ".kd_cache").iterdir()] == ["12-rgb.safetensors.lock"]


def test_jobs_that_start_together_decode_once(folder, decoded):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(ready(images(folder)).fingerprint))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert decoded == [200]


def test_what_a_killed_writer_left_is_cleared_away(folder):
    (folder / ".kd_cache").mkdir()
    (folder / ".kd_cache" / "12-rgb.safetensors.4711.tmp").write_bytes(b"half")
    ready(images(folder))
    assert not list((folder / ".kd_cache").glob("*.tmp"))


def test_others_may_read_the_cache(folder):
    before = os.umask(0o022)
    try:
        ready(images(folder))
    finally:
        os.umask(before)
    (cache,) = (folder / ".kd_cache").glob("*.safetensors")
    assert cache.stat().st_mode & 0o777 == 0o644


def spoil(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        path = folder / name
        kinds = [b"", b"not an image", path.read_bytes()[:200], path.read_bytes()[:-40]]
        path.write_bytes(kinds[number % 4])


@pytest.mark.parametrize(
    "names", [["train/bee/004.PNG"], ["train/bee/004.PNG", "test/cat/000.png"]]
)
def test_up_to_one_percent_damaged_images_are_left_out(folder, caplog, names):
    whole = ready(images(folder)).arrays
    spoil(folder, names)
    data = ready(images(folder))
    lost_test = len(names) - 1
    assert data.num_samples["pool"] == 139
    assert data.num_samples["test"] == 60 - lost_test
    assert torch.equal(
        data.arrays.train_images, torch.cat([whole.train_images[:54], whole.train_images[55:]])
    )
    assert torch.bincount(data.arrays.train_targets).tolist() == [50, 49, 40]
    for _ in range(2):  # also when it comes from the cache
        assert f"{len(names)} damaged images left out" in caplog.text
        assert all(name in caplog.text for name in names)
        caplog.clear()
        ready(images(folder))


def test_more_than_one_percent_damaged_images_are_refused(folder):
    names = [f"train/ant/00{i}{s}" for i, s in enumerate([".png", ".PNG", ".Png", ".png", ".PNG"])]
    spoil(folder, names)
    with pytest.raises(UserError, match="5 of 200 images cannot be read, more than 1%") as error:
        ready(images(folder))
    assert all(name in str(error.value) for name in names)
    assert not list((folder / ".kd_cache").glob("*.safetensors*tmp"))


def test_only_ten_damaged_images_are_named(folder):
    spoil(folder, [f"test/{path.parent.name}/{path.name}" for path in folder.glob("test/*/*")])
    with pytest.raises(UserError, match="60 of 200") as error:
        ready(images(folder))
    assert str(error.value).count("\n- ") == 10


def remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("break_it", "messages"),
    [
        (lambda root: remove(root), ["is not a folder"]),
        (lambda root: remove(root / "train"), ["train is missing"]),
        (lambda root: remove(root / "test"), ["test is missing"]),
        (lambda root: remove(*root.iterdir()), ["train is missing", "test is missing"]),
        (lambda root: remove(*(root / "test").iterdir()), ["test holds no class"]),
        (lambda root: remove(*(root / "train").iterdir()), ["train holds no class"]),
        (
            lambda root: remove(
                *(root / split / name for split in ("train", "test") for name in ("bee", "cat"))
            ),
            ["two or more classes: ['ant']"],
        ),
        (lambda root: (root / "train" / "dog").mkdir(), ["train/dog holds no .jpg/.jpeg/.png"]),
        (lambda root: (root / "test" / "dog").mkdir(), ["test has classes that train/ lacks: dog"]),
        (lambda root: (root / "val" / "Ant").mkdir(parents=True), ["val has classes that", "Ant"]),
        (lambda root: (root / "val").mkdir(), ["val holds no class folder"]),
    ],
)  # fmt: skip
def test_a_folder_laid_out_wrongly_is_named(folder, decoded, break_it, messages):
    break_it(folder)
    with pytest.raises(UserError) as error:
        images(folder).prepare_data()
    assert all(message in str(error.value) for message in messages), str(error.value)
    assert str(folder) in str(error.value)
    assert decoded == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"image_size": 0}, "image_size must be ≥ 1"), ({"workers": 0}, "workers must be ≥ 1")],
)
def test_folder_arguments_are_checked(folder, settings, message):
    with pytest.raises(ValueError, match=message):
        images(folder, **settings)


def test_the_shorter_side_is_scaled_and_the_middle_kept(tmp_path):
    wide = Image.new("RGB", (60, 20), (255, 0, 0))
    wide.paste((0, 255, 0), (18, 0, 42, 20))
    for name, image in (("wide", wide), ("high", wide.transpose(Image.Transpose.ROTATE_90))):
        image.save(tmp_path / f"{name}.png")
        pixels = torch.tensor(list(decode.decode(tmp_path / f"{name}.png", 10, False)))
        assert pixels.view(3, 100).T.unique(dim=0).tolist() == [[0, 255, 0]]


def test_shrinking_is_antialiased_and_large_jpegs_keep_their_looks(tmp_path):
    smooth = picture(0, (9, 9)).resize((512, 512), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "large.jpg", quality=95)
    found = torch.tensor(list(decode.decode(tmp_path / "large.jpg", 32, False))).double()
    reference = smooth.resize((32, 32), Image.Resampling.BILINEAR)
    expected = torch.tensor(list(b"".join(c.tobytes() for c in reference.split()))).double()
    assert float((found - expected).abs().mean()) < 2
    checkers = Image.frombytes("L", (64, 64), bytes([0, 255] * 2048))
    checkers.save(tmp_path / "checkers.png")
    shrunk = torch.tensor(list(decode.decode(tmp_path / "checkers.png", 8, True)))
    assert 120 < int(shrunk.min()) <= int(shrunk.max()) < 136


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16", "CMYK"])
def test_every_pixel_format_becomes_colour_or_grey(tmp_path, mode):
    name = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    value = 255 if mode == "1" else 200
    image = Image.new("L", (8, 8), value)
    image = (
        Image.frombytes("I;16", (8, 8), (200 * 257).to_bytes(2, "little") * 64)
        if mode == "I;16"
        else image.convert(mode)
    )
    options: dict[str, Any] = {"transparency": b"\x00\x80"} if mode == "P" else {}
    image.save(name, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        colour, grey = (decode.decode(name, 8, grayscale) for grayscale in (False, True))
    assert (len(colour), len(grey)) == (192, 64)
    assert all(abs(level - value) <= 1 for level in colour + grey)


@pytest.mark.parametrize("workers", [1, 3])
def test_decoding_does_not_depend_on_the_threads(folder, workers):
    listing = scan(folder)
    paths = [folder / file.path for file in listing.files]
    found, failed = decode.decode_all(paths, 12, False, workers)
    assert failed == {}
    assert torch.equal(found, decode.decode_all(paths, 12, False, None)[0])


def test_a_cache_for_another_key_is_not_read(tmp_path):
    path = tmp_path / "x.safetensors"
    stored = tensor_file.Stored({"a": torch.arange(5), "empty": torch.zeros(0, 3)}, ["note"])
    tensor_file.write(path, "key", stored)
    assert tensor_file.read(path, "other") is None
    found = tensor_file.read(path, "key")
    assert found is not None
    assert found.notes == ["note"]
    assert torch.equal(found.tensors["a"], torch.arange(5))
    assert found.tensors["empty"].shape == (0, 3)
    assert tensor_file.read(tmp_path / "none", "key") is None


@real_data
@pytest.mark.skipif(
    not Path(os.environ.get("KD_DATA_DIR", "."), "cifar10_images").is_dir(), reason="not unpacked"
)
def test_the_real_image_folder_is_listed():
    listing = scan(Path(os.environ["KD_DATA_DIR"]) / "cifar10_images")
    assert (len(listing.class_names), len(listing.files)) == (10, 60000)


# Config files


def from_config(name: str, *overrides: str):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(f"data/{name}", overrides=["+seed=0", "+channels_last=false", *overrides])
    return instantiate(config.data, _convert_="all")


# `external` describes data that are not of kd
NAMES = sorted(path.stem for path in (CONF / "data").glob("*.yaml") if path.stem != "external")
ROOT = {"image_folder": ["data.root=/nowhere"]}


@pytest.mark.parametrize("name", NAMES)
def test_every_config_builds_and_says_how_it_is_run(name):
    data = from_config(name, *ROOT.get(name, []))
    assert data.name == name
    text = (CONF / "data" / f"{name}.yaml").read_text()
    assert f"# python -m kd.train data={name}" in text


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("view", "expected"), [("none", "Identity()"), ("shift", "Shift(pixels=1)"),
                           ("crop_flip", "CropFlip(padding=4)")],
)  # fmt: skip
def test_the_view_is_switched_with_one_word(name, view, expected):
    assert repr(from_config(name, *ROOT.get(name, []), f"data/view={view}").view) == expected


def test_data_is_looked_for_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("KD_DATA_DIR", "/somewhere")
    assert from_config("cifar10").root == Path("/somewhere")
    monkeypatch.delenv("KD_DATA_DIR")
    assert from_config("mnist").root == Path("data")


def test_quiet_logs(folder, caplog):
    with caplog.at_level(logging.INFO):
        ready(images(folder))
    assert caplog.messages == ["decoding 200 images, once"]
