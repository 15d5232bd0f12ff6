"""Checkpoints of a run: the best and the last one, wherever the run's folder lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint


class RunCheckpoint(ModelCheckpoint):
    """Lightning's checkpoint callback whose state names files without their folder, so that a run may be moved or copied.

    Lightning's own forgets the best score of a run that lies elsewhere, and replaces the best model by a worse one.

    Args:
        options: arguments of Lightning's ``ModelCheckpoint``.
    """

    @property
    def state_key(self) -> str:
        # the key of Lightning's own class, under which checkpoints have always kept the state
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def state_dict(self) -> dict[str, Any]:
        return {**_placed(super().state_dict(), None), "dirpath": ""}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        folder = Path(self.dirpath or "")
        state = {**_placed(state_dict, folder), "dirpath": self.dirpath}
        if state["best_model_path"] and not Path(state["best_model_path"]).is_file():
            return  # its file was left behind: the best model is chosen anew
        super().load_state_dict(state)


def _placed(state: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """Return a state whose files lie in a folder; without any folder if None."""

    def place(path: str) -> str:
        return str(folder / Path(path).name) if path and folder is not None else Path(path).name

    placed = dict(state)
    for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
        placed[key] = place(state.get(key) or "")
    placed["best_k_models"] = {
        place(path): score for path, score in (state.get("best_k_models") or {}).items()
    }
    return placed
