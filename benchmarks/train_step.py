"""The training step of an image model against a plain reading of the method: time, memory, share of the matmul rate.

    python benchmarks/train_step.py [--preset imagenet256-base] [--batch 1] [--draws 1 3 14] [--chunk N] [--repeats 3]
                                    [--precision float32 bf16] [--step plain ours] [--device cpu] [--threads N]
                                    [--no-compile] [--record] [--no-lpips] [--no-memory] [--optimizer] [--profile]

For each number of flow minibatches it times forward and backward passes of four kinds in turn, so that a noisy machine
disturbs all alike: `plain` (all minibatches in one graph, `plain_step.py`) and `ours` (the joint recipe),
each in float32 and in bf16 autocast, compiled where the preset says so, as many minibatches in a pass as it says.
Pixels and the VGG of LPIPS are random; what follows the gradients, the same for both, is left out (`--optimizer` times
it by itself). First it compares their gradients. `needed` counts the operations of `ours` (nothing is computed twice
there); `share` is what they would take at the matrix product's rate, measured before every step, over the time taken.
`peak` is the resident memory of a process that makes two such steps (CPU; `--no-memory` leaves it out), or the memory
that the step's tensors take (CUDA). `--profile` shows where more steps of ours spend their time and, on a CPU,
what share they would reach if all but products, convolutions and attention took none.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from typing import Any

import memory
import torch
from plain_step import plain_backward
from step_profile import where_kernels_go, where_time_goes

from unite_mm.config import RunOptions, resolve
from unite_mm.registry import discover
from unite_mm.registry.build import build_network, load_modalities
from unite_mm.training import operations
from unite_mm.training.allocator import keep_freed_memory
from unite_mm.training.ema import EMA
from unite_mm.training.noise import Shard, StepNoise
from unite_mm.training.optim import Optimizers
from unite_mm.training.recipes.joint import JointRecipe
from unite_mm.training.recording import RecordedGradients, Recorder
from unite_mm_image.data.batch import ImageBatch
from unite_mm_image.model.perceptual import build_lpips

STEPS = ("plain", "ours")
PRECISIONS = ("float32", "bf16")
CPU_SIZES, GPU_SIZES, SUSTAINED = (1024, 2048), (4096, 8192), 0.5
"""Rows of the matrices whose products are timed, and for how many seconds of each size."""


def build(args: argparse.Namespace, draws: int) -> tuple[JointRecipe, ImageBatch]:
    """The joint recipe on the preset's network with random weights, and a batch of random pixels."""
    assignments = [f"flow.draws={draws}", "train.max_steps=1"]
    assignments += [] if args.chunk is None else [f"flow.chunk={args.chunk}"]
    assignments += [] if args.compile is None else [f"train.compile={str(args.compile).lower()}"]
    assignments += ["image.lpips_weight=0"] * args.no_lpips
    config = resolve(RunOptions(modalities=("image",), preset=args.preset, assignments=tuple(assignments)), discover())
    classes = [str(index) for index in range(1000)]
    modalities = load_modalities(config)
    network = build_network(config, modalities, {"image": {"classes": classes, "class_counts": [1] * 1000}})
    network.to(args.device).train()
    own = modalities["image"].config
    if not args.no_lpips:
        network.modules_of("image").perceptual.network = build_lpips(random_vgg())
    pixels = torch.rand(args.batch, own.colour_channels, own.size, own.size)
    labels = torch.randint(1000, (args.batch,))
    return JointRecipe(config, network), ImageBatch.of(pixels, own.registers, labels).to(torch.device(args.device))


def random_vgg() -> dict[str, torch.Tensor]:
    """Random weights under the names of torchvision's VGG16 (variance-preserving, so that nothing overflows)."""
    from unite_mm_image.torchvision_import import import_torchvision

    import_torchvision()
    from torchvision.models import vgg16

    return {name: value for name, value in vgg16(weights=None).state_dict().items() if name.startswith("features.")}


