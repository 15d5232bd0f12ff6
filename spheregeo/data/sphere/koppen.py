"""Köppen–Geiger climate groups from the colour and the height of the Earth's surface: one planet, six classes.

Africa, Europe and their seas (60 W ... 60 E) are the test; the middle of North America (105 W ... 75 W), where all
classes occur, is the validation; the rest is for training. Ocean is one of the classes.
Reference: Köppen's main groups after Peel, Finlayson & McMahon 2007, doi:10.5194/hess-11-1633-2007.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spheregeo.data.sphere.field import FieldSource
from spheregeo.data.sphere.fields import Fields, Sector

__all__ = ["KOPPEN_CLASSES", "Koppen"]

KOPPEN_CLASSES = ("ocean", "tropical", "arid", "temperate", "continental", "polar")
COLOUR = FieldSource("land_shallow_topo_2048.jpg")
ELEVATION = FieldSource("etopo20data.gz", latitudes="etopo20lats.gz", longitudes="etopo20lons.gz")
CLIMATE = FieldSource("koppen_0p5deg_main6.npz:label")
LAND = FieldSource("land_fraction_0p25deg.npz:land_fraction_u8")
TEST_LONGITUDES: tuple[Sector, ...] = ((-60.0, 60.0),)
VAL_LONGITUDES: tuple[Sector, ...] = ((-105.0, -75.0),)


class Koppen(Fields):
    """The Earth in colour and height, labelled with ocean and the five main climate groups.

    Args:
        root: folder with the files of the card ``datasets/earth-fields``.
        size: (nlat, nlon) of the working grid, 2:1.
        split: train, val or test.
        test_longitudes: sectors (west, east) held out for the test.
        val_longitudes: sectors held out for validation.
        ocean: False ignores the ocean's pixels.

    Shape: image (4, nlat, nlon): red, green, blue in [0, 1], elevation; label (nlat, nlon).
    Units: elevation in metres; longitudes in degrees.
    Raises: FileNotFoundError for a missing file.
    """

    def __init__(
        self,
        root: str | Path,
        size: tuple[int, int] = (128, 256),
        split: str = "train",
        test_longitudes: Sequence[Sector] = TEST_LONGITUDES,
        val_longitudes: Sequence[Sector] = VAL_LONGITUDES,
        ocean: bool = True,
    ) -> None:
        super().__init__(
            root,
            [COLOUR, ELEVATION],
            CLIMATE,
            KOPPEN_CLASSES,
            size,
            split,
            test_longitudes,
            val_longitudes,
            void=() if ocean else (0,),
        )
