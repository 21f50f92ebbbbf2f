"""How many images a second are read from shards, decoded, scaled and cut: what the loader alone delivers, per core.

    python benchmarks/shard_loader.py [--data SOURCE] [--kind tar parquet] [--size 256] [--batch 64] [--batches 20]
                                      [--threads 1 2] [--needed 400]

Without `--data` it writes photographs of its own into a temporary folder: smooth random pictures of 500 x 375 pixels as
JPEG files of about 50 kB, as large as the average of ImageNet, in tar shards of 64 MB and in parquet files with row
groups of 100. Batches come in the order of training. With `--needed` it prints how many cores keep that rate.
"""

import argparse
import io
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from unite_mm.contract import DataRequest
from unite_mm.training.data_order import BatchStream
from unite_mm_image.config import ImageConfig
from unite_mm_image.data.dataset import ImageData, open_data
from unite_mm_image.data.shard_writer import write_shards


def photograph(seed: int) -> bytes:
    """A JPEG file that takes about as long to decode as a photograph."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = random.integers(-12, 13, (375, 500, 1), dtype=np.int16)
    stream = io.BytesIO()
    Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=85)
    return stream.getvalue()


def made_up(folder: Path, count: int, kind: str) -> Path:
    """Shards or parquet files of made-up photographs."""
    if kind == "parquet":
        return in_parquet(folder / kind, count)
    source = folder / "photographs"
    for index in range(count):
        path = source / str(index % 10) / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photograph(index))
    write_shards(DataRequest(str(source), folder / "cache"), ImageConfig(), folder / "shards", 64_000_000)
    return folder / "shards"


def in_parquet(folder: Path, count: int) -> Path:
    """Files of 1,000 made-up photographs, as `datasets` writes them."""
    import pyarrow
    import pyarrow.parquet

    folder.mkdir()
    for start in range(0, count, 1000):
        rows = range(start, min(start + 1000, count))
        images = [{"bytes": photograph(row), "path": None} for row in rows]
        table = pyarrow.table({"image": images, "label": [row % 10 for row in rows]})
        pyarrow.parquet.write_table(table, folder / f"{start:06d}.parquet", row_group_size=100)
    return folder


def rates(data: ImageData, batch: int, batches: int) -> list[float]:
    """Images per second of each batch, in the order of training."""
    stream = BatchStream(data.size("train"), None, batch, seed=0, blocks=data.blocks("train"))
    found = []
    for step in range(batches + 1):
        start = time.perf_counter()
        data.batch("train", stream.indices(step), torch.Generator().manual_seed(step))
        found.append(batch / (time.perf_counter() - start))
    return found[1:]  # the first opens the files


def main() -> None:
    """Measure what `--data` names, or made-up photographs of every kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--kind", nargs="+", choices=["tar", "parquet"], default=["tar", "parquet"])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--images", type=int, default=1000, help="made-up photographs")
    parser.add_argument("--needed", type=float, default=400)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if arguments.data is not None:
            measure(arguments, arguments.data, Path(name) / "cache")
            return
        for kind in arguments.kind:
            measure(arguments, made_up(Path(name), arguments.images, kind), Path(name) / "cache", f"{kind}, ")


def measure(arguments: argparse.Namespace, source: Path, cache: Path, title: str = "") -> None:
    """Print a line for each number of threads."""
    config = ImageConfig(size=arguments.size, patch=1 if arguments.size % 16 else 16, lpips_weight=0)
    for threads in arguments.threads:
        data = open_data(DataRequest(str(source), cache, workers=threads), config)
        start, used = time.perf_counter(), time.process_time()
        rate = statistics.median(rates(data, arguments.batch, arguments.batches))
        busy = (time.process_time() - used) / (time.perf_counter() - start)
        each = rate / max(busy, 1e-9)
        print(
            f"{title}{threads} threads: {rate:.0f} images/s by the clock (median of {arguments.batches} batches), "
            f"{each:.0f} for each core in use; {arguments.needed:.0f} images/s take {arguments.needed / each:.1f} cores"
        )


if __name__ == "__main__":
    main()
