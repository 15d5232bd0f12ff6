"""The cells of a study: runs of recipes, one after the other, each kept with its result so that none is trained twice."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spheregeo.files import atomic_path, reading, write_json

RESULT = "cell.json"


@dataclass(frozen=True)
class Cell:
    """One training of a study and its tests.

    Args:
        name: folder of the run, and its name in the progress.
        recipe: recipe of the job.
        options: entries that differ from the recipe, as options of the command line.
        tests: further options of each test, by the test's name.
        facts: what the table is to hold of the cell.
        last: whether the weights of the last epoch are tested; else those of the best one.
        init: checkpoint whose weights the training starts from; fresh ones if empty.
    """

    name: str
    recipe: str
    options: tuple[str, ...]
    tests: tuple[tuple[str, tuple[str, ...]], ...]
    facts: tuple[tuple[str, Any], ...] = ()
    last: bool = False
    init: str = ""

    @property
    def digest(self) -> str:
        """Digest of everything that the result depends on."""
        more = (*(("last",) if self.last else ()), *((self.init,) if self.init else ()))
        text = repr((self.recipe, self.options, self.tests, *more))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def finished(cell: Cell, folder: Path) -> dict[str, Any] | None:
    """Return the result of a cell that was trained with these very options; None where there is none.

    Args:
        cell: the cell.
        folder: folder of the study.
    """
    path = folder / cell.name / RESULT
    if not path.is_file():
        return None
    with reading(path, "the result of a study's cell"):
        result = json.loads(path.read_text(encoding="utf-8"))
        return dict(result["result"]) if result["digest"] == cell.digest else None


def train(cell: Cell, folder: Path, measure: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Train, test and measure a cell; what the run prints goes to ``log.txt`` in its folder. A run that was cut goes on.

    Args:
        cell: the cell.
        folder: folder of the study.
        measure: function of the run's folder that returns further entries of the result.
    """
    from spheregeo.cli import engine
    from spheregeo.cli.checkpoints import CHECKPOINTS, REPORT

    place = folder / cell.name
    place.mkdir(parents=True, exist_ok=True)
    begun = place / "digest.txt"
    same = begun.is_file() and begun.read_text(encoding="utf-8") == cell.digest
    resume = same and (place / CHECKPOINTS[1]).is_file()
    begun.write_text(cell.digest, encoding="utf-8")
    result: dict[str, Any] = dict(cell.facts)
    with (
        open(place / "log.txt", "a", buffering=1, encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        begin, cpu = time.perf_counter(), time.process_time()
        init = None if resume or not cell.init else cell.init
        engine.fit(cell.recipe, str(place), resume, not resume, list(cell.options), init=init)
        result["seconds"], result["cpu_seconds"] = time.perf_counter() - begin, time.process_time() - cpu
        result["resumed"] = resume
        for name, options in cell.tests:
            weights = str(place / CHECKPOINTS[1]) if cell.last else None
            engine.score("test", cell.recipe, weights, str(place), [*cell.options, *options])
            with reading(place / REPORT, "the report of a test"):
                result[name] = json.loads((place / REPORT).read_text(encoding="utf-8"))
        result |= measure(place)
    write_json(place / RESULT, {"digest": cell.digest, "result": result})
    return result


def run_all(
    cells: Sequence[Cell], folder: Path, measure: Callable[[Path], dict[str, Any]], tell: Callable[[dict[str, Any]], str]
) -> list[dict[str, Any]]:  # fmt: skip
    """Train all cells that have no result yet, one after the other, with a line for each; return all results.

    Args:
        cells: the cells, in the order of the table.
        folder: folder of the study.
        measure: as for :func:`train`.
        tell: what the line of progress tells of a result.
    """
    results, trained, begin = [], 0, time.perf_counter()
    for number, cell in enumerate(cells, 1):
        found = finished(cell, folder)
        head = f"{number}/{len(cells)} {cell.name:<32}"
        if found is None:
            left = sum(finished(other, folder) is None for other in cells[number:])
            found = train(cell, folder, measure)
            trained += 1
            rest = left * (time.perf_counter() - begin) / trained
            print(
                f"{head} {tell(found)}, {found['seconds']:.0f} s; about {rest / 60:.0f} min left", flush=True
            )
        else:
            print(f"{head} {tell(found)} (kept)", flush=True)
        results.append(found)
    return results


def save_picture(figure: Any, path: Path) -> Path:
    """Write a study's picture as PNG and return its path.

    Args:
        figure: a figure of matplotlib.
        path: the file.
    """
    with atomic_path(path) as part:
        figure.savefig(part, dpi=120, format="png")
    return path


def publish(
    rows: Sequence[dict[str, Any]],
    columns: Sequence[str],
    folder: Path,
    name: str,
    draw: Callable[[Sequence[dict[str, Any]], Path], Path],
    verdict: str = "",
) -> None:
    """Write a study's table as NAME.csv, draw its picture, and print the table and where both are.

    Args:
        rows: rows of the table.
        columns: entries of the rows, in order.
        folder: folder of the study.
        name: name of the table's file.
        draw: function of rows and folder that returns the picture's path.
        verdict: what the table comes to, printed below it.
    """
    path = folder / f"{name}.csv"
    below = f"{verdict}\n" if verdict else ""
    text = table_of(rows, columns, path)
    print(f"\n{text}\n\n{below}table: {path}, plot: {draw(rows, folder)}", flush=True)


def table_of(rows: Sequence[dict[str, Any]], columns: Sequence[str], path: Path) -> str:
    """Write the rows of a study's table as CSV and return them as aligned text.

    Args:
        rows: rows of the table.
        columns: entries of the rows, in order.
        path: the file.
    """

    def text(value: Any) -> str:
        return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)

    with atomic_path(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([text(r[c]) for c in columns] for r in rows)
    shown = [tuple(columns), *(tuple(text(r[c]) for c in columns) for r in rows)]
    widths = [max(len(line[k]) for line in shown) for k in range(len(columns))]
    return "\n".join(
        "  ".join(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in shown
    )
