"""Data-free distillation: a student taught on images that are generated from the teacher alone.

    rounds:  images of asked classes, by a few steps of Adam on a generator and its noise with the
             loss of `kd.objectives.datafree`; they join a bank of the latest images
    student: the method's terms, such as T² KL(t(x) ‖ s(x)), on batches drawn from the bank

Fang et al., "Up to 100× Faster Data-free Knowledge Distillation", AAAI 2022,
https://arxiv.org/abs/2112.12542 (Fast). A round starts from the common generator θ and ends with
θ'; then θ ← θ + common · (θ' − θ), the rule of Reptile (https://arxiv.org/abs/1803.02999).

Differences from the paper and its published code: the generator is told the class; θ follows
Reptile, where theirs takes a step of Adam along the gradients of all steps (first-order MAML) and
starts its first layer anew after 120 rounds; images are neither cropped nor flipped; the batch norm
statistics are those of the step, without a moving average over earlier rounds; the bank holds a
limited number of images, as bytes.

Of the training set the number of batches counts and nothing else: neither images nor labels reach
the generator or the student, and no statistic of them but mean and standard deviation of the
channels, which belong to the teacher's input. The validation set serves to select the epoch; the
figure `test/acc_last`, of the last epoch, is without that selection.
"""

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from kd.distillers.generated import GeneratedImages
from kd.distillers.offline import OfflineDistiller
from kd.distillers.pairing import Pairing
from kd.distillers.synthesis import Synthesis
from kd.errors import UserError
from kd.objectives.datafree import Inversion, batch_norms
from kd.teachers.base import Teacher
from kd.teachers.frozen import FrozenTeacher
from kd.types import Batch

_ROW, _ROWS = 10, 6  # images of the bank that TensorBoard shows


class DataFreeDistiller(OfflineDistiller):
    """A student and a generator of its images, both trained with a frozen teacher.

    Logs the terms of the generator as `train/generator/…`, and as `train/generator/acc` the share
    of the images that the teacher assigns to the class asked for. The bank of the selected epoch is
    saved as `bank.safetensors`: `images` [N, C, S, S], uint8, and `target` [N].

    Args:
        teacher: a single net with batch norms, live.
        every: batches of the student from one round to the next.
        initial: rounds before the student's first batch.
        bank: number of images that are kept.
        steps, count, noise, width, lr, noise_lr, common: see `Synthesis`.
        statistics: weight of the batch norm statistics.
        asked: weight of the cross-entropy with the asked class.
        adversarial: weight of the disagreement of teacher and student, which counts after the
            initial rounds.
        **options: as `OfflineDistiller`.

    Raises:
        ValueError: a setting is out of range, or the teacher is none that can be inverted.
    """

    tasks = ("image_classification",)
    two_views = ""
    runs_teacher = "its images are generated while the student trains"
    figures: ClassVar[Mapping[str, bool]] = {
        f"train/generator/{name}": name == "acc" for name in (*Inversion._fields, "acc")
    }
    one_device = "each device would have a generator and a bank of its own"

    def __init__(
        self,
        teacher: Teacher | None = None,
        every: int = 10,
        initial: int = 10,
        bank: int = 4096,
        steps: int = 10,
        count: int = 128,
        noise: int = 64,
        width: int = 32,
        lr: float = 0.002,
        noise_lr: float = 0.01,
        common: float = 1.0,
        statistics: float = 1.0,
        asked: float = 1.0,
        adversarial: float = 1.0,
        **options: Any,
    ) -> None:
        if not isinstance(teacher, FrozenTeacher):
            raise ValueError("data-free distillation needs a single teacher that runs live")
        self.check_teacher(teacher.net)
        super().__init__(teacher=teacher, **options)
        rounds = steps, count, noise, width, lr, noise_lr, common
        factors = statistics, asked, adversarial
        self.live = teacher
        self.generated = _generated(every, initial, bank, *rounds, *factors)

    @classmethod
    def check_teacher(cls, net: nn.Module) -> None:
        if not batch_norms(net):
            raise ValueError(
                "the teacher has no batch norm, whose statistics replace the training images; "
                "choose a teacher with batch norms, such as teacher=resnet20"
            )

    @classmethod
    def check_settings(cls, **settings: Any) -> None:
        parameters = inspect.signature(cls).parameters.values()
        own = [p for p in parameters if p.name not in ("teacher", "options")]
        _generated(*(settings.get(p.name, p.default) for p in own))

    def build_adapters(self, images: Tensor, targets: Tensor) -> dict[str, Pairing]:
        if self.normalisation is None:
            raise UserError(
                "mean and standard deviation of the images are unknown, so that generated images "
                "cannot be normalised; give data.mean and data.std"
            )
        self.generated.build(self.num_classes, images.shape[1:], self.normalisation)
        return super().build_adapters(images, targets)

    def parameter_groups(self) -> ParamsT:
        """Return the parameters of student and adapters: the generator has its own optimizer."""
        generator = {id(p) for p in self.generated.parameters()}
        return [p for p in self.parameters() if p.requires_grad and id(p) not in generator]

    def training_step(self, batch: Batch, batch_index: int) -> dict[str, Any]:
        """Generate images in every `every`-th batch; then train on images of the bank."""
        if self.generated.due:
            self._generate()
        return super().training_step(self.generated.draw(batch), batch_index)

    def _generate(self) -> None:
        was_training = self.student.training
        self.student.eval()
        for figures in self.generated.generate(self.live, self.student_taps.outputs):
            self._means.add(figures)
        self.student.train(was_training)

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        for logger in self.trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                shown = self.generated.bank.newest(_ROW * _ROWS)
                logger.experiment.add_images("bank", shown, self.trainer.global_step)

    def weights(self) -> dict[str, dict[str, Tensor]]:
        return super().weights() | {"bank": self.generated.bank.filled()}


def _generated(
    every: int,
    initial: int,
    bank: int,
    steps: int,
    count: int,
    noise: int,
    width: int,
    lr: float,
    noise_lr: float,
    common: float,
    *factors: float,
) -> GeneratedImages:
    """The images of a run, with the settings in the order of `DataFreeDistiller`."""
    synthesis = Synthesis(steps, count, noise, width, lr, noise_lr, common, factors)
    return GeneratedImages(synthesis, every, initial, bank)