def one_step(
    kind: str, precision: str, recipe: JointRecipe, batch: ImageBatch, recorded: RecordedGradients | None = None
) -> None:
    """Gradients of one step, from nothing; `recorded` replays those of ours, which then stay where they are."""
    device = batch.pixels.device
    generator = _generator(device).manual_seed(0)
    noise = StepNoise(generator, len(batch.pixels), recipe.network.modules_of("image").layout, Shard())
    recipe.network.zero_grad(set_to_none=recorded is None)

    def autocast() -> Any:
        return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()

    if kind == "plain":
        plain_backward(recipe, "image", batch, noise, autocast=autocast)
    else:
        (recorded or recipe.backward)("image", batch, noise, autocast)


@cache
def _generator(device: torch.device) -> torch.Generator:
    """The one that recordings draw from."""
    return torch.Generator(device)


def timed(work: Callable[[], Any], device: str) -> float:
    """Seconds of one call."""
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def matmul_rate(precision: str, device: str) -> float:
    """Operations per second of square matrix products, sustained for some time: the better of two sizes.

    Sustained, because a shared processor's clock changes within seconds, and a step lasts longer than one product.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    best = 0.0
    for size in CPU_SIZES if device == "cpu" else GPU_SIZES:
        left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        left @ right
        taken: list[float] = []
        while sum(taken) < SUSTAINED:
            taken.append(timed(lambda left=left, right=right: left @ right, device))
        best = max(best, 2 * size**3 * len(taken) / sum(taken))
    return best


def difference(recipe: JointRecipe, batch: ImageBatch, precision: str) -> float:
    """Norm of the difference of both steps' gradients over the norm of the gradient."""
    found = []
    for kind in STEPS:
        one_step(kind, precision, recipe, batch)
        found.append([p.grad.clone() for p in recipe.network.parameters() if p.grad is not None])
    apart = sum(float((a - b).square().sum()) for a, b in zip(*found, strict=True))
    return (apart / sum(float(a.square().sum()) for a in found[0])) ** 0.5


def peak_memory(args: argparse.Namespace, kind: str, precision: str, draws: int) -> float:
    """Peak of a process of its own, in MiB."""
    own = ["--one", kind, precision, str(draws), "--preset", args.preset, "--batch", str(args.batch)]
    own += ["--device", "cpu", "--threads", str(args.threads)]
    own += [] if args.chunk is None else ["--chunk", str(args.chunk)]
    own += [] if args.compile is None else ["--compile" if args.compile else "--no-compile"]
    own += ["--no-lpips"] * args.no_lpips
    result = subprocess.run([sys.executable, __file__, *own], check=True, capture_output=True, text=True)
    return float(result.stdout.split()[-1])


def measure_one(args: argparse.Namespace) -> float:
    """What `peak_memory` runs: two steps, then this process's peak in MiB."""
    kind, precision, draws = args.one
    recipe, batch = build(args, int(draws))
    if recipe.config.train.compile:
        recipe.network.compile_for_training()
    for _ in range(2):
        one_step(kind, precision, recipe, batch)
    return memory.own_peak()


