"""What prediction from files shares over all domains: which files, in batches, what happens to a bad one, what is written.

One bad file, or one bad frame of a file, costs its own answer and no other: it is named with its fault, the rest goes on, and
the prediction fails at its end with the list of faults.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from spheregeo.checks import check_least
from spheregeo.tasks.answers import Answers, GrowingTable, read_rows, recorded_outputs
from spheregeo.tasks.inputs import Progress, check_file, fault, find_files, is_full_disk
from spheregeo.tasks.predictions import class_line, write_predictions

Answer = TypeVar("Answer")
SAID = 20  # faults that the last line lists; all of them stand in the table of failures
FAILURES = "failures.csv"
TABLE = "predictions.csv"


@dataclass(frozen=True)
class PredictOptions:
    """How files are predicted, beside what is asked of the task.

    Args:
        batch_size: samples that go through the network together; the domain's own number if None.
        resume: keep what an interrupted prediction has done, and do the rest.
        overwrite: replace files in the folder of answers that no prediction has recorded.
        confidence: write a picture of the confidence beside each picture of labels.
        model: what makes the answers, for the record; answers of another model are not resumed.

        tiles: positions of the grid along each axis, for an answer so many times as fine as the grid; photos pixel by pixel only.
        turns: turns of a photo about the vertical whose answers are averaged; photos pixel by pixel only.

    Raises: ValueError for a batch size, tiles or turns below 1.

    Example:
        >>> PredictOptions(batch_size=8).resume
        False
    """

    batch_size: int | None = None
    resume: bool = False
    overwrite: bool = False
    confidence: bool = False
    model: str = ""
    tiles: int = 1
    turns: int = 1

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; expected at least 1")
        check_least(tiles=(self.tiles, 1), turns=(self.turns, 1))

    @property
    def several_passes(self) -> bool:
        """Whether a photo goes through the network more than once."""
        return self.tiles > 1 or self.turns > 1


@dataclass(frozen=True)
class Written:
    """What was made of one file.

    Args:
        line: what is printed after the file's name.
        rows: rows of the table.
    """

    line: str
    rows: Sequence[Sequence[Any]] = ()


@dataclass(frozen=True)
class Job:
    """One domain's part of a prediction.

    Args:
        suffixes: endings of the files, in lower case.
        thing: what a file holds, for messages, such as "photo".
        things: the plural.
        read: function of a file that returns its samples; a bad frame among several is an Exception in its place.
        ask: function of samples and their names that returns an answer each; raises for a bad one among them.
        write: function of a file, the path of its answers without endings, its good samples by number, and their answers.
        endings: endings of the files that ``write`` writes.
        columns: head of the table of all files; no table if empty.
        shared: names of further files for all inputs.
        batch_size: samples that go through the network together unless the user says otherwise.
        finish: function that writes the files for all inputs, at the end; returns their paths.
        several_passes: whether ``ask`` heeds tiles and turns.

    Example:
        >>> job = Job((".txt",), "text", "texts", lambda path: [path.read_text()],
        ...     lambda samples, names: [len(s) for s in samples],
        ...     lambda path, stem, samples, answers: Written("read", [[path.name, *answers]]), columns=("sample", "length"))
        >>> job.endings
        ()
    """

    suffixes: Sequence[str]
    thing: str
    things: str
    read: Callable[[Path], Sequence[Any]]
    ask: Callable[[list[Any], list[str]], Sequence[Any] | Tensor]
    write: Callable[[Path, Path, dict[int, Any], list[Any]], Written]
    endings: Sequence[str] = ()
    columns: Sequence[str] = ()
    shared: Sequence[str] = ()
    batch_size: int = 1
    finish: Callable[[], Sequence[Path]] = field(default=tuple)
    several_passes: bool = False


# ---- the loop


class _Loop:
    """Files of one job on their way from reading to the record."""

    def __init__(self, job: Job, paths: Sequence[Path], answers: Answers, table: GrowingTable | None) -> None:
        self.job, self.answers, self.table = job, answers, table
        self.total = len(paths)
        self.faults: list[tuple[str, str]] = []
        self.bad: set[Path] = set()
        self.first: Exception | None = None
        self.done = self.files = 0

    def fail(self, path: Path, name: str, error: Exception) -> None:
        if is_full_disk(error):
            raise error
        self.first = self.first or error
        self.bad.add(path)
        self.faults.append((name, fault(name, error)))
        if self.total > 1:
            print(f"failed: {self.faults[-1][1]}", flush=True)

    def read(self, path: Path) -> list[tuple[str, int, Any]]:
        """Return name, number and value of each good sample of a file."""
        try:
            samples = list(self.job.read(check_file(path)))
        except Exception as error:
            self.fail(path, str(path), error)
            return []
        several = len(samples) > 1
        named = [(f"{path}, frame {k}" if several else str(path), k, s) for k, s in enumerate(samples)]
        for name, _, sample in named:
            if isinstance(sample, Exception):
                self.fail(path, name, sample)
        return [part for part in named if not isinstance(part[2], Exception)]

    def ask(self, samples: list[tuple[Path, str, int, Any]], size: int) -> dict[tuple[Path, int], Any]:
        """Return the answer to each good sample; where a batch fails, its samples go one by one."""
        found: dict[tuple[Path, int], Any] = {}
        progress = Progress(len(samples), "samples of these files")
        for first in range(0, len(samples), size):
            progress(first)
            part = samples[first : first + size]
            try:
                said = self.job.ask([s for *_, s in part], [name for _, name, *_ in part])
                found |= {(path, k): answer for (path, _, k, _), answer in zip(part, said, strict=True)}
                continue
            except Exception as error:
                if len(part) == 1:
                    self.fail(part[0][0], part[0][1], error)
                    continue
            for path, name, k, sample in part:
                try:
                    found[path, k] = self.job.ask([sample], [name])[0]
                except Exception as error:
                    self.fail(path, name, error)
        return found

    def write(self, path: Path, samples: dict[int, Any], answers: list[Any]) -> None:
        """Write the answers of one file, its rows and its line in the record."""
        self.answers.begin(path)
        try:
            stem = self.answers.folder / self.answers.stems[path]
            written = self.job.write(path, stem, samples, answers)
            if self.table is not None:
                self.table.add(written.rows)
        except Exception as error:
            self.fail(path, str(path), error)
            return
        self.answers.done(path, len(written.rows), faulty=path in self.bad)
        self.done += 1
        self.files += len(self.answers.endings)
        print(f"{path.name}: {written.line}", flush=True)


def _groups(loop: _Loop, paths: Sequence[Path], size: int) -> Iterator[list[tuple[Path, list[Any]]]]:
    """Give the files of one or more batches with their good samples."""
    group: list[tuple[Path, list[Any]]] = []
    for path in paths:
        group.append((path, loop.read(path)))
        if sum(len(samples) for _, samples in group) >= size:
            yield group
            group = []
    if group:
        yield group


@torch.inference_mode()
def predict_files(job: Job, source: Path, output: Path, options: PredictOptions | None = None) -> None:
    """Predict a file or a folder of files: answers beside one another in a folder, a table that grows, a record.

    Args:
        job: the domain's part.
        source: file or folder.
        output: folder of the answers.
        options: how; the usual way if None.

    Raises: FileNotFoundError without files; ValueError for bad files, after the others are done, and where an answer would
        replace an input or a foreign file; OSError from the disk.
    """
    options = options or PredictOptions()
    if options.several_passes and not job.several_passes:
        raise ValueError(
            f"tiles is {options.tiles} and turns is {options.turns}; expected 1 and 1: only photos that are answered pixel by "
            "pixel go through the network several times"
        )
    paths = find_files(source, job.suffixes, job.thing)
    if source.is_dir():
        own = recorded_outputs(source)
        paths, skipped = [p for p in paths if p.name not in own], [p for p in paths if p.name in own]
        if skipped:
            print(f"{len(skipped)} files of {source} are answers of an earlier prediction and are left out")
        if not paths:
            raise FileNotFoundError(
                f"{source} holds only answers of earlier predictions; give a folder of inputs"
            )
    shared = [*([TABLE] if job.columns else []), *job.shared, FAILURES]
    answers = Answers(
        output, paths, job.endings, shared,
        model=options.model, resume=options.resume, overwrite=options.overwrite,
    )  # fmt: skip
    rows = read_rows(output / TABLE, job.columns) if options.resume and job.columns else []
    over, kept = answers.rows_before(rows)
    if over:
        print(f"{len(over)} of {len(paths)} {job.things} are done already")
    table = GrowingTable(output / TABLE, job.columns, kept) if job.columns else None
    (output / FAILURES).unlink(missing_ok=True)
    loop = _Loop(job, paths, answers, table)
    progress = Progress(len(paths) - len(over), job.things)
    size = options.batch_size or job.batch_size
    try:
        seen = 0
        for group in _groups(loop, [p for p in paths if p not in over], size):
            said = loop.ask([(path, *part) for path, parts in group for part in parts], size)
            for path, parts in group:
                good = {k: sample for _, k, sample in parts if (path, k) in said}
                if good:
                    loop.write(path, good, [said[path, k] for k in good])
            seen += len(group)
            progress(seen)
    except BaseException:
        if table is not None:
            table.close(complete=False)
        done = f"{len(over) + loop.done} of {len(paths)} {job.things} are done in {output}"
        print(f"stopped: {done}; --resume goes on with the rest", file=sys.stderr, flush=True)
        raise
    _end(job, loop, output, over)


def _end(job: Job, loop: _Loop, output: Path, over: set[Path]) -> None:
    """Close the table, write what belongs to all files, and report the failures. Raises: ValueError when there are some."""
    if loop.table is not None:
        rows = loop.done or over
        written = loop.table.close(complete=bool(rows))
        if rows:
            print(written, flush=True)
        else:
            written.unlink()
    if loop.done:
        for path in job.finish():
            print(path, flush=True)
    if not loop.faults:
        return
    failures = GrowingTable(output / FAILURES, ["sample", "fault"])
    failures.add(loop.faults)
    failures.close()
    if loop.total == 1 and len(loop.faults) == 1:
        raise ValueError(loop.faults[0][1]) from loop.first
    check_faults([text for _, text in loop.faults], loop.total, job.things, output, len(loop.bad), loop.first)


def check_faults(
    faults: Sequence[str], paths: Sequence[Path] | int, things: str, output: Path | None = None,
    bad: int | None = None, cause: Exception | None = None,
) -> None:  # fmt: skip
    """Report the bad files at the end.

    Args:
        faults: a message per bad file.
        paths: all files, or their number.
        things: what the files hold, such as "meshes".
        output: folder with the table of failures, where there is one.
        bad: number of bad files; as many as there are messages if None.
        cause: the first error.

    Raises: ValueError when there is a bad file.
    """
    if not faults:
        return
    total = paths if isinstance(paths, int) else len(paths)
    more = f"; and {len(faults) - SAID} more in {output / FAILURES}" if output and len(faults) > SAID else ""
    listed = faults[:SAID] if output else faults
    text = f"{len(faults) if bad is None else bad} of {total} {things} failed: {'; '.join(listed)}{more}"
    raise ValueError(text) from cause


def predict_each(
    paths: Sequence[Path], predict: Callable[[Path], Answer]
) -> tuple[dict[Path, Answer], list[str]]:
    """Predict files one after another; a bad file among several does not stop the others.

    Args:
        paths: the files.
        predict: function of one file; raises for a bad one.

    Returns the answers by file, and a message per bad file.

    Raises: ValueError when the only file is bad; OSError when the disk is full.
    """
    answers, faults = {}, []
    for path in paths:
        try:
            answers[path] = predict(check_file(path))
        except Exception as error:
            if is_full_disk(error):
                raise
            if len(paths) == 1:
                raise ValueError(fault(str(path), error)) from error
            faults.append(fault(str(path), error))
    return answers, faults


# ---- one class for a file


def say_class(name: str, probability: Tensor, class_names: Sequence[str]) -> str:
    """Print and return the likeliest class of a file.

    Args:
        name: name of the file.
        probability: probability of each class, (num_classes,).
        class_names: one name per class.
    """
    line = f"{name}: {class_line(probability, class_names)}"
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
        print(write_predictions(output / TABLE, table, class_names, names))
