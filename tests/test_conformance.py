"""The modalities of this repository keep the contract, by the suite that every plugin's author gets."""

import pytest
import torch

from unite_mm.testing import ConformanceSuite


class TestPoints(ConformanceSuite):
    modality = "points"


class TestPointsWithoutClasses(ConformanceSuite):
    modality = "points"
    settings = ("points.classes=false", "regime.shared_weights=false")
    source = "ring"


class TestMolecules(ConformanceSuite):
    modality = "qm9"


class TestMoleculesWithoutHydrogens(ConformanceSuite):
    modality = "qm9"
    preset = "tiny-implicit"


class TestImages(ConformanceSuite):
    modality = "image"
    settings = ("image.lpips_weight=0", "image.size=16")

    @pytest.fixture(autouse=True)
    def _no_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Weights of the networks that score are not fetched."""

        def refuse(*_args: object, **_kwargs: object) -> None:
            raise OSError("no network in tests")

        monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
