"""Batch statistics taken anew: they are the batches' own, and nothing else changes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from spheregeo.grids import HEALPix
from spheregeo.nn import BatchNorm
from spheregeo.tasks import Classification
from spheregeo.tasks.training.precise_bn import PreciseBatchNorm, estimate_statistics


def make(**options: Any) -> Classification:
    torch.manual_seed(1)
    return Classification(1, 3, HEALPix(4), width=4, depth=2, options={"dropout": 0.5, **options})


def batches(count: int) -> list[dict[str, torch.Tensor]]:
    labels = torch.tensor([0, 1, 2, 0])
    return [{"image": torch.randn(4, 1, 192) + k, "label": labels} for k in range(count)]


def norms(task: Classification) -> list[Any]:
    return [m for m in task.modules() if isinstance(m, BatchNorm)]


def test_statistics_are_the_mean_over_the_batches() -> None:
    task, given = make(), batches(3)
    first = norms(task)[0]
    seen: list[torch.Tensor] = []
    with first.register_forward_hook(lambda module, x, y: seen.append(x[0].detach())) as _:
        estimate_statistics(task, given)
    means = torch.stack([x.mean((0, 2)) for x in seen]).mean(0)
    variances = torch.stack([x.transpose(0, 1).flatten(1).var(1) for x in seen]).mean(0)
    torch.testing.assert_close(first.running_mean, means)
    torch.testing.assert_close(first.running_var, variances)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_else_changes(training: bool) -> None:
    task = make().train(training)
    before = {k: v.clone() for k, v in task.state_dict().items()}
    momenta = [n.momentum for n in norms(task)]
    given, state = batches(2), torch.get_rng_state()
    estimate_statistics(task, given)
    assert torch.equal(state, torch.get_rng_state()), "dropout is off, so nothing is drawn"
    changed = {k for k, v in task.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and all("running" in k or "num_batches" in k for k in changed)
    assert [n.momentum for n in norms(task)] == momenta and all(
        m.training == training for m in task.modules()
    )
    assert all(p.grad is None for p in task.parameters())


def test_a_lagging_network_is_mended() -> None:
    task, (batch,) = make(), batches(1)
    norms(task)[-1].running_mean += 100.0
    task.train()
    task.network.head.layers[3].p = 0.0  # type: ignore[union-attr]
    expected = task(batch["image"])
    task.eval()
    assert (task(batch["image"]) - expected).abs().max() > 1
    estimate_statistics(task, [batch])
    # What is left is the variance's n against n - 1.
    assert (task(batch["image"]) - expected).abs().max() < 0.3


def test_the_callback_keeps_the_last_batches_and_acts_in_a_fit_only() -> None:
    task, given = make(), batches(4)
    callback = PreciseBatchNorm(2)
    callback.on_train_batch_end(None, task, None, given[0], 0)  # type: ignore[arg-type]
    callback.on_train_epoch_start(None, task)  # type: ignore[arg-type]
    assert not callback._batches, "a resumed run would not have had these"
    for k, batch in enumerate(given):
        callback.on_train_batch_end(None, task, None, batch, k)  # type: ignore[arg-type]
    other = make()
    estimate_statistics(other, given[2:])
    before = task.state_dict()["network.encoder.1.running_mean"].clone()
    callback.on_validation_epoch_start(SimpleNamespace(state=SimpleNamespace(fn="validate")), task)  # type: ignore[arg-type]
    assert torch.equal(before, task.state_dict()["network.encoder.1.running_mean"])
    callback.on_validation_epoch_start(SimpleNamespace(state=SimpleNamespace(fn="fit")), task)  # type: ignore[arg-type]
    for (name, value), expected in zip(task.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(value, expected, msg=name)
    with pytest.raises(ValueError, match="batches is 0"):
        PreciseBatchNorm(0)


def test_a_network_without_batch_norms_is_left_alone() -> None:
    task = make(norm="group")
    before = {k: v.clone() for k, v in task.state_dict().items()}
    estimate_statistics(task, batches(1))
    assert all(torch.equal(v, before[k]) for k, v in task.state_dict().items())
