"""The contract between the core and a modality plugin: the only types both sides know.

A plugin's manifest names a configuration model and a subclass of `Modality`. `Modality` knows data, files, pictures and
metrics; the `ModalityModules` it builds are the parts of the model that belong to the modality. Nothing else is asked
of a plugin. Each demand is also a check (`unite_mm.conformance`) that `unite-mm plugins check` and `unite_mm.testing`
run.

`model` holds the parts of the model and what passes between them and the core, `condition` conditions, `data` data sets
and requests for them, `metrics` what sweeps compare, `modality` the class that ties all together, and `optional` what
of it may be left out. Optional are also `fragments`, what samples grow around, `targets`, what probes look for,
`importers`, what foreign checkpoints become, `teacher`, what describes inputs without being trained, and `views`, what
the HTML report shows of samples.

Dimensions: B batch, T input tokens, W width of the trunk, K registers of the layout, L registers of a batch (L <= K),
C latent channels, M numbers of a condition.
"""

from unite_mm.contract.condition import ConditionSpec
from unite_mm.contract.data import SPLITS, DataRequest, ModalityData, Reference
from unite_mm.contract.fragments import Fragment, Held
from unite_mm.contract.importers import Imported
from unite_mm.contract.metrics import SweepMetric
from unite_mm.contract.modality import Modality
from unite_mm.contract.model import (
    Batch,
    LatentLayout,
    LossTerm,
    ModalityModules,
    PriorSample,
    Registers,
    SampleRequest,
    Statistics,
    Tokens,
)
from unite_mm.contract.optional import OptionalParts
from unite_mm.contract.targets import Targets
from unite_mm.contract.teacher import Teacher
from unite_mm.contract.views import ReportViews
from unite_mm_schemas.manifest import CONTRACT_VERSION

__all__ = [
    "CONTRACT_VERSION",
    "SPLITS",
    "Batch",
    "ConditionSpec",
    "DataRequest",
    "Fragment",
    "Held",
    "Imported",
    "LatentLayout",
    "LossTerm",
    "Modality",
    "ModalityData",
    "ModalityModules",
    "OptionalParts",
    "PriorSample",
    "Reference",
    "Registers",
    "ReportViews",
    "SampleRequest",
    "Statistics",
    "SweepMetric",
    "Targets",
    "Teacher",
    "Tokens",
]