def compare(args: argparse.Namespace, draws: int) -> None:
    """The table of one number of flow minibatches."""
    recipe, batch = build(args, draws)
    first = args.precision[0]
    with operations.counter() as counter:
        one_step("ours", first, recipe, batch)
    needed = counter.get_total_flops()
    if recipe.config.train.compile:  # not earlier: blocks that ran under the counter would never be compiled
        recipe.network.compile_for_training()
    apart = f"{difference(recipe, batch, first):.1e}" if len(args.step) > 1 else "-"
    recorded = RecordedGradients(recipe, lambda: Recorder(batch.pixels.device)) if args.record else None
    ways = [(kind, precision) for precision in args.precision for kind in args.step]
    taken: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    rates: dict[str, list[float]] = {precision: [] for precision in args.precision}
    peaks = {way: warm_up(args, way, recipe, batch, draws, recorded) for way in ways}
    for _ in range(args.repeats):
        for way in ways:
            rates[way[1]].append(matmul_rate(way[1], args.device))
            taken[way].append(timed(lambda way=way: one_step(*way, recipe, batch, recorded), args.device))
    flow = f"{draws} flow minibatches, {recipe.config.flow.chunk} in a pass, " + "recorded, " * args.record
    flow += "not " * (not recipe.config.train.compile)
    print(f"\n{flow}compiled: {needed / 1e12:.3f} T operations needed, gradients apart by {apart}")
    reference = statistics.median(taken[ways[0]])
    print("  step precision  seconds images/s  speed matmul G/s  share peak MiB")
    for kind, precision in ways:
        seconds, rate = statistics.median(taken[kind, precision]), statistics.median(rates[precision])
        print(
            f"{kind:>6} {precision:>9} {seconds:>8.3f} {args.batch / seconds:>8.3f} {reference / seconds:>6.2f} "
            f"{rate / 1e9:>10.0f} {needed / rate / seconds:>6.3f} {peaks[kind, precision]:>8}",
            flush=True,
        )
    if args.optimizer and "ours" in args.step:
        more = optimizer_seconds(args, recipe)
        whole = statistics.median(taken["ours", args.precision[-1]]) + more
        print(f"clipping, optimizers and average of the weights: {more:.3f} s more")
        print(f"a whole step of ours in {args.precision[-1]}: {args.batch / whole:.3f} images/s")
    if args.profile:
        print(f"where the time of our {first} step goes:")
        counts = {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}

        def work() -> None:
            one_step("ours", first, recipe, batch, recorded)

        if args.device == "cpu":
            where_time_goes(work, counts, lambda: matmul_rate(first, args.device), args.repeats)
        else:
            where_kernels_go(work, counts)


def warm_up(
    args: argparse.Namespace,
    way: tuple[str, str],
    recipe: JointRecipe,
    batch: ImageBatch,
    draws: int,
    recorded: RecordedGradients | None,
) -> str:
    """Make steps that are not timed; returns the peak memory of such steps in MiB, or a dash."""
    for _ in range(3 if recorded else 1):  # the third is recorded
        one_step(*way, recipe, batch, recorded)
    if args.device == "cpu":
        return "-" if args.no_memory else f"{peak_memory(args, *way, draws):.0f}"
    torch.cuda.reset_peak_memory_stats()
    one_step(*way, recipe, batch, recorded)
    used = torch.cuda.max_memory_reserved if recorded else torch.cuda.max_memory_allocated  # a recording keeps its pool
    return f"{used() / 2**20:.0f}"


def optimizer_seconds(args: argparse.Namespace, recipe: JointRecipe) -> float:
    """Median seconds of what the trainer does after the gradients of a step."""
    settings = recipe.config.optim
    optimizers = Optimizers(recipe.groups(), settings)
    optimizers.set_rates(1e-3)
    ema = EMA(optimizers.named(recipe.network), settings.ema, ramp=False)

    def work() -> None:
        torch.nn.utils.clip_grad_norm_(optimizers.parameters, settings.clip)
        optimizers.step()
        ema.update()

    for parameter in optimizers.parameters:
        parameter.grad = torch.randn_like(parameter)
    work()
    return statistics.median(timed(work, args.device) for _ in range(args.repeats))


def main() -> None:
    """Measure each number of flow minibatches and print a table of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="imagenet256-base")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--draws", type=int, nargs="+", default=[1, 3, 14])
    parser.add_argument("--chunk", type=int, help="flow minibatches of ours in one pass; the preset's if left out")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--step", nargs="+", choices=list(STEPS), default=list(STEPS), help="which of the two")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="the preset's choice if left out")
    parser.add_argument("--record", action="store_true", help="record ours as a CUDA graph, as train.cuda_graphs does")
    parser.add_argument("--no-lpips", action="store_true", help="leave the perceptual loss out")
    parser.add_argument("--optimizer", action="store_true", help="time what follows the gradients as well")
    parser.add_argument("--profile", action="store_true", help="show where the time goes, at the first precision")
    parser.add_argument("--no-memory", action="store_true", help="measure no memory (CPU)")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.record and (args.device == "cpu" or args.step != ["ours"] or len(args.precision) > 1):
        parser.error("--record goes with a CUDA device, --step ours and one --precision")
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    if args.one is not None:
        print(measure_one(args))
        return
    print(f"{args.preset}, batch {args.batch}, {args.device}, {args.threads} threads, medians of {args.repeats}")
    for draws in args.draws:
        compare(args, draws)


if __name__ == "__main__":
    main()
