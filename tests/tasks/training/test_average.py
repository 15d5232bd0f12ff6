"""The running mean of weights: by hand, and beside a training that must not notice it."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from spheregeo.data import SphericalGlyphsData
from spheregeo.grids import HEALPix
from spheregeo.tasks import Classification
from spheregeo.tasks.training.average import Average, exponential


def test_the_rule_by_hand() -> None:
    update = exponential(0.9)
    mean, value = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 2.0])
    torch.testing.assert_close(update(mean, value, 3), torch.tensor([1.1, 2.0]))
    index = torch.arange(1000)
    # 0.9 · 7 + 0.1 · 7 is a little less than 7, which would be stored as 6.
    assert torch.equal(update(index, index, 3), index)
    odd = torch.rand(1000)
    assert torch.equal(update(odd, odd, 3), odd)
    for decay in (-0.1, 1.0):
        with pytest.raises(ValueError, match="0 <= ema < 1"):
            Average(decay)


@pytest.mark.filterwarnings(
    "ignore:`isinstance.treespec, LeafSpec.`:FutureWarning"
)  # lightning on newer torch
def test_training_does_not_notice_it(tmp_path: Path) -> None:
    def train(*callbacks: pl.Callback) -> Classification:
        pl.seed_everything(0, verbose=False)
        data = SphericalGlyphsData("HEALPix(4)", train=24, val=8, test=8, batch_size=8)
        task = Classification(1, 8, HEALPix(4), width=4, depth=2, warmup=0.0)
        trainer = pl.Trainer(
            default_root_dir=tmp_path, max_epochs=2, accelerator="cpu", logger=False, callbacks=list(callbacks),
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        )  # fmt: skip
        trainer.fit(task, datamodule=data)
        task.loss = float(trainer.callback_metrics["train/loss"])
        return task

    fresh = Classification(1, 8, HEALPix(4), width=4, depth=2)
    plain, averaged = train(), train(Average(0.5))
    assert averaged.loss == plain.loss
    others = dict(fresh.named_buffers())
    for name, buffer in averaged.named_buffers():
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(buffer, others[name]), f"the geometry {name} has changed"
    # Lightning hands the mean over at the end of the fit.
    moved = [not torch.equal(p, q) for p, q in zip(plain.parameters(), averaged.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2
