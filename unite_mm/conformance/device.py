"""Check of tensors that are made on the wrong device, without having another device."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch

from unite_mm.conformance.elsewhere import ELSEWHERE, TwoDevices, TwoPlaces, send_away
from unite_mm.conformance.report import Finding
from unite_mm.conformance.subject import Subject
from unite_mm.conformance.values import tensors

HINT = "pass device=... of an input where a tensor is made, and keep fixed tensors in register_buffer()"


def other_device(subject: Subject) -> Iterator[Finding]:
    """Tokenizer, decoder and losses make their tensors on the device of their input, and samples come from there."""
    subject.need("terms", "outputs", "trainable")
    try:
        modules = copy.deepcopy(subject.model.modules_of(subject.name))
    except Exception:
        return  # parts that cannot be copied are no mistake
    send_away(modules)
    values = subject.latents.values
    calls: tuple[tuple[str, Callable[[dict[str, Any]], Any]], ...] = (
        ("tokenizer()", lambda made: modules.tokenizer(made["batch.to()"])),
        ("decoder()", lambda made: modules.decoder(values.to(ELSEWHERE), made["batch.to()"].registers)),
        ("losses()", lambda made: modules.losses(made["decoder()"], made["batch.to()"])),
    )
    with torch.no_grad(), TwoPlaces():  # type: ignore[no-untyped-call] # torch's
        made = {"batch.to()": subject.batch.to(ELSEWHERE)}
        for name, call in calls:
            try:
                made[name] = call(made)
            except TwoDevices as error:
                yield Finding(f"{name} mixes tensors of two devices, in {error}", HINT)
                return
            except Exception as error:
                if "same device" in str(error):
                    yield Finding(f"{name} mixes tensors of two devices: {str(error).splitlines()[0][:120]}", HINT)
                return  # or an operation that cannot be made to look as if it ran elsewhere
            left = [path for path, tensor in tensors(made[name]) if tensor.device.type == "cpu"]
            if left:
                yield Finding(f"{name} leaves {left[0]} on the CPU when its batch is elsewhere", HINT)
                return
        try:
            natives = modules.samples(made["decoder()"], made["batch.to()"].registers)
        except TwoDevices as error:
            yield Finding(f"modules.samples() mixes tensors of two devices, in {error}", HINT)
        except Exception as error:
            if "numpy" in str(error):
                yield Finding("modules.samples() turns a tensor of another device into numpy", "call .cpu() first")
            return
    left = [path for path, tensor in tensors(natives) if tensor.device == ELSEWHERE]
    if left:
        yield Finding(f"modules.samples() leaves {left[0]} on the device of the model", "call .cpu(): users write them")
