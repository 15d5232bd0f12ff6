"""The demonstration: generated rooms, a small spherical U-Net beside a per-pixel baseline, scores and pictures."""

from __future__ import annotations

import json
import time
from pathlib import Path

from spheregeo.cli import engine
from spheregeo.tasks import write_json
from spheregeo.tasks.pictures.fields import comparison_picture

RECIPE = "segment-sphere"
RUNS = {
    "per-pixel baseline": (
        "pixel-mlp",
        "--model.network pixel-mlp --model.width 32 --model.depth 3 --model.options null".split(),
    ),
    "spherical U-Net": ("sphere-unet", []),
}


def run(output: str, overrides: list[str]) -> dict[str, float]:
    """Train and test both on the same rooms; prints both mIoU and returns them."""
    folder, scores = Path(output), {}
    classes: dict[str, dict[str, float | None]] = {}
    for title, (name, options) in RUNS.items():
        begin = time.perf_counter()
        print(f"\n{title}: training on generated rooms ...", flush=True)
        target = str(folder / name)
        engine.fit(RECIPE, target, resume=False, overwrite=True, overrides=[*overrides, *options])
        scores[title] = engine.score("test", RECIPE, None, target, overrides)["test/miou"]
        results = json.loads((folder / name / "metrics.json").read_text())
        classes[title] = {c: v["iou"] for c, v in results["classes"].items()}
        print(f"{title}: done in {time.perf_counter() - begin:.0f} s", flush=True)
    write_json(folder / "scores.json", scores)
    comparison_picture(folder / "comparison.png", classes)
    print("\nmIoU on held-out rooms (area-weighted)")
    for title, value in scores.items():
        print(f"  {title:<20} {value:.3f}")
    pictures = [
        "comparison.png",
        *(f"sphere-unet/{n}.png" for n in ("predictions", "world", "confusion", "curves")),
    ]
    print("pictures: " + ", ".join(str(folder / p) for p in pictures))
    return scores
