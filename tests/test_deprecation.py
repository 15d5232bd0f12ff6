"""Former names of arguments go on working."""

from __future__ import annotations

import inspect

import pytest

from spheregeo.deprecation import renamed_arguments


class Layer:
    @renamed_arguments(degree="num_neighbors", normalise="normalize")
    def __init__(self, width: int, *, num_neighbors: float = 1.0, normalize: bool = True) -> None:
        self.given = (width, num_neighbors, normalize)


def test_former_names_warn_and_reach_the_argument() -> None:
    with pytest.warns(DeprecationWarning, match="degree is called num_neighbors now"):
        layer = Layer(3, degree=7.0)
    assert layer.given == (3, 7.0, True)
    assert Layer(3, num_neighbors=7.0, normalize=False).given == (3, 7.0, False)


def test_both_names_are_an_error() -> None:
    with pytest.raises(TypeError, match="degree is the former name of num_neighbors"):
        Layer(3, degree=7.0, num_neighbors=7.0)


def test_the_signature_shows_the_names_of_today() -> None:
    assert list(inspect.signature(Layer).parameters) == ["width", "num_neighbors", "normalize"]


def test_recorded_runs_keep_their_split() -> None:
    from spheregeo.cli.former import as_it_was

    kept = {"data": {"class_path": "spheregeo.data.ForcesData", "init_args": {"root": "a.xyz"}}}
    assert as_it_was(kept) and kept["data"]["init_args"] == {"root": "a.xyz", "split_by": "frame"}
    assert not as_it_was(kept) and not as_it_was({"data": {"class_path": "spheregeo.data.G2Data"}})
