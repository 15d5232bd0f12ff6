"""Schedules of a training on energies and forces: the learning rate, and weights of the loss that change once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from spheregeo.tasks.molecules.base import MoleculeTask

SCHEDULES = ("cosine", "plateau", "constant")


class ScheduledTask(MoleculeTask):
    """Base of tasks whose learning rate and whose loss follow a schedule that is chosen.

    Args:
        out_channels: numbers that the network gives per molecule.
        schedule: "cosine" after the warm-up, "plateau" multiplies the rate by ``plateau_factor`` where the validation's score
            has not become better for ``plateau_patience`` epochs, "constant" keeps the peak.
        plateau_factor: factor of the rate on a plateau.
        plateau_patience: epochs without a better score.
        amsgrad: AdamW with the maximum of past second moments (Reddi et al. 2018).
        swa_share: share of the epochs, at the end, that are the second phase of the training; 0 for one phase. The best
            checkpoint is then that of the second phase.
        swa_weights: weights of the loss in the second phase, by "energy", "forces" and "stress"; those of the first if not named.
        swa_lr: learning rate of the second phase; that of the schedule if None.
        common: as :class:`~spheregeo.tasks.molecules.base.MoleculeTask`.

    Raises: ValueError for an unknown schedule or label, a share outside [0, 1), or weights below 0.
    """

    phases: dict[str, float]  # weights of the loss in the first phase

    def __init__(
        self,
        out_channels: int,
        *,
        schedule: str = "cosine",
        plateau_factor: float = 0.8,
        plateau_patience: int = 10,
        amsgrad: bool = False,
        swa_share: float = 0.0,
        swa_weights: Mapping[str, float] | None = None,
        swa_lr: float | None = None,
        **common: Any,
    ) -> None:
        if schedule not in SCHEDULES:
            raise ValueError(f"schedule is {schedule!r}; expected one of {', '.join(SCHEDULES)}")
        if amsgrad and (other := common.get("optimizer", "adamw")) != "adamw":
            raise ValueError(f"amsgrad is set with the optimizer {other!r}; it is an option of adamw")
        if not (0 < plateau_factor < 1 and plateau_patience >= 0):
            raise ValueError(
                f"plateau_factor is {plateau_factor} and plateau_patience {plateau_patience}; expected a factor between 0 and 1 "
                "and 0 epochs or more"
            )
        if not 0 <= swa_share < 1:
            raise ValueError(
                f"swa_share is {swa_share}; it is a share of the epochs at the end, 0 <= swa_share < 1"
            )
        if swa_lr is not None and not swa_lr > 0:
            raise ValueError(f"swa_lr is {swa_lr}; expected a positive learning rate")
        for name, weight in (swa_weights or {}).items():
            if name not in ("energy", "forces", "stress") or not weight >= 0:
                raise ValueError(
                    f"swa_weights gives {name!r} the weight {weight}; expected 0 or more for energy, forces or stress"
                )
        if (swa_weights or swa_lr) and not swa_share:
            raise ValueError(
                "swa_weights or swa_lr is given but swa_share is 0; expected the share of the second phase, such as 0.25"
            )
        super().__init__(
            out_channels, schedule=schedule, plateau_factor=plateau_factor, plateau_patience=plateau_patience, amsgrad=amsgrad,
            swa_share=swa_share, swa_weights=None if swa_weights is None else dict(swa_weights), swa_lr=swa_lr, **common,
        )  # fmt: skip
        self.schedule, self.plateau_factor, self.plateau_patience = schedule, plateau_factor, plateau_patience
        self.amsgrad, self.swa_share, self.swa_lr = amsgrad, swa_share, swa_lr
        self.swa_weights = dict(swa_weights or {})

    # ---- phases

    @property
    def second_begins(self) -> int | None:
        """The epoch with which the second phase begins; None without one. Raises: ValueError without a number of epochs."""
        if not self.swa_share:
            return None
        epochs = self.trainer.max_epochs or -1
        if epochs < 1:
            raise ValueError(
                f"swa_share is {self.swa_share}, a share of the epochs, but trainer.max_epochs is not given"
            )
        return min(epochs - 1, math.ceil((1 - self.swa_share) * epochs))

    @property
    def in_second_phase(self) -> bool:
        """Whether a training has reached its second phase."""
        if not self.swa_share or self._trainer is None or self.trainer.state.fn != "fit":
            return False
        begins = self.second_begins
        return begins is not None and self.trainer.current_epoch >= begins

    def weights_of_loss(self) -> dict[str, float]:
        """Return the weights of energy, forces and stress in the loss, as they are now."""
        return {**self.phases, **(self.swa_weights if self.in_second_phase else {})}

    def on_train_epoch_start(self) -> None:
        """Forget the first phase's best where the second begins: only its own epochs compete for the best checkpoint."""
        super().on_train_epoch_start()
        if self.second_begins is None or self.trainer.current_epoch != self.second_begins:
            return
        weights = ", ".join(f"{name} {weight:g}" for name, weight in self.weights_of_loss().items())
        self.tell(f"the second phase begins: weights of the loss {weights}")
        for callback in getattr(self.trainer, "callbacks", []):
            if getattr(callback, "best_k_models", None):
                callback.best_k_models, callback.kth_value = {}, None  # type: ignore[attr-defined]
                callback.best_model_score = None  # type: ignore[attr-defined]
                callback.kth_best_model_path = ""  # type: ignore[attr-defined]
            if hasattr(callback, "wait_count") and hasattr(callback, "best_score"):
                callback.wait_count = 0
                callback.best_score = torch.full_like(
                    torch.as_tensor(callback.best_score), torch.inf if self.mode == "min" else -torch.inf
                )

    # ---- the optimiser

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        if self.amsgrad:
            for group in optimizer.param_groups:
                group["amsgrad"] = True
        if self.schedule != "plateau":
            return optimizer
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer,
            mode="max" if self.mode == "max" else "min",
            factor=self.plateau_factor,
            patience=self.plateau_patience,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "monitor": self.monitor, "interval": "epoch"},
        }

    def learning_rate(self, step: int, total: int) -> float | None:
        if self.swa_lr is not None and self.in_second_phase:
            return self.swa_lr
        if self.schedule == "cosine":
            return super().learning_rate(step, total)
        warm = max(1, round(self.warmup * total))
        if step < warm:
            return self.lr * (step + 1) / warm
        return None if self.schedule == "plateau" else self.lr
