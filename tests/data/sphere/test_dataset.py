from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from spheregeo.data import Augmented, AzimuthalShift, ColourJitter, EpochSampler, RandomRotation, Rooms
from spheregeo.data.common import generator
from spheregeo.data.sphere.dataset import check_size


class Numbers(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"image": torch.full((3, 4, 8), float(index))}


def noise(item: dict[str, torch.Tensor], draw: torch.Generator) -> dict[str, torch.Tensor]:
    return item | {"noise": torch.rand(2, generator=draw)}


def test_generators_depend_on_every_number_of_the_key() -> None:
    draws = [
        float(torch.rand((), generator=generator(*key)))
        for key in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0))
    ]
    assert len(set(draws)) == 4
    assert draws[1] == float(torch.rand((), generator=generator(0, 0, 1)))


def test_draws_depend_on_seed_epoch_and_index_alone() -> None:
    data = Augmented(Numbers(), [noise], seed=3)
    first = data[2, 5]["noise"]
    torch.manual_seed(99)
    data[1, 4]
    assert torch.equal(data[2, 5]["noise"], first)
    assert not torch.equal(data[3, 5]["noise"], first)
    assert not torch.equal(data[2, 4]["noise"], first)
    assert not torch.equal(Augmented(Numbers(), [noise], seed=4)[2, 5]["noise"], first)
    assert torch.equal(data[5]["noise"], data[0, 5]["noise"])


def test_length_repeats_the_items_with_other_draws() -> None:
    data = Augmented(Numbers(), [noise], length=20)
    assert len(data) == 20
    assert float(data[9]["image"].mean()) == 2.0
    assert not torch.equal(data[9]["noise"], data[2]["noise"])
    with pytest.raises(IndexError):
        data[20]


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_and_resuming_change_nothing(workers: int) -> None:
    data = Augmented(Numbers(), [noise])

    def epoch(number: int, count: int) -> torch.Tensor:
        sampler = EpochSampler(data, seed=1)
        sampler.set_epoch(number)
        loader = DataLoader(data, 2, sampler=sampler, num_workers=count)
        return torch.cat([torch.cat([b["noise"], b["image"][:, 0, 0, :1]], -1) for b in loader])

    assert torch.equal(epoch(1, workers), epoch(1, 0))
    assert not torch.equal(epoch(1, workers), epoch(2, 0))


def test_the_sampler_deals_out_every_index_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    seen = []
    for rank in range(2):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        sampler = EpochSampler(Augmented(Numbers(), [], length=8), seed=0)
        sampler.set_epoch(4)
        seen += list(sampler)
    assert sorted(seen) == [(4, k) for k in range(8)]


def test_writing_into_an_item_does_not_change_the_cache() -> None:
    rooms = Rooms(1, (8, 16))
    before = rooms[0]["image"].clone()
    rooms[0]["image"].zero_()
    assert torch.equal(rooms[0]["image"], before)


def test_transforms_do_not_change_the_cache() -> None:
    rooms = Rooms(1, (8, 16))
    before = rooms[0]
    data = Augmented(rooms, [ColourJitter(), AzimuthalShift(), RandomRotation()])
    data[0, 0], data[1, 0]
    assert all(torch.equal(rooms[0][key], before[key]) for key in before)


@pytest.mark.parametrize("size", [(64, 64), (64,), (0, 0), (64, 129)])
def test_sizes_other_than_2_to_1_are_refused(size: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="nlon = 2 nlat"):
        check_size(size)  # type: ignore[arg-type]
