"""Training that starts from other weights: what fits is taken, what matches a pattern stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from spheregeo.tasks.base import Task
from spheregeo.tasks.files import check_weights, read_checkpoint
from spheregeo.tasks.training.precise_bn import norms


def take_weights(task: Task, path: str | Path) -> list[str]:
    """Copy the weights of a checkpoint into a task where name and shape agree; returns the names of parameters that stay new.

    Buffers are taken inside the network alone: those of the task, such as class weights, are what its own settings say.

    Args:
        task: the task to train.
        path: checkpoint of a task that may be another one, with other heads.

    Raises: FileNotFoundError without the file; ValueError where nothing agrees, or weights are not finite.
    """
    stored = read_checkpoint(path)["state_dict"]
    parameters = dict(task.named_parameters())
    wanted = {**parameters, **{n: b for n, b in task.state_dict().items() if n.startswith("network.")}}
    taken = {n: stored[n] for n, v in wanted.items() if n in stored and stored[n].shape == v.shape}
    if not set(taken) & set(parameters):
        raise ValueError(
            f"{path} holds no parameter of this network by name and shape; start from a run of the same network and width"
        )
    check_weights(taken, path, task.state_dict())
    task.load_state_dict(taken, strict=False)
    task.begin_from(stored)
    return [name for name in parameters if name not in taken]


def freeze(task: Task, patterns: Sequence[str]) -> list[str]:
    """Keep the parameters whose names match a pattern out of training; returns the names.

    Args:
        task: the task to train.
        patterns: names as ``task.named_parameters()`` has them, with ``*`` for any characters.

    Raises: ValueError for a pattern that matches nothing, and when nothing is left to train.
    """
    names = [name for name, _ in task.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"freeze is {pattern!r}, which matches no parameter; their names are such as {', '.join(names[:3])}"
            )
    frozen = [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
    if len(frozen) == len(names):
        raise ValueError(f"freeze is {list(patterns)}, which leaves nothing to train")
    for name, parameter in task.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    return frozen


class Frozen(Callback):
    """Lightning callback that keeps frozen parts as they are: their norms keep their running statistics, too.

    Args:
        patterns: as for :func:`freeze`.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = list(patterns)

    def still(self, task: nn.Module) -> list[nn.Module]:
        """Return the norms whose statistics match a pattern, or whose parameters are all frozen."""
        found: list[nn.Module] = []
        for name, module in task.named_modules():
            if module in norms(module):
                own = list(module.parameters(recurse=False))
                named = any(fnmatchcase(f"{name}.running_mean", pattern) for pattern in self.patterns)
                if named or (own and not any(p.requires_grad for p in own)):
                    found.append(module)
        return found

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for norm in self.still(pl_module):
            norm.eval()
            norm.frozen = True  # type: ignore[assignment]  # statistics are not estimated anew either
