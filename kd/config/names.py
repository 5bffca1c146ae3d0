"""Names of settings: the nearest to a misspelt key, and those of other programs."""

from collections.abc import Iterator, Mapping
from typing import Any

from kd.errors import closest

# Settings as other training programs call them; the first word of a value is what is typed here.
_ALIASES = {
    "optimizer.lr": "lr learning_rate learningrate base_lr eta",
    "optimizer.momentum": "momentum mom",
    "optimizer.weight_decay": "wd weight_decay decay l2",
    "trainer.max_epochs": "epoch epochs num_epochs n_epochs max_epochs max_epoch nepochs",
    "trainer.precision": "precision amp fp16 bf16 half mixed_precision",
    "trainer.gradient_clip_val": "clip grad_clip gradient_clip clip_grad max_grad_norm",
    "data.batch_size": "bs batch batch_size batchsize train_batch_size",
    "data.root": "data_dir data_root dataset_dir dataset_path data_path root",
    "data.val_fraction": "val_split validation_split val_fraction",
    "method.temperature": "t temp temperature tau kd_t kd_temperature",
    "method.alpha": "alpha lambda kd_alpha kd_weight distill_weight",
    "scheduler.warmup": "warmup warmup_epochs warm_up",
    "seed": "random_seed rng_seed manual_seed random_state",
    "paths.output": "out output output_dir outdir save_dir log_dir workdir exp_dir",
    "teacher.checkpoint": "ckpt teacher_ckpt teacher_path teacher_checkpoint teacher_weights",
    "student.checkpoint": "pretrained init_checkpoint student_ckpt student_checkpoint",
    "resume": "resume_from resume_from_checkpoint ckpt_path continue",
    "compile": "torch_compile jit",
    "search.trials": "n_trials trials num_trials",
    "trainer=gpu": "gpu gpus cuda",
    "trainer=cpu": "cpu",
    "trainer.accelerator": "device accelerator",
    "trainer.devices": "devices num_devices num_gpus n_gpu",
    "data=…": "dataset datasets data_set data_name",
    "student=…": "model arch net network student_model model_s",
    "teacher=…": "teacher_model teacher_arch model_t",
    "method=…": "distiller distill loss criterion algorithm algo kd_method",
    "optimizer=…": "optim opt",
    "scheduler=…": "sched lr_scheduler lr_schedule",
    "data/view=…": "view transform transforms",
    "data/augment=…": "augment augmentation aug mixup cutmix",
    "logger=…": "log tracker tb tensorboard",
    "trainer=…": "hardware",
}
_FAMILIAR = {name: place for place, names in _ALIASES.items() for name in names.split()}


def key_paths(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield every key path of plain content, without Hydra's own part.

    Example:
        >>> list(key_paths({"a": {"b": 1}, "hydra": {"c": 2}}))
        ['a', 'a.b']
    """
    if isinstance(node, Mapping):
        for key, child in node.items():
            if key != "hydra" or prefix:
                yield f"{prefix}{key}"
                yield from key_paths(child, f"{prefix}{key}.")


def meant_settings(key: str, paths: list[str], siblings: list[str] | None) -> list[str]:
    """Return the settings that an unknown key may stand for, the likeliest first.

    Args:
        key: a dotted key that does not exist.
        paths: all dotted keys that exist.
        siblings: the keys beside it; None where there is nothing at its place.

    Example:
        >>> meant_settings("trainer.max_epoch", ["trainer.max_epochs"], ["max_epochs"])
        ['trainer.max_epochs']
        >>> meant_settings("batch_size", ["data.batch_size", "seed"], ["data", "seed"])
        ['data.batch_size']
    """
    place, dot, name = key.rpartition(".")
    found = []
    familiar = _FAMILIAR.get(name.lower().replace("-", "_"))
    if familiar is not None and ("=" in familiar or familiar in paths):
        found.append(familiar)
    if not found and (sibling := closest(name, siblings or ())) is not None:
        found.append(f"{place}{dot}{sibling}")
    elsewhere = [path for path in paths if path.rpartition(".")[2] == name]
    # Those of a teacher's own training are rarely meant.
    found += [path for path in elsewhere if "training" not in path]
    if not found:
        found += elsewhere or filter(None, [closest(key, paths) if siblings is None else None])
    return list(dict.fromkeys(found))[:4]
