"""The effect of contrastive distillation: the student's embedding identifies the teacher's."""

import math

import pytest
import torch
import torch.nn.functional as F
from support import Tapped, noisy_digits
