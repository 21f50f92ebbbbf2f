"""One pass over the training data between two stages of a run, shared among its processes.

Dimensions: B batch, C latent channels.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unite_mm.contract import Batch, ModalityData
from unite_mm.model.network import Network
from unite_mm.progress import Progress
from unite_mm.random_streams import Stream, stream_generator
from unite_mm.training.distribution import Ranks
from unite_mm.training.layout import Whole
from unite_mm.training.noise import Shard, StepNoise
from unite_mm_schemas.config import TrainConfig


@dataclass(frozen=True)
class TrainingPass:
    """The training split of every modality, sample by sample, without augmentation.

    Attributes:
        data: of each modality, in the order of the run.
        network: what sees it.
        settings: of the run: seed and size of batches.
        ranks: its processes; each sees every so manieth batch.
        progress: where to show it.
        layout: where the network's weights lie; they are whole during a pass, whose processes see unequal numbers of
            batches.
    """

    data: Mapping[str, ModalityData]
    network: Network
    settings: TrainConfig
    ranks: Ranks
    progress: Progress
    layout: Whole = field(default_factory=Whole)

    def batches(self, modality: str, title: str) -> Iterator[tuple[Batch, StepNoise]]:
        """This process's batches, with random numbers that depend on the batch alone.

        Args:
            modality: whose data.
            title: what is shown beside the progress.
        """
        data, shard = self.data[modality], self.ranks.shard
        number = list(self.data).index(modality)
        lengths = data.lengths("train")
        order = torch.arange(data.size("train")) if lengths is None else torch.argsort(lengths, stable=True)
        layout = self.network.modules_of(modality).layout
        with self.layout.gathered(), self.progress.task(title, len(order)) as advance:
            for index, chosen in enumerate(order.split(self.settings.batch_size)):
                if index % shard.ranks == shard.rank:
                    batch = data.batch("train", chosen).to(self.network.device)
                    generator = stream_generator(
                        Stream.STAGE_PASS, self.settings.seed, number, index, device=self.network.device
                    )
                    yield batch, StepNoise(generator, len(chosen), layout, Shard())
                advance(len(chosen))

    def moments(self, total: Tensor, squares: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (C,) over all processes.

        Args:
            total: sum (C,) of this process, float64.
            squares: sum of squares (C,), likewise.
            count: how many (1,), likewise.
        """
        joined = self.ranks.sum(torch.cat((total, squares, count)))
        total, squares, count = joined[: len(total)], joined[len(total) : -1], joined[-1]
        mean = total / count
        return mean.float(), (squares / count - mean.square()).clamp_min(0).sqrt().float()
