"""The data module of pairs of clouds."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset

from spheregeo.checks import check_least
from spheregeo.data.common import SPLITS
from spheregeo.data.module import DataModule
from spheregeo.data.points.dataset import PointDataset
from spheregeo.data.points.pairs import CloudFiles, CloudPairs, CreatureClouds, collate_pairs

__all__ = ["CloudPairsData"]


class CloudPairsData(DataModule[PointDataset]):
    """Pairs of clouds of one surface, for registration: of generated creatures, or of the clouds and meshes of a folder.

    Args:
        root: folder of clouds or meshes, from which pairs of every split are drawn; generated creatures if empty.
        train: number of training pairs; of generated creatures, each of its own.
        val: number of validation pairs.
        test: number of test pairs.
        num_points: points of each cloud of a pair.
        stored_points: points drawn from each surface, of which pairs take theirs.
        overlap: share of surface that the clouds of validation and test have in common.
        train_overlap: smallest share in training, up to 1.
        noise: standard deviation of noise on each coordinate, in radii of the whole cloud.
        normals: give normals as features; where files have none, they are estimated from the whole stored cloud.
        batch_size: pairs in a batch.
        **kwargs: arguments of :class:`~spheregeo.data.module.DataModule`; ``seed`` is also that of the pairs.

    Shape: batches as :func:`collate_pairs` makes them.
    Raises: ValueError for numbers out of range; FileNotFoundError for a folder without clouds, when a split is first read.

    Example:
        >>> from spheregeo.data import CloudPairsData
        >>> data = CloudPairsData(train=4, val=2, test=2, num_points=64, stored_points=256, batch_size=2)
        >>> next(iter(data.test_dataloader()))["rotation"].shape
        torch.Size([2, 3, 3])
    """

    must_agree = ()
    drawn_anew = True
    collate = staticmethod(collate_pairs)

    def __init__(
        self,
        root: str = "",
        train: int = 400,
        val: int = 40,
        test: int = 100,
        num_points: int = 512,
        stored_points: int = 4096,
        overlap: float = 1.0,
        train_overlap: float = 0.5,
        noise: float = 0.005,
        normals: bool = True,
        *,
        batch_size: int = 4,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        check_least(train=(train, 1), val=(val, 1), test=(test, 1), stored_points=(stored_points, 8))
        self.root, self.counts = root, {"train": train, "val": val, "test": test}
        self.num_points, self.stored_points, self.normals = num_points, stored_points, normals
        self.overlap, self.train_overlap, self.noise = overlap, train_overlap, noise
        self._pairs: dict[str, CloudPairs] = {}

    def make(self, split: str) -> PointDataset:
        if self.root:
            return CloudFiles(self.root, self.stored_points, self.seed)
        return CreatureClouds(self.counts[split], self.stored_points, seed=self.seed, split=split)

    def items(self, split: str) -> Dataset[Any]:
        """Return the pairs of a split."""
        if split not in self._pairs:
            overlap = (self.train_overlap, 1.0) if split == "train" else (self.overlap, self.overlap)
            self._pairs[split] = CloudPairs(
                self.dataset(split), self.num_points, overlap=overlap, noise=self.noise, normals=self.normals,
                pairs=self.counts[split], seed=self.seed, stream=SPLITS.index(split),
            )  # fmt: skip
        return self._pairs[split]

    @property
    def in_channels(self) -> int:
        """Channels of the features: 3 with normals, else none."""
        return 3 if self.normals else 0

    @property
    def feature_irreps(self) -> str:
        """How the features turn, in e3nn's notation: normals are one vector; empty without features."""
        return "1x1o" if self.normals else ""
