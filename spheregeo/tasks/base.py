"""What all tasks share: the loop over batches, AdamW or SOAP with warm-up and cosine decay (Loshchilov & Hutter 2017, arXiv
1608.03983 and 1711.05101), and checkpoints that say how the task was built.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
from torch import Tensor
from torchmetrics import MeanMetric

from spheregeo.data.record import describe_data
from spheregeo.nn.parallel import num_processes, sum_over_processes
from spheregeo.tasks.checks import Batch, check_loss
from spheregeo.tasks.files import check_weights, read_checkpoint, versions
from spheregeo.tasks.former import FormerNames
from spheregeo.tasks.losses import mean_over_processes
from spheregeo.tasks.optimizers import SOAP, matrix_blocks
from spheregeo.tasks.predict import PredictOptions
from spheregeo.tasks.predictions import sample_names

OPTIMIZERS = ("adamw", "soap")

# Settings without which a checkpoint's weights mean something else.
_BINDING = ("in_channels", "num_classes", "grid", "network", "width", "depth", "options", "targets", "units")


def plain(value: Any) -> Any:
    """Return a value as types that ``torch.load(..., weights_only=True)`` takes; grids and kernels as their ``repr``."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return repr(value)  # grids and kernels: their repr evaluates back


def learning_rate_factor(step: int, total: int, warmup: float) -> float:
    """Return the factor of the peak learning rate: a linear rise over the warm-up, then half a cosine down to 0.

    Args:
        step: number of the step, from 0 on.
        total: number of steps of the whole training.
        warmup: share of ``total`` over which the factor rises.

    Example:
        >>> [round(learning_rate_factor(step, 10, 0.2), 2) for step in (0, 1, 2, 6, 10)]
        [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    warm = max(1, round(warmup * total))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, total - warm))))


class Task(FormerNames, pl.LightningModule, ABC):
    """Base of the tasks: loop over batches, optimiser, checkpoints.

    A subclass makes ``network`` and defines :meth:`forward_batch`, :meth:`update_metrics`, :meth:`compute_metrics` and
    :meth:`report`. Where the command line should serve the task, the subclass also states ``artifacts`` and
    ``linked_from_data`` and defines :meth:`predict` and :meth:`audit`.

    Args:
        lr: peak learning rate.
        weight_decay: decay of the weights with more than one axis.
        warmup: share of all steps over which the learning rate rises.
        optimizer: "adamw", or "soap", which needs fewer steps where gradients of forces or of physics are trained.
        settings: the subclass's own arguments, which a checkpoint keeps; plain types, grids and kernels.

    Raises: ValueError for a warm-up outside 0 ... 1, an unknown optimiser, and in training when the loss is not finite.
    """

    monitor: str = "val/loss"
    mode: str = "min"
    # Files that a test of the task writes into the run's folder, besides those of every run.
    artifacts: ClassVar[tuple[str, ...]] = ()
    # Arguments of the constructor that the command line takes from attributes of the data module.
    linked_from_data: ClassVar[tuple[str, ...]] = ()
    network: torch.nn.Module

    def __init__(
        self, *, lr: float = 3e-3, weight_decay: float = 1e-2, warmup: float = 0.05, optimizer: str = "adamw",
        **settings: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup is {warmup}; it is the share of all steps, 0 <= warmup < 1")
        if optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer is {optimizer!r}; expected one of {', '.join(OPTIMIZERS)}")
        self.lr, self.weight_decay, self.warmup, self.optimizer = lr, weight_decay, warmup, optimizer
        self.mean_loss = MeanMetric()
        self.data_record: dict[str, Any] | None = None  # what checkpoints say of the data
        common = {"lr": lr, "weight_decay": weight_decay, "warmup": warmup, "optimizer": optimizer}
        self.save_hyperparameters(plain({**settings, **common}), logger=False)

    # ---- what every task defines

    @abstractmethod
    def forward_batch(self, batch: Batch) -> Batch:
        """Check a batch and put it through the network.

        Args:
            batch: entries by name, as the data module gives them.

        Returns ``loss`` (), ``truth``, and whatever :meth:`update_metrics` needs.
        """

    @abstractmethod
    def update_metrics(self, outputs: Batch) -> Batch:
        """Update the metrics with the output of :meth:`forward_batch`; returns what :meth:`examples` needs."""

    @abstractmethod
    def compute_metrics(self) -> dict[str, float]:
        """Return the scores of all batches since the last call, by name, and reset the metrics."""

    @abstractmethod
    def report(self) -> dict[str, Any]:
        """Return the scores of the last evaluation in detail, as plain types for a JSON file."""

    def summary(self) -> str:
        """Return the scores of the last evaluation as text for the screen, such as a table by class; empty for none."""
        return ""

    def unit_of(self, score: str) -> str:
        """Return the unit of a score for logs; empty where the score has none.

        Args:
            score: name as :meth:`compute_metrics` has it.
        """
        return ""

    def example_error(self, example: Any) -> float | None:
        """Return how far the prediction of an example is off, by which pictures choose; None where that is not known.

        Args:
            example: a sample as :meth:`examples` gives it.
        """
        return None

    def example_class(self, example: Any) -> int | None:
        """Return the class of an example, of which pictures show one each; None where examples have none.

        Args:
            example: a sample as :meth:`examples` gives it.
        """
        return None

    def examples(self, outputs: Batch) -> Iterable[Any]:
        """Split what :meth:`update_metrics` returned into samples, the first few of which :meth:`plot` is given."""
        return ()

    def plot(self, folder: Path, examples: Sequence[Any]) -> None:
        """Write the pictures and tables of a test into a folder.

        Args:
            folder: where to write.
            examples: a few samples as :meth:`examples` gives them, on the CPU.
        """

    # ---- what the command line asks for

    def predict(self, source: Path, output: Path, options: PredictOptions | None = None) -> None:
        """Predict a file, or all files of a folder, and write the answers; a subclass may leave the options out.

        Args:
            source: file or folder of inputs.
            output: folder of the answers.
            options: how files are predicted.

        Raises: ValueError for a file that cannot be read; in a folder, after all others are done.
        """
        raise ValueError(f"{type(self).__name__} predicts no files; call the task on batches instead")

    def audit(self) -> dict[str, Any]:
        """Measure the network's equivariance error, cost and memory; prints a table and returns the numbers."""
        raise ValueError(
            f"there is no audit of {type(self).__name__} yet; see spheregeo.audit for single layers"
        )

    def begin_from(self, stored: dict[str, Tensor]) -> None:
        """Take from the state of a checkpoint what the weights that a training starts from belong to; nothing unless overridden.

        Args:
            stored: tensors by name.
        """

    # ---- the loop

    def training_step(self, batch: Batch, index: int) -> Tensor:
        outputs = self.forward_batch(batch)
        loss = check_loss(outputs["loss"], self.lr)
        # The global batch's loss and size, alike in all processes: Lightning divides sums of sizes as whole numbers.
        size = len(outputs["truth"])
        if num_processes() > 1:
            size = int(sum_over_processes(torch.tensor(size, device=loss.device)))
        whole = mean_over_processes(loss)
        self.log(
            "train/loss", whole, on_step=False, on_epoch=True, prog_bar=True, batch_size=size, sync_dist=True
        )
        return loss

    def _evaluate(self, batch: Batch) -> Batch:
        outputs = self.forward_batch(batch)
        if not bool(torch.isfinite(outputs["loss"])):
            numbers = batch.get("index")
            known = numbers.tolist()[:8] if isinstance(numbers, Tensor) else []
            names = sample_names(self._trainer, known) or {}
            who = (
                f"a batch of the samples {', '.join(str(names.get(k, k)) for k in known)}"
                if known
                else "a batch"
            )
            raise ValueError(
                f"the loss of {who} is {float(outputs['loss'].detach())}, so there is no "
                "score; are the weights broken, or values of the data far from those of the training?"
            )
        # A process's loss is its part of the global batch's, times the number of processes.
        loss = mean_over_processes(outputs["loss"])
        self.mean_loss.update(loss, weight=len(outputs["truth"]))
        return self.update_metrics(outputs)

    def validation_step(self, batch: Batch, index: int) -> None:
        self._evaluate(batch)

    def test_step(self, batch: Batch, index: int) -> Batch:
        return self._evaluate(batch)

    def _log_scores(self, split: str) -> None:
        scores = {"loss": float(self.mean_loss.compute()), **self.compute_metrics()}
        # The metrics have summed over the processes already: all hold the same number.
        self.log_dict({f"{split}/{k}": v for k, v in scores.items()}, prog_bar=split == "val", sync_dist=True)
        self.mean_loss.reset()

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        self._log_scores("test")

    # ---- the optimiser

    def configure_optimizers(self) -> Any:
        # Norms and biases are not decayed: they are scales and offsets, not evidence of over-fitting.
        decayed = [p for p in self.parameters() if p.requires_grad and p.dim() > 1]
        others = [p for p in self.parameters() if p.requires_grad and p.dim() <= 1]
        groups = [
            {"params": decayed, "weight_decay": self.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        if self.optimizer == "soap":
            return SOAP(groups, lr=self.lr, blocks=matrix_blocks(self))
        return torch.optim.AdamW(groups, lr=self.lr)

    def learning_rate(self, step: int, total: int) -> float | None:
        """Return the learning rate of a step of a training of ``total`` steps; None where a scheduler of torch's sets it.

        Args:
            step: number of the step, from 0 on.
            total: number of steps of the whole training.
        """
        return self.lr * learning_rate_factor(step, total, self.warmup)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of this step: a function of the step alone, so that a resumed run has no state to lose.

        Not a scheduler of torch's: those need the number of steps before a resumed run knows its epoch, and asking
        Lightning for it then makes worker processes read ahead in the wrong epoch.
        """
        batches = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        epochs, steps = self.trainer.max_epochs or -1, self.trainer.max_steps
        total = batches * epochs if steps < 0 else steps if epochs < 0 else min(steps, batches * epochs)
        rate = self.learning_rate(self.trainer.global_step, total)
        if rate is None:
            return
        optimizers = self.optimizers(use_pl_optimizer=False)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            for group in optimizer.param_groups:  # type: ignore[union-attr]
                group["lr"] = rate

    # ---- checkpoints

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that a checkpoint to go on from holds this network on this grid. Raises: ValueError if not."""
        stored = checkpoint.get("hyper_parameters", {})
        for name in _BINDING:
            if name in stored and stored[name] != self.hparams.get(name):
                raise ValueError(
                    f"the checkpoint was written with {name} {stored[name]!r} but this run has {self.hparams.get(name)!r}; "
                    "resume with the settings it began with, or start a new run"
                )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record the task's name, the versions of the software, and the data where a trainer gives them."""
        checkpoint["task"], checkpoint["versions"] = type(self).__name__, versions()
        data = getattr(self._trainer, "datamodule", None)
        if data is not None:
            if self.data_record is None:  # once a run: folders may be large
                self.data_record = describe_data(data)
            checkpoint["data"] = self.data_record


def kinds() -> list[type[Task]]:
    """Return every class of tasks that has been defined so far, bases included."""
    found: list[type[Task]] = [Task]  # type: ignore[type-abstract]
    for kind in found:
        found += [below for below in kind.__subclasses__() if below not in found]
    return found


def _kind(name: Any) -> type[Task] | None:
    """Return the task of that name, of the package or of the user."""
    import spheregeo.tasks  # noqa: F401 - defines all tasks of the package

    return next((kind for kind in kinds() if kind.__name__ == name), None)


def load(path: str | Path, grid: Any = None, weights: bool = True) -> Task:
    """Return the task stored in a checkpoint, on the CPU, in evaluation mode.

    Args:
        path: checkpoint file.
        grid: another grid, or its repr, to which the task is moved; the stored one if None.
        weights: whether to load the weights; the task is as freshly made if False.

    Raises: FileNotFoundError without the file; ValueError for a foreign file, or a grid for a task that has none.
    """
    content = read_checkpoint(path)
    kind = _kind(content.get("task"))
    if kind is None or getattr(kind, "__abstractmethods__", None):
        raise ValueError(
            f"{path} was not written by a spheregeo task; expected one such as Segmentation or Classification, "
            f"got {content.get('task')!r}"
        )
    stored = content.get("hyper_parameters")
    if not isinstance(stored, dict):
        raise ValueError(f"{path} does not say how its {kind.__name__} was built{_written_by(content)}")
    known = {name for base in kind.__mro__ for name in inspect.signature(base).parameters}
    if unknown := sorted(set(stored) - known):
        raise _unfit(path, kind, content, f"it has settings that are not known here: {', '.join(unknown)}")
    arguments = {**stored, **({"grid": grid} if grid is not None else {})}
    if grid is not None and "grid" not in stored:
        raise ValueError(f"{path} holds a {kind.__name__}, which is bound to no grid; leave the grid out")
    if grid is not None and (arguments.get("options") or {}).get("levels"):
        raise ValueError(
            "the checkpoint's network has its own list of levels, so its grid cannot be replaced"
        )
    try:
        task = kind(**arguments)
    except Exception as error:
        if grid is not None and _builds(kind, stored):
            raise  # the checkpoint is sound: the other grid is the fault
        raise _unfit(path, kind, content, f"its settings are refused: {_text(error)}") from error
    if weights:
        fresh = task.state_dict()
        check_weights(content["state_dict"], path, fresh)
        try:
            missing, unexpected = task.load_state_dict(content["state_dict"], strict=False)
        except Exception as error:
            raise _unfit(path, kind, content, _text(error)) from error
        if missing or unexpected:
            raise _unfit(path, kind, content, f"missing {missing[:3]}, unexpected {unexpected[:3]}")
    return task.eval()


def _builds(kind: type[Task], arguments: dict[str, Any]) -> bool:
    try:
        kind(**arguments)
    except Exception:
        return False
    return True


def _text(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__} {text[:240]}" if isinstance(error, KeyError) else text[:240]


def _written_by(content: dict[str, Any]) -> str:
    """Return who wrote a checkpoint, as the end of a sentence."""
    stored = content.get("versions")
    there = stored.get("spheregeo") if isinstance(stored, dict) else None
    wrote = f"spheregeo {there}" if there else "a version of spheregeo that recorded none, or other software"
    return f" (written by {wrote}; this is {versions()['spheregeo']})"


def _unfit(path: str | Path, kind: type[Task], content: dict[str, Any], reason: str) -> ValueError:
    return ValueError(
        f"{path} does not fit its own description of a {kind.__name__}{_written_by(content)}: {reason}"
    )
