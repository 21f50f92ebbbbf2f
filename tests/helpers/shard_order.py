"""What ranks see of images in shards: for the tests of every kind of shard."""

from pathlib import Path

import torch

from helpers.image_files import opened
from unite_mm.contract import LatentLayout
from unite_mm.training.data_order import BatchStream
from unite_mm.training.feed import BatchFeed
from unite_mm.training.noise import Shard
from unite_mm_image.data.batch import ImageBatch
from unite_mm_schemas.config import TrainConfig

BATCH = 6


def check_order(source: Path, cache: Path) -> None:
    """One, two and three ranks see the same batches, and whoever begins in the middle of an epoch goes on with them."""
    settings = TrainConfig(batch_size=BATCH, augment=False, max_steps=1)
    layout = LatentLayout(4, 32, torch.arange(4))

    def seen(rank: int, ranks: int, steps: range) -> list[bytes]:
        data = opened(source, cache)  # anew, as in a process of its own
        feed = BatchFeed(settings, 0, data, layout, torch.device("cpu"), Shard(rank, ranks))
        found = []
        for step in steps:
            batch = feed.batch(step)
            assert isinstance(batch, ImageBatch)
            found.append(batch.pixels.numpy().tobytes())
        return found

    data = opened(source, cache)
    stream = BatchStream(data.size("train"), None, BATCH, 0, data.blocks("train"))
    epoch = stream.batches_per_epoch
    steps = range(2 * epoch)
    whole = seen(0, 1, steps)
    assert len(set(whole)) == len(whole)
    for ranks in (2, 3):
        parts = [seen(rank, ranks, steps) for rank in range(ranks)]
        assert [b"".join(part) for part in zip(*parts, strict=True)] == whole
    middle = range(epoch + epoch // 2, 2 * epoch)
    assert seen(0, 1, middle) == whole[middle.start :]
    visited = torch.cat([stream.indices(step) for step in range(epoch)])
    assert len(visited.unique()) == len(visited)
