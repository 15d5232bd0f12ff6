"""``spheregeo predict``: answers for the user's own files."""

from __future__ import annotations

import argparse

from spheregeo.cli.commands import add_checkpoint, add_recipe

SUMMARY = "label a photo, a mesh, a cloud or molecules, or a folder of them"
OVERRIDES = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    add_recipe(parser)
    parser.add_argument(
        "--input",
        required=True,
        metavar="FILE_OR_DIR",
        help="2:1 panoramas, up to 4096x8192, meshes, clouds or molecules",
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--grid", help="work on another grid than in training, such as 'Equiangular(256, 512)'"
    )

    parser.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="inputs that go through the network together; the answers stay",
    )
    parser.add_argument(
        "--resume", action="store_true", help="keep what an interrupted prediction has done, and do the rest"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files in the output folder that no prediction has recorded",
    )
    parser.add_argument(
        "--confidence", action="store_true", help="write a picture of the confidence of each labelled photo"
    )
    parser.add_argument(
        "--tiles",
        type=int,
        default=1,
        metavar="N",
        help="label photos N times as finely as the model's grid, in N x N passes",
    )
    parser.add_argument(
        "--turns", type=int, default=1, metavar="N", help="average over N turns of a photo about the vertical"
    )


def run(options: argparse.Namespace, overrides: list[str]) -> None:
    """Predict."""
    from spheregeo.cli import predict
    from spheregeo.tasks.predict import PredictOptions

    asked = PredictOptions(
        options.batch_size, options.resume, options.overwrite, options.confidence, tiles=options.tiles, turns=options.turns
    )  # fmt: skip
    predict.run(options.recipe, options.input, options.ckpt, options.output, options.grid, asked)
