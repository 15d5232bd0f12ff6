"""What every data module of labelled samples states: classes, their names, and the constants that go into a checkpoint."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from lightning.pytorch import LightningDataModule

from spheregeo.data.common import IGNORE


def check_counts(**bounds: tuple[int, int]) -> None:
    """Raises: ValueError for the first argument whose value, given as (value, least), is below the least allowed."""
    for name, (value, least) in bounds.items():
        if value < least:
            raise ValueError(f"{name} is {value}; expected at least {least}")


class LabelledData(LightningDataModule):
    """Base of the data modules whose samples, or points, bear classes.

    ``mean`` and ``std`` of each channel go into every checkpoint, so that whoever predicts can normalise alike.
    """

    ignore_index = IGNORE

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their indices."""

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    @abstractmethod
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel over the training samples, by area."""

    @property
    @abstractmethod
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel over the training samples, by area."""

    def state_dict(self) -> dict[str, Any]:
        return {"mean": list(self.mean), "std": list(self.std), "class_names": list(self.class_names)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore: the constants follow from the data. Raises: ValueError if the data are others."""
        if list(self.class_names) != list(state_dict["class_names"]):
            raise ValueError(
                f"the checkpoint was trained on classes {', '.join(state_dict['class_names'])} but the data have "
                f"{', '.join(self.class_names)}; resume with the data it began with"
            )
