"""Batches and random numbers of every step; beside a GPU the next batch is prepared while the current one is used."""

from concurrent.futures import Future, ThreadPoolExecutor, wait

import torch

from unite_mm.contract import Batch, LatentLayout, ModalityData
from unite_mm.random_streams import Stream, stream_generator, to_stream
from unite_mm.training.data_order import BatchStream
from unite_mm.training.noise import Shard, StepNoise
from unite_mm_schemas.config import TrainConfig


class BatchFeed:
    """What one rank sees of one modality: a pure function of the step, so that preparing ahead changes nothing.

    Args:
        config: seed, size of the joined batch, augmentation.
        number: of the modality.
        data: its data.
        layout: its registers.
        device: where to put batches. Only beside a CUDA device is anything prepared ahead: on a CPU it would take
            cores from the step.
        shard: this rank's part.
    """

    def __init__(
        self,
        config: TrainConfig,
        number: int,
        data: ModalityData,
        layout: LatentLayout,
        device: torch.device,
        shard: Shard,
    ) -> None:
        self.config = config
        self.number = number
        self.data = data
        self.layout = layout
        self.device = device
        self.shard = shard
        size, lengths, blocks = data.size("train"), data.lengths("train"), data.blocks("train")
        self.stream = BatchStream(size, lengths, config.batch_size, config.seed, blocks)
        self._generator = torch.Generator(device)
        self._helper: ThreadPoolExecutor | None = None
        self._copies: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._copies = torch.cuda.Stream(device)
            # A thread begins on the first GPU, where every other rank would open a context for nothing.
            self._helper = ThreadPoolExecutor(1, initializer=torch.cuda.set_device, initargs=(self._copies.device,))
        self._ahead: tuple[int, Future[Batch]] | None = None
        self._held: list[Batch] = []

    def batch(self, step: int) -> Batch:
        """This rank's batch of optimizer step `step` (0-based): B / ranks samples, on the device.

        Valid until the second call after this one, if the caller waits for its use once between two calls.

        Raises:
            UniteError: what the plugin raises when a sample is unavailable.
        """
        if self._helper is None:
            return self._prepare(step)
        expected, future = self._ahead or (step, self._helper.submit(self._prepare, step))
        self._ahead = None
        if expected != step:
            wait([future])
            future = self._helper.submit(self._prepare, step)
        batch = future.result()
        self._ahead = (step + 1, self._helper.submit(self._prepare, step + 1))
        # The memory belongs to the stream of copies, which may reuse it once it is free. Two batches are held: by the
        # time the older one goes, the check of the gradient's norm has waited for everything that read it.
        self._held = [*self._held[-1:], batch]
        return batch

    def settle(self) -> None:
        """Wait until nothing is being prepared: no plugin is asked for two batches at once."""
        if self._ahead is not None:
            wait([self._ahead[1]])

    def noise(self, step: int) -> StepNoise:
        """The random numbers of optimizer step `step`, valid until the next call: all come from one generator."""
        config = self.config
        generator = to_stream(self._generator, Stream.TRAINING_NOISE, config.seed, step, self.number)
        return StepNoise(generator, config.batch_size, self.layout, self.shard)

    def _prepare(self, step: int) -> Batch:
        config = self.config
        augment = None
        if config.augment:
            augment = stream_generator(Stream.AUGMENTATION, config.seed, step, self.number, self.shard.rank)
        batch = self.data.batch("train", self.shard.cut(self.stream.indices(step)), augment)
        with torch.cuda.stream(self._copies):  # None: as it is
            batch = batch.to(self.device)
        if self._copies is not None:
            self._copies.synchronize()
        return batch
