"""Where one step spends its time: by operator on a CPU, by kernel on a GPU. Used by `train_step.py --profile`."""

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


def where_time_goes(work: Callable[[], Any], flops: dict[str, int]) -> None:
    """Print the time and the rate of the matrix products, convolutions and attention of a step on a CPU, and the rest.

    Args:
        work: makes one step.
        flops: its operations by operator.
    """
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        work()
    left = total = sum(event.self_cpu_time_total for event in profiled.key_averages()) / 1e6
    print("            part  seconds  share of time  G/s")
    for part, word in {"matrix products": "mm", "convolutions": "conv", "attention": "attention"}.items():
        seconds = sum(e.self_cpu_time_total for e in profiled.key_averages() if word in e.key) / 1e6
        needed = sum(count for name, count in flops.items() if word in name)
        left -= seconds
        print(f"{part:>16} {seconds:>8.2f} {seconds / total:>14.3f} {needed / seconds / 1e9:>4.0f}")
    print(f"{'the rest':>16} {left:>8.2f} {left / total:>14.3f}")


def where_kernels_go(work: Callable[[], Any], flops: dict[str, int]) -> None:
    """Print the time of a step's CUDA kernels by what they do, the longest of them, and how long the GPU idled.

    Arguments as those of `where_time_goes`.
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
