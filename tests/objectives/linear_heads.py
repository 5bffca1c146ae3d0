"""Contract of objectives that read the linear classifiers of both nets after average pooling."""

from typing import ClassVar

import torch
from contract import Contract
from torch import nn

from kd.objectives.setting import Setting
from kd.types import Outputs


class LinearHeads(Contract):
    taps: ClassVar = {"stage3": (4, 4, 4)}
    student_width = 4  # of the student's classifier

    def setting(self, classes):
        torch.manual_seed(5)
        self.teacher_head = nn.Linear(self._teacher_shapes["stage3"][0], classes)
        self.student_head = self.teacher_head
        if self.teacher_taps or self.student_width != 4:
            self.student_head = nn.Linear(self.student_width, classes)
        targets = torch.arange(self.pool) % classes
        return Setting(classes, targets, self.student_head, self.teacher_head)

    def outputs(self, shapes, batch, classes, scale=1.0):
        outputs = super().outputs(shapes, batch, classes, scale)
        pooled = outputs.taps["stage3"].mean((2, 3))
        if pooled.shape[1] != self.teacher_head.in_features:
            return outputs
        return Outputs(self.teacher_head(pooled).detach(), outputs.taps)
