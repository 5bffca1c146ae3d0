"""Test set held out of a training pool that has none of its own."""

from typing import Any

from kd.data.splits import stratified_split
from kd.errors import UserError


def hold_out_test(
    fields: dict[str, Any], paths: dict[str, list[str]], fraction: float, seed: int
) -> dict[str, Any]:
    """Move a part of each class from the training pool to the test set.

    Args:
        fields: `train_inputs` [N, …] and `train_targets` int64 [N].
        paths: name of each sample by split; changed as the samples are.
        fraction: of each class.
        seed: of the draw.

    Returns:
        The inputs and targets of both splits.

    Raises:
        UserError: no sample is held out.
    """
    inputs, targets = fields["train_inputs"], fields["train_targets"]
    rows = dict(zip(("train", "test"), stratified_split(targets, fraction, seed), strict=True))
    if not len(rows["test"]):
        raise UserError(
            f"data.test_fraction={fraction:g} holds out none of {len(targets)} samples: no class "
            "has enough of them for one; raise it, or add a test folder"
        )
    pool = paths["train"]
    for split, chosen in rows.items():
        paths[split] = [pool[row] for row in chosen.tolist()]
    return {
        f"{split}_{name}": values[chosen]
        for split, chosen in rows.items()
        for name, values in {"inputs": inputs, "targets": targets}.items()
    }
