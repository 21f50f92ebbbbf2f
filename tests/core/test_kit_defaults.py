"""The ready-made parts for plugins."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unite_mm.contract import Registers
from unite_mm.errors import UniteError
from unite_mm.kit.defaults import InMemoryData, RegisterDecoder, TensorBatch
from unite_mm_schemas.card import Exclusion


@dataclass(frozen=True)
class WordBatch(TensorBatch):
    letters: Tensor
    registers: Registers
    condition: Tensor | None
    origin: str = "here"


def pack(words: Sequence[str], conditions: Tensor | None) -> WordBatch:
    counts = torch.tensor([len(word) for word in words])
    letters = torch.nn.utils.rnn.pad_sequence([torch.tensor(list(word.encode())) for word in words], batch_first=True)
    return WordBatch(letters, Registers.from_counts(counts), conditions)


def words(last: str = "eft", label: int = 1) -> InMemoryData:
    parts = {
        "train": (["a", "bee", "cat", last], torch.tensor([0, 1, 0, label])),
        "validation": (["dog"], torch.tensor([1])),
        "test": ([], torch.tensor([], dtype=torch.int64)),
    }
    return InMemoryData("words", parts, pack, str.encode, "few", "a few words", len)


def test_a_batch_goes_to_a_device_whole() -> None:
    batch = pack(["ab", "c"], None)
    moved = batch.to(torch.device("meta"))
    assert moved.letters.is_meta and moved.registers.mask.is_meta and moved.registers.padded
    assert moved.condition is None and moved.origin == "here"
    assert not batch.letters.is_meta
    assert pack(["ab"], torch.tensor([1])).to(torch.device("meta")).condition.is_meta


def test_data_are_given_by_index() -> None:
    data = words()
    assert [data.size(split) for split in ("train", "validation", "test")] == [4, 1, 0]
    lengths = data.lengths("train")
    assert lengths is not None and lengths.tolist() == [1, 3, 3, 3]
    assert data.samples("train", torch.tensor([3, 0])) == ["eft", "a"]
    batch = data.batch("train", torch.tensor([1, 0]))
    assert batch.condition is not None and batch.condition.tolist() == [1, 0]
    assert batch.registers.mask.tolist() == [[True] * 3, [True, False, False]]
    assert (data.card.read, data.card.kept, data.description) == (5, 5, "a few words")


def test_lengths_and_conditions_may_be_absent() -> None:
    data = InMemoryData("words", {"train": (["a"], None)}, pack, str.encode, "few", "a word")
    assert data.lengths("train") is None
    assert data.batch("train", torch.tensor([0])).condition is None


@pytest.mark.parametrize("split", ["test", "validation"])
@pytest.mark.parametrize("empty", [([], torch.tensor([], dtype=torch.int64)), ([], None), None])
def test_an_empty_split_has_lengths_of_whole_numbers(split: str, empty: object) -> None:
    parts = {"train": (["a"], None)} | ({} if empty is None else {split: empty})
    data = InMemoryData("words", parts, pack, str.encode, "few", "a word", len)
    lengths = data.lengths(split)
    assert lengths is not None and (lengths.dtype, lengths.shape, data.size(split)) == (torch.int64, (0,), 0)
    assert data.samples(split, torch.tensor([], dtype=torch.int64)) == []
    assert data.card.splits == {"train": 1, "validation": 0, "test": 0}


def test_the_card_states_files_and_what_was_left_out(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("a bee")
    left_out = (Exclusion(reason="no word", count=2), Exclusion(reason="too long", count=1))
    parts = {"train": (["a", "bee"], None)}
    card = InMemoryData("w", parts, pack, str.encode, "few", "words", len, files=[file], excluded=left_out).card
    assert (card.read, card.kept, card.excluded) == (5, 2, left_out)
    assert [(entry.name, entry.bytes, len(entry.sha256)) for entry in card.files] == [("words.txt", 5, 64)]


def test_samples_are_augmented_by_the_generator_alone() -> None:
    def augment(word: str, generator: torch.Generator) -> str:
        return word * int(torch.randint(1, 4, (), generator=generator))

    data = InMemoryData("w", {"train": (["a"] * 8, None)}, pack, str.encode, "few", "words", len, augment=augment)
    rows = torch.arange(8)
    plain, *drawn = (
        data.batch("train", rows, seed if seed is None else torch.Generator().manual_seed(seed)).registers.mask.sum(1)
        for seed in (None, 1, 1, 2)
    )
    assert plain.tolist() == [1] * 8
    assert drawn[0].tolist() == drawn[1].tolist() != drawn[2].tolist()
    assert data.samples("train", rows) == ["a"] * 8


def test_its_parts_can_be_reached_and_must_fit() -> None:
    data = words()
    labels = data.conditions("train")
    assert labels is not None and labels.tolist() == [0, 1, 0, 1]
    assert data.parts["validation"][0] == ["dog"]
    with pytest.raises(UniteError, match="'train' of few has 2 samples and 1 conditions"):
        InMemoryData("w", {"train": (["a", "b"], torch.tensor([1]))}, pack, str.encode, "few", "words")


@pytest.mark.parametrize("other", [{"last": "elk"}, {"label": 0}], ids=["sample", "condition"])
def test_the_hash_tells_other_data(other: dict[str, int]) -> None:
    assert words().card.split_hash == words().card.split_hash
    assert words().card.split_hash != words(**other).card.split_hash


def test_a_decoder_ignores_what_stands_on_unused_registers() -> None:
    torch.manual_seed(0)
    decoder = RegisterDecoder(3, 16, outputs=5, depth=1, heads=2)
    latents = torch.randn(2, 4, 3)
    registers = Registers.from_counts(torch.tensor([4, 2]))
    out = decoder(latents, registers)
    assert out.shape == (2, 4, 5) and out.dtype == torch.float32
    alone = decoder(latents[1:, :2], Registers.from_counts(torch.tensor([2])))
    torch.testing.assert_close(out[1:, :2], alone)
    assert not torch.allclose(out[0, :2], decoder(latents[:1, :2], Registers.from_counts(torch.tensor([2])))[0])
