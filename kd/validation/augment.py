"""Check of the augmentation: some mix images, and with them their labels."""

from collections.abc import Iterator

from omegaconf import DictConfig, OmegaConf

from kd.config.targets import resolve_target


def mixing_problems(cfg: DictConfig, place: str) -> Iterator[str]:
    """Find an augmentation that mixes labels, for a part that reads them as class indices.

    Args:
        cfg: the run's config.
        place: names the part.
    """
    augment = OmegaConf.select(cfg, "data.augment._target_")
    if augment and resolve_target(augment).mixes:
        name = augment.rpartition(".")[2]
        yield (
            f"data/augment: {name} mixes labels, and {place} reads them; leave data/augment out, "
            "or choose data/augment=rand_augment"
        )
