"""What an importer returns: optional, for plugins that read foreign checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from unite_mm.contract.model import Statistics
from unite_mm_schemas.config import RunConfig


@dataclass(frozen=True)
class Imported:
    """What an importer makes of a file.

    Attributes:
        config: a run configuration that builds the model.
        statistics: each modality's facts of its training data.
        state: all tensors of our model by our names.
        step: optimizer steps of the training, 0 where unknown.
        notes: what the user must know: what was left out, what was assumed.
    """

    config: RunConfig
    statistics: Mapping[str, Statistics]
    state: dict[str, Tensor]
    step: int = 0
    notes: tuple[str, ...] = ()
