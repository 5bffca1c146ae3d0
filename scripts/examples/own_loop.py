"""A training loop of one's own with the losses of `kd`: no config, no Trainer.

The cells (`# %%`) open as a notebook in VS Code, PyCharm or Jupytext. A teacher and a student, both
plain `nn.Module`s, learn handwritten digits. The student is trained twice: from labels alone, and
from labels, the teacher's logits (KD) and its feature maps (attention transfer).

    python scripts/examples/own_loop.py
    KD_DATA_DIR=data python scripts/examples/own_loop.py --epochs 1  # MNIST instead of 8x8 digits
"""

# %% Settings
import argparse
import os
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kd

TEMPERATURE = 4.0
KD_WEIGHT = 0.9  # of the teacher's logits; the labels have the rest
AT_WEIGHT = 100.0  # attention transfer is a mean over positions, so its values are small
BATCH_SIZE = 64

Split = tuple[Tensor, Tensor]  # images [N, 1, H, W], standardised; labels [N]


# %% Data: tensors in memory; any DataLoader that yields images and labels serves as well
def load_digits() -> tuple[Split, Split]:
    """1 200 and 597 of scikit-learn's 8x8 digits: (train, test)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images).float()[:, None]
    labels = torch.from_numpy(digits.target)
    images = (images - images.mean()) / images.std()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = order[:1200], order[1200:]
    return (images[train], labels[train]), (images[test], labels[test])


def load_mnist(folder: str) -> tuple[Split, Split]:
    """The first 5 000 training and 2 000 test images of MNIST: (train, test)."""
    from torchvision.datasets import MNIST

    splits = []
    for train, count in ((True, 5000), (False, 2000)):
        data = MNIST(folder, train=train)
        images = (data.data[:count, None].float() / 255 - 0.1307) / 0.3081
        splits.append((images, data.targets[:count]))
    return splits[0], splits[1]


# %% Nets: plain modules; `kd.Taps` reads their stages by module path
def make_net(channels: int) -> nn.Sequential:
    """Two stages of maps and a linear head: [B, 1, H, W] -> logits [B, 10]."""

    def stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())

    stages = stage(1, channels, 1), stage(channels, 2 * channels, 2)
    return nn.Sequential(
        *stages, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8 * channels, 10)
    )


TAPS = {"stage1": "0", "stage2": "1"}  # canonical name -> module path


# %% The loop
Loss = Callable[[Tensor, Tensor], Tensor]  # images, labels -> scalar


def fit(net: nn.Module, loss: Loss, data: Split, epochs: int) -> None:
    """Train a net with SGD and a one-cycle learning rate."""
    images, labels = data
    steps = epochs * (len(labels) // BATCH_SIZE)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
    net.train()
    for _ in range(epochs):
        order = torch.randperm(len(labels))
        for rows in order[: steps // epochs * BATCH_SIZE].split(BATCH_SIZE):
            optimizer.zero_grad()
            loss(images[rows], labels[rows]).backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def accuracy(net: nn.Module, data: Split) -> float:
    net.eval()
    images, labels = data
    return (net(images).argmax(1) == labels).float().mean().item()


def distillation_loss(student: nn.Module, teacher: nn.Module) -> Loss:
    """Labels, soft targets (arXiv:1503.02531) and attention transfer (arXiv:1612.03928)."""
    student_taps = kd.Taps(student, TAPS, ["stage2"])
    teacher_taps = kd.Taps(teacher.eval().requires_grad_(False), TAPS, ["stage2"])

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        ours, theirs = student_taps.outputs(images), teacher_taps.outputs(images)
        hard = F.cross_entropy(ours.logits, labels)
        soft = kd.losses.kd(ours.logits, theirs.logits, temperature=TEMPERATURE)
        attention = kd.losses.at([ours.taps["stage2"]], [theirs.taps["stage2"]])
        return (1 - KD_WEIGHT) * hard + KD_WEIGHT * soft + AT_WEIGHT * attention

    return loss


def labels_loss(net: nn.Module) -> Loss:
    return lambda images, labels: F.cross_entropy(net(images), labels)


# %% Teacher, student alone, student distilled: the two students start from the same weights
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Distil a student in a loop of one's own.")
    parser.add_argument("--epochs", type=int, help="of each net; default: 20, on MNIST 3")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    folder = os.environ.get("KD_DATA_DIR")
    train, test = load_mnist(folder) if folder else load_digits()
    epochs = options.epochs or (3 if folder else 20)

    torch.manual_seed(options.seed)
    teacher, alone, distilled = make_net(16), make_net(2), make_net(2)
    distilled.load_state_dict(alone.state_dict())
    fit(teacher, labels_loss(teacher), train, epochs)
    fit(alone, labels_loss(alone), train, epochs)
    fit(distilled, distillation_loss(distilled, teacher), train, epochs)
    name = "MNIST" if folder else "digits"
    print(f"data: {name}, {len(train[1])} training images, {epochs} epochs")
    for name, net in {"teacher": teacher, "student": alone, "distilled": distilled}.items():
        parameters = sum(parameter.numel() for parameter in net.parameters())
        print(f"{name:10} {parameters:6} parameters, test accuracy {accuracy(net, test):.4f}")


if __name__ == "__main__":
    main()
