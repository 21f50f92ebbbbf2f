"""The modalities of this repository keep the contract, by the suite that every plugin's author gets."""

import urllib.request
from pathlib import Path

import pytest
from helpers.molecule_files import named_sdf

from unite_mm.testing import ConformanceSuite


class TestPoints(ConformanceSuite):
    modality = "points"


class TestPointsWithoutClasses(ConformanceSuite):
    modality = "points"
    settings = ("points.classes=false", "regime.kind=separate")
    source = "ring"


@pytest.fixture(scope="module")
def few_molecules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a dozen molecules: the embedded set takes long to prepare."""
    path = tmp_path_factory.mktemp("molecules") / "few.sdf"
    path.write_text(named_sdf())
    return path


class TestMolecules(ConformanceSuite):
    modality = "qm9"

    @pytest.fixture(autouse=True)
    def _few(self, few_molecules: Path) -> None:
        type(self).source = str(few_molecules)


class TestMoleculesOfYourOwn(TestMolecules):
    modality = "molecule"


class TestMoleculesWithoutHydrogens(TestMolecules):
    preset = "tiny-implicit"


class TestImages(ConformanceSuite):
    modality = "image"
    settings = ("image.lpips_weight=0", "image.size=16")

    @pytest.fixture(autouse=True)
    def _no_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The weights of the networks that score are not fetched."""

        def refuse(*_args: object, **_kwargs: object) -> None:
            raise OSError("no network in tests")

        monkeypatch.setattr(urllib.request, "urlopen", refuse)
