"""What belongs to the whole process, and a plugin could change for everybody."""

import locale
import os
import signal

import numpy as np
import torch


def state() -> dict[str, str]:
    """Its settings in words, by their names in a message."""
    signals = {number.name: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    return {
        "the working directory": os.getcwd(),
        "torch.get_default_dtype()": str(torch.get_default_dtype()),
        "torch.is_grad_enabled()": str(torch.is_grad_enabled()),
        "torch.get_num_threads()": str(torch.get_num_threads()),
        "torch.get_float32_matmul_precision()": torch.get_float32_matmul_precision(),
        "torch.are_deterministic_algorithms_enabled()": str(torch.are_deterministic_algorithms_enabled()),
        "torch.backends.mkldnn": str(torch.backends.mkldnn.enabled),
        "torch.backends.cudnn": f"{torch.backends.cudnn.enabled}, benchmark {torch.backends.cudnn.benchmark}",
        "numpy's handling of errors": str(np.geterr()),
        "the locale": locale.setlocale(locale.LC_ALL),
        "the handling of signals": ", ".join(
            f"{name} {getattr(how, '__name__', how)}" for name, how in signals.items()
        ),
    }
