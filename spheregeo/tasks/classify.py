"""Files in, a class for each out: a table, and a picture of the first ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.tasks.predict import Job, PredictOptions, Written, predict_files
from spheregeo.tasks.predictions import class_columns, class_line, class_row

SHOWN = 12
PICTURE = "predictions.png"
Array = np.ndarray[Any, Any]


@torch.inference_mode()
def classify_files(
    kind: tuple[Sequence[str], str, str],
    prepared: Callable[[Path], list[Tensor]],
    classify: Callable[[list[Tensor], list[str]], Tensor],
    picture: Callable[[Path, Sequence[Array], Sequence[str]], Path],
    caption: str,
    source: Path,
    output: Path,
    class_names: Sequence[str],
    options: PredictOptions | None = None,
) -> None:
    """Classify a file or a folder of files: predictions.csv and predictions.png.

    Args:
        kind: endings of the files, what one is called, and what several are called.
        prepared: function of a file that returns what the network takes.
        classify: function of samples and their names that returns the probability of each class, (B, num_classes).
        picture: function of a path, samples and titles that draws the samples and returns the path.
        caption: title of a sample, with ``{name}`` and ``{line}``.
        source: file or folder of files.
        output: folder of the answers.
        class_names: one name per class.
        options: how files are predicted.

    Raises: FileNotFoundError without files; ValueError for bad ones, after the others are done.
    """
    shown: list[tuple[Array, str]] = []

    def write(path: Path, stem: Path, samples: dict[int, Tensor], answers: list[Tensor]) -> Written:
        line = class_line(answers[0], class_names)
        if len(shown) < SHOWN:
            shown.append((samples[0].numpy(), caption.format(name=path.name, line=line)))
        return Written(line, [class_row(path.name, answers[0], class_names)])

    def finish() -> list[Path]:
        return [picture(output / PICTURE, *zip(*shown, strict=True))]

    endings, one, several = kind
    job = Job(
        endings, one, several, prepared, classify, write,
        columns=class_columns(class_names), shared=[PICTURE], finish=finish,
    )  # fmt: skip
    predict_files(job, source, output, options)
