"""Recipes name classes through files that have moved: such paths, recorded by runs of before, still resolve."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from spheregeo import recipes
from spheregeo.cli import main
from spheregeo.cli.class_paths import public_paths

# Files of the release before the rooms had a folder per domain, with a public class of each.
FORMER = {
    "spheregeo.data.modules": "RoomsData",
    "spheregeo.data.panorama_data": "PanoramaData",
    "spheregeo.data.spherical_mnist": "SphericalGlyphsData",
    "spheregeo.data.spherical_images": "SphericalImagesData",
    "spheregeo.data.mesh_modules": "PrimitivesData",
    "spheregeo.data.point_modules": "PrimitiveCloudsData",
    "spheregeo.data.modelnet_modules": "ModelNetData",
    "spheregeo.data.molecule_modules": "G2Data",
    "spheregeo.data.molecule_own": "SDFData",
    "spheregeo.data.molecule_splits": "MoleculeData",
    "spheregeo.data.force_modules": "ClustersData",
    "spheregeo.tasks.segmentation": "Segmentation",
    "spheregeo.tasks.point_classification": "PointClassification",
    "spheregeo.tasks.molecule_regression": "MoleculeRegression",
}


@pytest.mark.parametrize("module", FORMER)
def test_former_paths_become_public_ones(module: str) -> None:
    room = ".".join(module.split(".")[:2])
    assert (
        public_paths(f"class_path: {module}.{FORMER[module]}\n") == f"class_path: {room}.{FORMER[module]}\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "spheregeo.data.RoomsData",
        "spheregeo.data.points.dataset.AXES",  # not public
        "spheregeo.nn.DiscoConv",
        "mine.spheregeo_data.modules.RoomsData",
        "--data.root=spheregeo.data.txt",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert public_paths(text) == text


def test_a_recipe_of_a_former_run_parses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = recipes.find("segment-sphere").read_text(encoding="utf-8")
    text = text.replace("spheregeo.data.", "spheregeo.data.modules.").replace(
        "spheregeo.tasks.", "spheregeo.tasks.segmentation."
    )
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text, encoding="utf-8")
    options = ["--data", "spheregeo.data.modules.RoomsData", "--data.train", "5", "--print_config"]
    assert main(["fit", str(recipe), *options]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (
        shown["data"]["class_path"] == "spheregeo.data.RoomsData" and shown["data"]["init_args"]["train"] == 5
    )
    assert shown["model"]["class_path"] == "spheregeo.tasks.Segmentation"
