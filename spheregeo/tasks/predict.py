"""What prediction from files shares over all domains: which files, what happens to a bad one, and the table of classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from spheregeo.tasks.predictions import write_predictions

Answer = TypeVar("Answer")


def find_files(source: Path, suffixes: Sequence[str], thing: str) -> list[Path]:
    """Return the file itself, or the files of a folder that end in one of the suffixes, by name.

    Args:
        source: file or folder; a file may have any name.
        suffixes: endings in lower case, such as ".png".
        thing: what a file holds, for the messages, such as "mesh".

    Raises: FileNotFoundError when there is none.
    """
    if source.is_dir():
        found = sorted(p for p in source.iterdir() if p.suffix.lower() in suffixes)
        if not found:
            raise FileNotFoundError(
                f"{source} holds no {', '.join(suffixes)} file; give a {thing} or a folder of such files"
            )
        return found
    if not source.is_file():
        raise FileNotFoundError(f"{source} does not exist; give a {thing} or a folder of such files")
    return [source]


def predict_each(
    paths: Sequence[Path], predict: Callable[[Path], Answer]
) -> tuple[dict[Path, Answer], list[str]]:
    """Predict files one after another; a bad file among several does not stop the others.

    Args:
        paths: the files.
        predict: function of one file; raises ValueError for a bad one.

    Returns the answers by file, and a message per bad file.

    Raises: ValueError when the only file is bad.
    """
    answers, faults = {}, []
    for path in paths:
        try:
            answers[path] = predict(path)
        except ValueError as error:
            if len(paths) == 1:
                raise
            faults.append(str(error) if str(path) in str(error) else f"{path.name}: {error}")
    return answers, faults


def check_faults(faults: Sequence[str], paths: Sequence[Path], things: str) -> None:
    """Report the bad files at the end.

    Args:
        faults: a message per bad file.
        paths: all files.
        things: what the files hold, such as "meshes".

    Raises: ValueError when there is a bad file.
    """
    if faults:
        raise ValueError(f"{len(faults)} of {len(paths)} {things} failed: " + "; ".join(faults))


def say_class(name: str, probability: Tensor, class_names: Sequence[str]) -> str:
    """Print and return the likeliest class of a file.

    Args:
        name: name of the file.
        probability: probability of each class, (num_classes,).
        class_names: one name per class.
    """
    best = int(probability.argmax())
    line = f"{name}: {class_names[best]} ({float(probability[best]):.0%})"
    print(line, flush=True)
    return line


def write_classes(output: Path, probabilities: dict[Path, Tensor], class_names: Sequence[str]) -> None:
    """Write ``predictions.csv`` with a row per file, and print its path; nothing is written without files.

    Args:
        output: folder of the table.
        probabilities: probability of each class, (num_classes,), by file.
        class_names: one name per class.
    """
    if probabilities:
        count = len(probabilities)
        table = torch.arange(count), torch.full((count,), -1), torch.stack(list(probabilities.values()))
        names = [path.name for path in probabilities]
        print(write_predictions(output / "predictions.csv", table, class_names, names))
