"""Files of MedMNIST, of volumes and of images: one .npz with ``train_images``, ``train_labels`` (N, 1), and so for val and test.

Reference: Yang et al. 2023, MedMNIST v2, Scientific Data 10, 41.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spheregeo.data.common import SPLITS, check_split
from spheregeo.data.files import need_file, read_array
from spheregeo.data.samples import GREYS, LabelledArrays, check_values

_ORGANS = (
    "bladder", "left femur", "right femur", "heart", "left kidney", "right kidney", "liver", "left lung", "right lung",
    "pancreas", "spleen",
)  # fmt: skip
# Names of the classes by the file's name before its size; numbers for other files.
CLASSES: dict[str, tuple[str, ...]] = {
    "adrenalmnist3d": ("normal", "hyperplasia"),
    "nodulemnist3d": ("benign", "malignant"),
    "synapsemnist3d": ("inhibitory", "excitatory"),
    "vesselmnist3d": ("vessel", "aneurysm"),
    "breastmnist": ("malignant", "normal or benign"),
    "pneumoniamnist": ("normal", "pneumonia"),
    "octmnist": ("choroidal neovascularisation", "diabetic macular oedema", "drusen", "normal"),
    "bloodmnist": (
        "basophil", "eosinophil", "erythroblast", "immature granulocyte", "lymphocyte", "monocyte", "neutrophil", "platelet",
    ),
    "pathmnist": (
        "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
        "cancer-associated stroma", "colorectal adenocarcinoma epithelium",
    ),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
}  # fmt: skip
_HELD_OUT = {"val": (8,), "test": (9,)}  # numbers modulo 10, where the file lacks a split


def held_out(count: int, split: str, missing: tuple[str, ...] = ("val", "test")) -> np.ndarray:
    """Return the numbers of the samples of a split, where a training part has to serve for the splits that are missing.

    Args:
        count: samples of the training part.
        split: train, or one of the missing splits.
        missing: splits that the files lack; each takes every tenth sample.
    """
    numbers = np.arange(count)
    if split == "train":
        return numbers[~np.isin(numbers % 10, [residue for part in missing for residue in _HELD_OUT[part]])]
    return numbers[np.isin(numbers % 10, _HELD_OUT[split])]


class MedMNISTFile(LabelledArrays):
    """Base of the datasets of one split of a MedMNIST file, or of any file of that layout.

    A file without a test (or validation) part is split: of its training samples every tenth, by number, is held out.

    Args:
        root: the .npz file.
        split: train, val or test.

    Raises: FileNotFoundError; ValueError for another layout, counts that differ, labels that are no classes, or no samples.
    """

    kind = "MedMNIST"
    axes = "H, W"
    points = "pixels"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        self.path, self.split = Path(root), check_split(split)
        need_file(self.path, f"a {self.kind} file")
        stored = read_array(self.path)
        keys = {part: (f"{part}_images", f"{part}_labels") for part in SPLITS}
        present = (
            [] if not isinstance(stored, dict) else [p for p in SPLITS if all(k in stored for k in keys[p])]
        )
        if not isinstance(stored, dict) or "train" not in present:
            held = ", ".join(stored) if isinstance(stored, dict) else "one array"
            raise ValueError(
                f"{self.path} holds {held or 'no arrays'}; expected train_images and train_labels"
            )
        part = split if split in present else "train"
        images, labels = (stored[key] for key in keys[part])
        rank = self.axes.count(",") + 2
        if images.ndim not in (rank, rank + 1) or len(images) != len(labels) or labels.size != len(labels):
            raise ValueError(
                f"{self.path}: {part}_images has shape {images.shape}, {part}_labels {labels.shape}; expected "
                f"(N, {self.axes}) and (N, 1)"
            )
        labels = labels.reshape(-1)
        every = np.concatenate([stored[keys[p][1]].reshape(-1) for p in present])
        if (
            every.dtype.kind not in "biu"
            or (every.size and every.min() < 0)
            or int(every.max(initial=0)) > 254
        ):
            raise ValueError(f"{self.path} has labels that are no classes 0 ... 254")
        grey = [stored[keys[p][0]] for p in present if stored[keys[p][0]].dtype in GREYS]
        self._largest = max((int(array.max(initial=0)) for array in grey), default=0)
        chosen: np.ndarray | slice = slice(None)
        if part == "train":
            chosen = held_out(len(labels), split, tuple(p for p in ("val", "test") if p not in present))
        self.images, self.labels = images[chosen], labels[chosen].astype(int)
        if not len(self.labels):
            raise ValueError(
                f"{self.path} holds no samples for {split} ({len(labels)} in {part}_images); add some"
            )
        count = int(every.max(initial=0)) + 1
        known = CLASSES.get(self.path.stem.partition("_")[0].rstrip("0123456789"), ())
        self.class_names = known if len(known) == count else tuple(map(str, range(count)))

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return f"{self.split} {index}"

    def load(self, index: int) -> np.ndarray:
        name = f"{self.path}: {self.name(index)}"
        values = channels_first(self.images[index], self.axes.count(",") + 1)
        return check_values(values, name, self.axes, self.points, self._largest)


def channels_first(values: np.ndarray, axes: int) -> np.ndarray:
    """Return an array with its channels first, where one or three of them are last.

    Args:
        values: the array.
        axes: number of axes without channels.
    """
    last = values.ndim == axes + 1 and values.shape[-1] in (1, 3) and values.shape[0] not in (1, 3)
    return np.moveaxis(values, -1, 0) if last else values
