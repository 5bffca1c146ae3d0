"""Own nets and own DataLoaders under `kd.distil`: MNIST if it is available, else digits.

    KD_DATA_DIR=FOLDER python scripts/examples/own_nets.py

FOLDER holds MNIST as torchvision lays it out (FOLDER/MNIST/raw); without it, scikit-learn's 8 x 8
digits are used.
"""

# %%
import argparse
import os
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset, random_split

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # works uninstalled

import kd

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--epochs", type=int, default=4, help="of the teacher and of the student")
parser.add_argument("--images", type=int, default=8_000, help="training images that are used")
arguments = parser.parse_args()
torch.manual_seed(0)


# %% [markdown]
# Any two modules will do: the teacher is trained here, in a plain loop, without `kd`.


# %%
class ConvNet(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Linear(8 * width, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits


def mnist(root: str) -> tuple[TensorDataset, TensorDataset]:
    from torchvision.datasets import MNIST

    splits = [MNIST(root, train=train) for train in (True, False)]
    train, test = (TensorDataset(s.data[:, None].float() / 255, s.targets) for s in splits)
    return train, test


def digits() -> tuple[TensorDataset, TensorDataset]:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(found.target)
    return TensorDataset(images[:1500], labels[:1500]), TensorDataset(images[1500:], labels[1500:])


root = os.environ.get("KD_DATA_DIR", "")
pool, test = mnist(root) if root and (Path(root) / "MNIST").is_dir() else digits()
train, val = random_split(Subset(pool, range(min(arguments.images, len(pool)))), [0.9, 0.1])
loaders = (
    DataLoader(train, batch_size=64, shuffle=True),
    DataLoader(val, batch_size=256),
    DataLoader(test, batch_size=256),
)

# %%
teacher = ConvNet(width=16)
optimizer = torch.optim.Adam(teacher.parameters(), lr=2e-3)
for _ in range(arguments.epochs):
    for images, labels in loaders[0]:
        loss = nn.functional.cross_entropy(teacher(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

# %% [markdown]
# `kd.distil` freezes the teacher, trains the student in place and returns the figures of
# result.json. Methods on features read taps: canonical name -> module path, `:in` for an input.

# %%
with tempfile.TemporaryDirectory() as folder:
    result = kd.distil(
        student=ConvNet(width=4),
        teacher=teacher,
        data=loaders,
        method="dkd",
        optimizer="adam",
        lr=5e-3,
        max_epochs=arguments.epochs,
        accelerator="cpu",
        progress_bar=False,
        folder=folder,
    )
print(f"teacher {result['teacher/test/acc']:.4f}, student {result['test/acc']:.4f}")
print(f"{result['compression']:.1f} times fewer parameters")

# %% [markdown]
# The student is an nn.Module, here applied to the first batch of test images.

# %%
images, labels = next(iter(loaders[2]))
predicted = result.student(images).argmax(1)
print(f"first batch: {(predicted == labels).float().mean():.4f}")
