"""Prediction of a large file of molecules in pieces: memory does not grow with it, and what was stopped goes on within it."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import torch

from spheregeo.data.molecules.frames import frames_of_text
from spheregeo.data.molecules.periodic.databases import database_rows
from spheregeo.files import write_bytes
from spheregeo.tasks.answers import Answers, GrowingTable, ended, part_of, table_text
from spheregeo.tasks.inputs import Progress, check_file, fault
from spheregeo.tasks.predict import FAILURES, TABLE, Job, PredictOptions, _Loop, check_faults

PIECE = 4  # batches of a piece
Piece = tuple[list[Any], int]  # frames, bad ones as Exceptions, and the place in the file behind them
Make = Callable[[dict[int, Any], list[Any]], tuple[bytes, list[list[Any]]]]


class Stream:
    """The prediction of one large file.

    Beside the answers, which are called ``NAME.part.EXT`` until all are there, a hidden file says how far they reach; it is
    written after each piece, when the piece is on the disk.

    Args:
        job: how molecules are predicted.
        path: an extended XYZ file or an ASE database.
        output: folder of the answers.
        options: how files are predicted.

    Raises: ValueError where an answer would replace an input or a foreign file, or where another model made the first part.
    """

    def __init__(self, job: Job, path: Path, output: Path, options: PredictOptions) -> None:
        self.job, self.path, self.output, self.options = job, path, output, options
        self.answers = Answers(
            output, [path], job.endings, [TABLE, FAILURES],
            model=options.model, resume=options.resume, overwrite=options.overwrite,
        )  # fmt: skip
        self.state = output / f".{self.answers.stems[path]}.progress.json"
        self.target = ended(output / self.answers.stems[path], job.endings[0])
        self.frames = self.place = 0
        self.faults: list[tuple[str, str]] = []

    # ---- how far it is

    def _begun(self) -> list[int] | None:
        """Sizes of the two files up to which they hold, where this prediction was begun before and is to go on."""
        if not self.options.resume or not self.state.is_file():
            return None
        told = json.loads(self.state.read_text(encoding="utf-8"))
        if told["stamp"] != self._stamp() or told["model"] != self.options.model:
            return None
        sizes = [int(size) for size in told["sizes"]]
        parts = [part_of(self.target), part_of(self.output / TABLE)]
        if not all(part.is_file() and part.stat().st_size >= size for part, size in zip(parts, sizes)):
            return None
        self.frames, self.place = int(told["frames"]), int(told["place"])
        self.faults = [(str(name), str(text)) for name, text in told["faults"]]
        return sizes

    def _stamp(self) -> list[int]:
        status = self.path.stat()
        return [status.st_size, status.st_mtime_ns]

    def _note(self, files: tuple[IO[bytes], IO[bytes]]) -> None:
        for file in files:
            file.flush()
            os.fsync(file.fileno())
        told = {
            "model": self.options.model, "stamp": self._stamp(), "frames": self.frames, "place": self.place,
            "sizes": [file.tell() for file in files], "faults": self.faults,
        }  # fmt: skip
        write_bytes(self.state, json.dumps(told).encode())

    # ---- the loop

    @torch.inference_mode()
    def run(self, made: Make) -> None:
        """Predict all pieces.

        Args:
            made: function of good frames by number and their answers that returns their text and the rows of the table.

        Raises: ValueError for frames without an answer, after the others are done; OSError from the disk.
        """
        check_file(self.path)
        if self.options.resume and self.answers.rows_before([[]] * self._rows_done())[0]:
            print(f"1 of 1 {self.job.things} are done already")
            return
        size = self.options.batch_size or self.job.batch_size
        sizes = self._begun()
        if sizes is not None:
            print(f"{self.frames} molecules are done already", flush=True)
        self.answers.begin(self.path)
        self.answers._append({"outputs": [part_of(self.target).name]})
        parts = [part_of(self.target), part_of(self.output / TABLE)]
        (self.output / FAILURES).unlink(missing_ok=True)
        with (
            open(parts[0], "r+b" if sizes else "wb") as texts,
            open(parts[1], "r+b" if sizes else "wb") as rows,
        ):
            for file, length in zip((texts, rows), sizes or [0, 0], strict=True):
                file.seek(length)
                file.truncate()
            if not sizes:
                rows.write(_lines([self.job.columns]))
            try:
                self._all(made, size, (texts, rows))
            except BaseException:
                print(
                    f"stopped: {self.frames} molecules are done; --resume goes on with the rest",
                    file=sys.stderr,
                    flush=True,
                )
                raise
        self._end(parts)

    def _rows_done(self) -> int:
        return sum(int(entry.get("rows", 0)) for entry in self.answers.entries)

    def _all(self, made: Make, size: int, files: tuple[IO[bytes], IO[bytes]]) -> None:
        whole = self.path.stat().st_size
        database = self.path.suffix.lower() == ".db"
        progress = None if database else Progress(max(1, whole >> 20), "MiB of the file")
        pieces = _rows(self.path, self.place, size * PIECE) if database else _texts(
            self.path, self.place, size * PIECE
        )  # fmt: skip
        for frames, place in pieces:
            loop = _Loop(self.job, [self.path], self.answers, None)
            named = [
                (f"{self.path}, frame {self.frames + k}", self.frames + k, f) for k, f in enumerate(frames)
            ]
            if self.frames == 0 and all(isinstance(frame, Exception) for frame in frames):
                raise frames[0]  # no file of molecules
            for name, _, frame in named:
                if isinstance(frame, Exception):
                    loop.fail(self.path, name, ValueError(fault(name, frame)))
            good = [(self.path, *part) for part in named if not isinstance(part[2], Exception)]
            said = loop.ask(good, size)
            kept = {k: frame for _, _, k, frame in good if (self.path, k) in said}
            if kept:
                text, rows = made(kept, [said[self.path, k] for k in kept])
                files[0].write(text)
                files[1].write(_lines(rows))
            self.frames, self.place = self.frames + len(frames), place
            self.faults += loop.faults
            self._note(files)
            if progress is not None:
                progress(place >> 20)

    def _end(self, parts: list[Path]) -> None:
        """Give the complete files their names, record them, and report the failures. Raises: ValueError when there are some."""
        answered = self.frames - len(self.faults)
        for part, target in zip(parts, (self.target, self.output / TABLE), strict=True):
            os.replace(part, target)
        self.answers.done(self.path, answered, faulty=bool(self.faults))
        self.state.unlink(missing_ok=True)
        print(f"{self.path.name}: {answered} molecules; in {self.target}\n{self.output / TABLE}", flush=True)
        if self.faults:
            table = GrowingTable(self.output / FAILURES, ["sample", "fault"])
            table.add(self.faults)
            table.close()
            check_faults(
                [text for _, text in self.faults], self.frames, "molecules", self.output, len(self.faults)
            )


def _lines(rows: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[table_text(cell) for cell in row] for row in rows])
    return text.getvalue().encode()


def _rows(path: Path, after: int, count: int) -> Iterator[Piece]:
    """Rows of a database whose ids are larger than ``after``, by pieces."""
    piece: list[Any] = []
    for frame in database_rows(path, after):
        piece.append(frame)
        if len(piece) == count:
            yield piece, int(frame.info["id"])
            piece = []
    if piece:
        yield piece, int(piece[-1].info["id"])


def _texts(path: Path, start: int, count: int) -> Iterator[Piece]:
    """Frames of an extended XYZ file from a place on, by pieces; a frame begins with its number of atoms alone on a line."""
    with open(path, "rb") as file:
        file.seek(start)
        texts: list[list[bytes]] = []
        place = start
        for line in file:
            stripped = line.strip() if place else line.removeprefix(b"\xef\xbb\xbf").strip()
            # the line after a number of atoms is a comment, whatever it holds
            if not texts or (stripped.isdigit() and len(texts[-1]) != 1):
                if len(texts) == count:
                    yield _parsed(texts), place
                    texts = []
                if stripped or texts:
                    texts.append([])
            if texts:
                texts[-1].append(line)
            place += len(line)
        if texts:
            yield _parsed(texts), place


def _parsed(texts: list[list[bytes]]) -> list[Any]:
    """Frames of their texts; a bad one is an Exception in its place."""
    whole = ["".join(line.decode("utf-8-sig", errors="replace") for line in lines) for lines in texts]
    try:
        frames = frames_of_text("".join(whole))
        if len(frames) == len(whole):
            return frames
    except Exception:
        pass  # found out below, frame by frame
    found: list[Any] = []
    for text in whole:
        try:
            (frame,) = frames_of_text(text)
        except Exception as error:
            frame = error
        found.append(frame)
    return found
