"""Every preset the plugins ship resolves, builds its model and has the size it says."""

import pytest

from unite_mm.config import RunOptions, resolve
from unite_mm.progress import Silent
from unite_mm.registry import discover
from unite_mm.registry.build import build_network, open_modalities

SIZES = {
    "tiny": (1.0e6, 2.5e6),
    "tiny-explicit": (1.0e6, 2.5e6),
    "tiny-implicit": (1.0e6, 2.5e6),
    "small": (31e6, 38e6),
}


def test_every_preset_of_the_molecules_is_known_here():
    assert set(discover().get("qm9").presets()) == set(SIZES)


@pytest.mark.parametrize("preset", SIZES)
def test_preset_builds_a_model_of_its_size(preset, shared_cache):
    config = resolve(RunOptions(modalities=("qm9",), sources=("embedded",), preset=preset), discover())
    opened = open_modalities(config, shared_cache, Silent(), workers=1)
    modalities = {name: entry.modality for name, entry in opened.items()}
    model = build_network(config, modalities, {name: entry.statistics for name, entry in opened.items()})
    low, high = SIZES[preset]
    assert low < sum(parameter.numel() for parameter in model.parameters()) < high
