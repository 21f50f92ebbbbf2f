"""What molecules and images add to the regimes: the nats of their reconstructions."""

import torch

from unite_mm.contract import LossTerm
from unite_mm_image.config import ImageConfig
from unite_mm_image.data.batch import ImageBatch
from unite_mm_image.model.modules import ImageModules
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.model.losses import reconstruction_nats


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
