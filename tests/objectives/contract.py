"""What holds for every objective: one tester, which the test of each objective subclasses."""

from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import pytest
import torch
from conftest import make_batch
from support import gradient
from torch import Tensor, nn

from kd.data.loader import UNLABELLED
from kd.objectives.base import Objective
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

Shapes = dict[str, tuple[int, ...]]


class Answer(NamedTuple):
    """A outputs as float64 arrays, for references that are written without torch."""

    logits: np.ndarray
    taps: dict[str, np.ndarray]


class Contract:
    """Subclass it as `TestX`, say how the objective is made, and write its formula again.

    The reference is written from the paper in NumPy float64 or plain loops; it neither calls nor
    copies the implementation, and may read an adapter's parameters from the objective it is given.
    """

    # Shapes without the batch. The student's taps, and the teacher's where they differ.
    taps: ClassVar[Shapes] = {}
    teacher_taps: ClassVar[Shapes | None] = None
    batch: ClassVar[int] = 6
    classes: ClassVar[int] = 5
    pool: ClassVar[int] = 40  # samples in the training pool
    relative: ClassVar[float] = 1e-5  # how closely the value must agree
    # The value where the student answers exactly as the teacher; None: the formula says nothing.
    at_teacher: ClassVar[float | None] = 0.0
    batch_order_matters: ClassVar[bool] = False
    # Part of the message with which a single image or two classes are refused; None: they work.
    refuses_one_image: ClassVar[str | None] = None
    refuses_two_classes: ClassVar[str | None] = None
    compiles: ClassVar[bool] = True

    def make(self) -> Objective:
        raise NotImplementedError

    def reference(
        self, student: Answer, teacher: Answer, target: np.ndarray, objective: Objective
    ) -> float:
        raise NotImplementedError

    def setting(self, classes: int) -> Setting:
        """Labels in turn, and linear heads on a tap `embedding` where there is one."""
        student, teacher = (
            nn.Linear(shapes["embedding"][0], classes) if "embedding" in shapes else None
            for shapes in (self.taps, self._teacher_shapes)
        )
        return Setting(classes, torch.arange(self.pool) % classes, student, teacher)

    @property
    def _teacher_shapes(self) -> Shapes:
        return self.taps if self.teacher_taps is None else self.teacher_taps

    def outputs(self, shapes: Shapes, batch: int, classes: int, scale: float = 1.0) -> Outputs:
        taps = {name: scale * torch.randn(batch, *shape) for name, shape in shapes.items()}
        return Outputs(2 * scale * torch.randn(batch, classes), taps)

    def case(self, batch: int | None = None, classes: int | None = None, scale: float = 1.0):
        """An objective with its adapters, two all_outputs and a batch, drawn from a fixed seed."""
        batch, classes = batch or self.batch, classes or self.classes
        torch.manual_seed(0)
        setting = self.setting(classes)
        student = self.outputs(self.taps, batch, classes, scale)
        teacher = self.outputs(self._teacher_shapes, batch, classes, scale)
        objective = self.make()
        objective.build(student, teacher, setting)
        index = torch.randperm(self.pool)[:batch]
        return (
            objective,
            student,
            teacher,
            make_batch(setting.targets[index], index),
        )

    def value(
        self, objective: Objective, student: Outputs, teacher: Outputs, batch: Batch
    ) -> Tensor:
        """The term, from the same random numbers whenever it draws any."""
        torch.manual_seed(1)
        return objective(student, teacher, batch)

    def test_value_is_the_papers(self):
        objective, student, teacher, batch = self.case()
        value = self.value(objective, student, teacher, batch)
        assert value.dim() == 0
        ours, theirs = (
            Answer(t.logits.double().numpy(), {k: v.double().numpy() for k, v in t.taps.items()})
            for t in (student, teacher)
        )
        expected = self.reference(ours, theirs, batch.target.numpy(), objective)
        assert value.item() == pytest.approx(expected, rel=self.relative)

    def test_student_equal_to_teacher(self):
        if self.at_teacher is None or self.teacher_taps is not None:
            return  # the formula has no such minimum, or the shapes differ
        objective, _, teacher, batch = self.case()
        value = self.value(objective, teacher, teacher, batch)
        assert value.item() == pytest.approx(self.at_teacher, abs=2e-5)

    def test_a_mode_set_module_by_module_is_that_of_train(self):
        """Lightning restores the modes so after a validation, without a call of `train`."""
        objective, *given = self.case()
        expected = self.value(objective.train(), *given)
        objective, *given = self.case()  # a memory has changed
        modes = {module: module.training for module in objective.train().modules()}
        objective.eval()
        for module, mode in modes.items():
            module.training = mode
        torch.testing.assert_close(self.value(objective, *given), expected)

    def test_batch_order(self):
        objective, student, teacher, batch = self.case()
        before = self.value(objective, student, teacher, batch)
        order = torch.randperm(len(batch.target))
        after = self.value(
            objective,
            reorder(student, order),
            reorder(teacher, order),
            make_batch(batch.target[order], batch.index[order]),
        )
        if not self.batch_order_matters:
            torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-6)

    def test_gradients_reach_student_and_adapters_and_never_the_teacher(self):
        objective, student, teacher, batch = self.case()
        student, teacher = as_leaves(student, True), as_leaves(teacher, False)
        self.value(objective, student, teacher, batch).backward()
        read = {name: student.taps[name] for name in objective.student_taps}
        if not read:
            read["logits"] = student.logits
        for name, tensor in read.items():
            assert tensor.grad is not None, f"no gradient at {name}"
            assert tensor.grad.abs().sum() > 0, f"zero gradient at {name}"
        for name, parameter in objective.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, f"no gradient at {name}"
                assert parameter.grad.isfinite().all(), name
        assert all(t.grad is None for t in (teacher.logits, *teacher.taps.values()))

    def test_a_teacher_of_which_parts_train(self):
        objective, student, teacher, batch = self.case()
        student = as_leaves(student, True)
        expected = self.value(objective, student, teacher, batch)
        objective = self.case()[0]
        for step in range(2):  # a memory with the graph of the first step would fail in the second
            theirs = as_leaves(teacher, True)
            loss = self.value(objective, student, theirs, batch)
            assert step or loss.equal(expected)
            loss.backward()
            for tensor in (theirs.logits, *theirs.taps.values()):
                assert tensor.grad is None or tensor.grad.isfinite().all()

    def test_labels_are_read_by_terms_that_say_so_alone(self):
        objective, student, teacher, batch = self.case()
        if objective.reads_labels:
            return
        expected = self.value(objective, student, teacher, batch)
        labelled, blind = self.setting, type(self)()

        def setting(classes: int) -> Setting:
            found = labelled(classes)
            return found._replace(targets=torch.full_like(found.targets, UNLABELLED))

        vars(blind).update(vars(self), setting=setting)
        objective = blind.case()[0]
        batch = batch._replace(target=torch.full_like(batch.target, UNLABELLED))
        assert self.value(objective, student, teacher, batch).equal(expected)

    def test_logits_of_the_teacher_are_read_by_terms_that_say_so_alone(self):
        objective, student, teacher, batch = self.case()
        if objective.compares_classes:
            return
        other = teacher._replace(logits=torch.full((len(batch.target), 9), torch.nan))
        expected = self.value(objective, student, teacher, batch)
        assert self.value(self.case()[0], student, other, batch).equal(expected)

    def test_the_loss_falls_under_its_own_gradient(self):
        objective, student, teacher, batch = self.case()
        student = as_leaves(student, True)
        before = self.value(objective, student, teacher, batch)
        before.backward()
        leaves = [student.logits, *student.taps.values()]
        leaves = [t for t in leaves if t.grad is not None]
        norm = torch.stack([gradient(t).square().sum() for t in leaves]).sum().sqrt()
        steps = (0.3, 0.03, 0.003)
        after = []
        for length in steps:
            moved = {id(t): (t - length * gradient(t) / norm).detach() for t in leaves}
            outputs = Outputs(
                moved.get(id(student.logits), student.logits),
                {k: moved.get(id(v), v) for k, v in student.taps.items()},
            )
            after.append(self.value(objective, outputs, teacher, batch).item())
        assert min(after) < before.item()

    @pytest.mark.parametrize("scale", [1.0, 50.0], ids=["normal", "large"])
    def test_parts_by_class_sum_to_the_term(self, scale):
        objective, student, teacher, batch = self.case()
        if not objective.by_class or objective.learns_labels:
            return
        student, teacher = as_leaves(scaled(student, scale), True), scaled(teacher, scale)
        term = self.value(objective, student, teacher, batch)
        label, others = objective.class_terms(student, teacher, batch, share=1.0)
        torch.testing.assert_close(label + others, term, rtol=1e-4, atol=1e-5)
        slopes = [torch.autograd.grad(x, student.logits)[0] for x in (label + others, term)]
        torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-5)
        _, shown = objective.class_terms(student, teacher, batch, share=0.5)
        assert shown.isfinite()

    @pytest.mark.parametrize("scale", [0.0, 1.0, 50.0], ids=["constant", "normal", "large"])
    @pytest.mark.parametrize(("batch", "classes"), [(6, 5), (6, 2), (1, 5), (1, 2)])
    def test_finite_under_bfloat16(self, batch, classes, scale):
        """Zero taps and equal logits; usual ones; logits of ±50 and taps as large."""
        refusal = self.refuses_one_image if batch == 1 else None
        refusal = refusal or (self.refuses_two_classes if classes == 2 else None)
        if refusal:
            with pytest.raises(ValueError, match=refusal):
                self.value(*self.case(batch, classes, scale))
            return
        objective, student, teacher, given = self.case(batch, classes, scale)
        if scale == 50:
            student, teacher = (Outputs(50 * t.logits.sign(), t.taps) for t in (student, teacher))
        student = as_leaves(student, True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = self.value(objective, student, teacher, given)
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        loss.backward()
        for tensor in (student.logits, *student.taps.values(), *objective.parameters()):
            assert tensor.grad is None or tensor.grad.isfinite().all()

    def test_compiles_without_graph_breaks(self):
        if not self.compiles:
            return
        torch._dynamo.reset()  # or the limit of recompilations counts across all objectives
        objective, student, teacher, batch = self.case()
        compiled = cast(Objective, torch.compile(objective, fullgraph=True, backend="eager"))
        torch.testing.assert_close(
            self.value(compiled, student, teacher, batch),
            self.value(self.case()[0], student, teacher, batch),
        )


def altered(contract: type[Contract], **changes: Any) -> Contract:
    """An instance of `contract` with other `taps`, `teacher_taps` or `make`."""
    instance = contract()
    vars(instance).update(changes)
    return instance


def scaled(outputs: Outputs, scale: float) -> Outputs:
    return Outputs(scale * outputs.logits, outputs.taps)


def reorder(outputs: Outputs, order: Tensor) -> Outputs:
    return Outputs(outputs.logits[order], {name: tap[order] for name, tap in outputs.taps.items()})


def as_leaves(outputs: Outputs, grad: bool) -> Outputs:
    """The same values as leaves that do or do not ask for gradients."""
    taps = {name: tap.detach().clone().requires_grad_(grad) for name, tap in outputs.taps.items()}
    return Outputs(outputs.logits.detach().clone().requires_grad_(grad), taps)
