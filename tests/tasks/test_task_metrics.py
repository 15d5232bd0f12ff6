"""Scores against twins written in plain numpy loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from spheregeo.grids import Equiangular
from spheregeo.tasks import ConfusionMatrix, DepthScores, class_iou, class_recall, segmentation_scores
from spheregeo.tasks.metrics import class_table, mean_auc


def brute_force(
    prediction: np.ndarray, truth: np.ndarray, areas: np.ndarray, classes: int
) -> dict[str, float]:
    ious, recalls, hit, total = [], [], 0.0, 0.0
    for c in range(classes):
        both = either = mine = 0.0
        for index in np.ndindex(*truth.shape):
            t, y, a = truth[index], prediction[index], areas[index[1:]]
            if t == 255:
                continue
            both += a * (t == c and y == c)
            either += a * (t == c or y == c)
            mine += a * (t == c)
        hit, total = hit + both, total + mine
        if mine > 0:
            ious.append(both / either)
            recalls.append(both / mine)
    return {"miou": float(np.mean(ious)), "macc": float(np.mean(recalls)), "accuracy": hit / total}


def test_segmentation_scores_equal_the_loop() -> None:
    grid = Equiangular(6, 12)
    areas = grid.areas.reshape(grid.shape)
    truth = torch.randint(0, 4, (3, 6, 12))
    truth[torch.rand(truth.shape) < 0.1] = 255
    prediction = torch.randint(
        0, 5, (3, 6, 12)
    )  # class 4 is predicted but never true: it is no class "present"
    metric = ConfusionMatrix(5)
    for t, y in zip(truth, prediction, strict=True):  # in pieces: the scores are of the whole set
        metric.update(y[None], t[None], areas)
    scores = segmentation_scores(metric.compute())
    expected = brute_force(prediction.numpy(), truth.numpy(), areas.numpy(), 5)
    assert scores == pytest.approx(expected, abs=1e-12)


def test_areas_matter() -> None:
    grid = Equiangular(8, 16)
    areas = grid.areas.reshape(grid.shape)
    truth = torch.zeros(1, 8, 16, dtype=torch.long)
    truth[:, 4:] = 1
    poles_wrong, equator_wrong = truth.clone(), truth.clone()
    poles_wrong[:, 0] = 1
    equator_wrong[:, 3] = 1
    values = []
    for prediction in (poles_wrong, equator_wrong):
        metric = ConfusionMatrix(2)
        metric.update(prediction, truth, areas)
        values.append(segmentation_scores(metric.compute())["accuracy"])
    share = float(areas[3].sum() / areas.sum())
    assert values[1] == pytest.approx(1 - share)
    assert values[0] > values[1] + 0.1


def test_perfect_and_absent_classes() -> None:
    matrix = torch.diag(torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64))
    assert segmentation_scores(matrix) == {"miou": 1.0, "macc": 1.0, "accuracy": 1.0}
    assert math.isnan(class_iou(matrix)[1]) and math.isnan(class_recall(matrix)[1])
    with pytest.raises(ValueError, match="no labelled area"):
        segmentation_scores(torch.zeros(3, 3, dtype=torch.float64))


def test_two_processes_sum_their_matrices() -> None:
    # What torchmetrics does between processes: gather the states and apply dist_reduce_fx.
    grid = Equiangular(4, 8)
    areas = grid.areas.reshape(grid.shape)
    truth, prediction = torch.randint(0, 3, (4, 4, 8)), torch.randint(0, 3, (4, 4, 8))
    whole, parts = ConfusionMatrix(3), [ConfusionMatrix(3), ConfusionMatrix(3)]
    whole.update(prediction, truth, areas)
    for rank, part in enumerate(parts):
        part.update(prediction[rank::2], truth[rank::2], areas)
    reduce = parts[0]._reductions["matrix"]
    torch.testing.assert_close(reduce(torch.stack([p.matrix for p in parts])), whole.matrix)


def test_depth_scores_equal_the_loop() -> None:
    grid = Equiangular(5, 10)
    areas = grid.areas.reshape(grid.shape)
    truth = torch.rand(2, 5, 10) * 5 + 0.1
    prediction = truth * torch.empty_like(truth).uniform_(0.5, 2.0)
    valid = torch.rand(truth.shape) > 0.2
    metric = DepthScores()
    metric.update(prediction, truth, valid, areas)
    sums, total = np.zeros(6), 0.0
    for i in np.ndindex(*truth.shape):
        if not valid[i]:
            continue
        y, t, a = float(prediction[i]), float(truth[i]), float(areas[i[1:]])
        ratio = max(y / t, t / y)
        sums += a * np.array(
            [
                abs(y - t) / t,
                (y - t) ** 2,
                math.log(y / t) ** 2,
                ratio < 1.25,
                ratio < 1.25**2,
                ratio < 1.25**3,
            ]
        )
        total += a
    sums /= total
    sums[1:3] **= 0.5
    assert list(metric.compute().values()) == pytest.approx(sums.tolist(), rel=1e-6)
    nothing = DepthScores()
    nothing.update(prediction, truth, torch.zeros_like(valid), areas)
    with pytest.raises(ValueError, match="no valid depth"):
        nothing.compute()


def test_the_table_of_classes_has_means_over_what_is_there() -> None:
    columns = {"IoU": torch.tensor([0.5, torch.nan, 1.0]), "frequency": torch.tensor([0.9, 0.0, 0.1])}
    head, wall, door, floor, mean, total = class_table(
        ["wall", "door", "floor"], columns, {"accuracy": 0.8}
    ).splitlines()
    assert head.split() == ["class", "IoU", "frequency"] and wall.split() == ["wall", "0.500", "0.900"]
    assert door.split() == ["door", "-", "0.000"] and floor.split() == ["floor", "1.000", "0.100"]
    assert mean.split()[-1] == "0.750" and total == "accuracy 0.800 over all"
    assert len({line.rfind("0") for line in (wall, floor)}) == 1, "columns are aligned"


def test_auc_is_the_share_of_pairs_in_order() -> None:
    truth, probability = torch.tensor([0, 2, 2, 0, 2, 0]), torch.rand(6, 4).softmax(1)
    shares = []
    for k in (0, 2):  # classes 1 and 3 have no samples
        own, rest = probability[truth == k, k], probability[truth != k, k]
        shares.append(sum(float(a > b) for a in own for b in rest) / (len(own) * len(rest)))
    assert mean_auc(truth, probability) == pytest.approx(sum(shares) / 2, abs=1e-6)
    assert math.isnan(mean_auc(truth[:1], probability[:1]))
