"""Where one step spends its time: by operator on a CPU, by kernel on a GPU. Used by `train_step.py --profile`."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

KERNELS = {
    "fused by the compiler": ("triton",),
    "attention": ("flash", "fmha", "attention"),
    "convolutions": ("conv", "fprop", "dgrad", "wgrad", "implicit"),
    "matrix products": ("gemm", "nvjet", "cublas", "cutlass"),
}
"""Words in the names of CUDA kernels; the first part with a match takes the kernel."""

PARTS = {"matrix products": "mm", "convolutions": "conv", "attention": "attention"}
"""A word in the names of torch's operators of each part of a step on a CPU; a compiled graph's hash may hold it too."""


def where_time_goes(work: Callable[[], Any], flops: dict[str, int], rate: Callable[[], float], repeats: int) -> None:
    """Print the time and the rate of the matrix products, convolutions and attention of a step on a CPU, and the rest.

    Then what share of the matmul rate the step would reach if that rest took no time: what no change to anything but
    torch's own kernels of the three can exceed.

    Args:
        work: makes one step.
        flops: its operations by operator.
        rate: measures the matmul rate in operations per second; asked before and after every step.
        repeats: steps; medians are printed.
    """
    spent: dict[str, list[float]] = {part: [] for part in (*PARTS, "the rest")}
    limits = []
    for _ in range(repeats):
        before = rate()
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            work()
        between = (before + rate()) / 2
        events = [(event.key, event.self_cpu_time_total / 1e6) for event in profiled.key_averages()]
        for part, word in PARTS.items():
            spent[part].append(sum(seconds for name, seconds in events if name.startswith("aten::") and word in name))
        kernels = sum(spent[part][-1] for part in PARTS)
        spent["the rest"].append(sum(seconds for _, seconds in events) - kernels)
        limits.append(sum(flops.values()) / between / kernels)
    medians = {part: statistics.median(seconds) for part, seconds in spent.items()}
    print("            part  seconds  share of time  G/s")
    for part, seconds in medians.items():
        needed = sum(count for name, count in flops.items() if part in PARTS and PARTS[part] in name)
        speed = f"{needed / seconds / 1e9:>4.0f}" if needed else ""
        print(f"{part:>16} {seconds:>8.2f} {seconds / sum(medians.values()):>14.3f} {speed}")
    readings = ", ".join(f"{limit:.3f}" for limit in sorted(limits))
    print(f"share of the matmul rate if the rest took no time: {statistics.median(limits):.3f} (of {readings})")


def where_kernels_go(work: Callable[[], Any], flops: dict[str, int]) -> None:
    """Print the time of a step's CUDA kernels by what they do, the longest of them, and how long the GPU idled.

    Args:
        work: makes one step.
        flops: its operations by operator.
    """
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        wall = time.perf_counter() - start
    events = [event for event in recorded.key_averages() if event.device_type == torch.autograd.DeviceType.CUDA]
    kernels = [(event.key, event.self_device_time_total / 1e6) for event in events]
    needed = dict.fromkeys(KERNELS, 0)
    for name, count in flops.items():
        needed["attention" if "attention" in name else "convolutions" if "conv" in name else "matrix products"] += count
    spent = dict.fromkeys([*KERNELS, "the rest"], 0.0)
    for name, seconds in kernels:
        part = next((part for part, words in KERNELS.items() if any(word in name for word in words)), "the rest")
        spent[part] += seconds
    print(f"{'part':>22}  seconds  share of time   T/s")
    for part, seconds in {**spent, "GPU idle": wall - sum(spent.values())}.items():
        rate = f"{needed[part] / seconds / 1e12:>6.0f}" if needed.get(part) and seconds else ""
        print(f"{part:>22} {seconds:>8.4f} {seconds / wall:>14.3f} {rate}")
    for name, seconds in sorted(kernels, key=lambda kernel: -kernel[1])[:25]:
        print(f"{seconds:>31.4f} {seconds / wall:>14.3f}  {name[:150]}")
