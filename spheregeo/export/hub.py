"""The hub's three methods, ``from_pretrained``, ``save_pretrained`` and ``push_to_hub``, for a trained task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin, snapshot_download
from torch import nn

from spheregeo.export.describe import KEPT, describe
from spheregeo.export.load import load
from spheregeo.export.save import CARD, CONFIG, save
from spheregeo.tasks import Task
from spheregeo.tasks.exported import MODEL, read_description


class HubModel(nn.Module, ModelHubMixin):
    """A trained task with the methods of the Hugging Face hub, by its client's own mixin.

    Args:
        task: trained task; calls go to it.
        description: what the card is made of, see :func:`spheregeo.export.describe`; of the task alone if None.

    Raises: ImportError without the extra ``hub``.

    Example:
        >>> import tempfile
        >>> from spheregeo import tasks
        >>> folder = tempfile.mkdtemp()
        >>> HubModel(tasks.PointClassification(2, network="vnn-pointnet", width=4)).save_pretrained(folder)
        >>> HubModel.from_pretrained(folder).task.num_classes
        2
    """

    def __init__(self, task: Task, description: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.task = task
        self.description = describe(task) if description is None else description

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.task(*args, **kwargs)

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> Any:
        """Write model.safetensors, config.json and README.md to a folder, and push it where ``push_to_hub=True``.

        Args:
            save_directory: the folder, new or empty, or one that an earlier export wrote.
            options: of the mixin's own method, such as ``repo_id`` and ``push_to_hub``.
        """
        place = f"hf://{options['repo_id']}" if options.get("repo_id") else None
        save(self.task, save_directory, self.description, place=place)
        if options.pop("push_to_hub", False):
            return self.push_to_hub(options.pop("repo_id", Path(save_directory).name), **options)
        return None

    def _save_pretrained(self, save_directory: Path) -> None:
        save(self.task, save_directory, self.description)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> Any:
        """The card is written by :func:`spheregeo.export.save`; the mixin's template is not used."""
        raise NotImplementedError("the card is written together with the weights")

    @classmethod
    def _from_pretrained(cls, *, model_id: str, revision: str | None = None, **options: Any) -> HubModel:
        folder = Path(model_id)
        if not folder.is_dir():
            passed = {name: options.get(name) for name in ("cache_dir", "token", "local_files_only")}
            wanted = [MODEL, CONFIG, CARD]
            folder = Path(snapshot_download(model_id, revision=revision, allow_patterns=wanted, **passed))  # type: ignore[arg-type]
        known = read_description(folder)
        task = load(folder)
        return cls(
            task, {**describe(task), **{name: known[name] for name in KEPT if known.get(name) is not None}}
        )
