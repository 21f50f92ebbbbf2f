"""Checks of global random numbers: no part may draw from them or seed them, but for start weights."""

from collections.abc import Callable, Iterator

import torch

from unite_mm.conformance.report import Finding
from unite_mm.conformance.subject import Subject
from unite_mm.conformance.values import check_generator, other_randomness, random_states


def random_numbers(subject: Subject) -> Iterator[Finding]:
    """No part draws from the global random numbers or seeds them; start weights alone come from torch's."""
    subject.need("terms", "outputs", "samples")
    batch, modules = subject.batch, subject.modules
    output = subject.decode(subject.latents.values, batch)
    calls: tuple[tuple[str, Callable[[], object]], ...] = (
        ("data.batch()", lambda: subject.new_batch(subject.indices, check_generator(0))),
        ("tokenizer()", lambda: subject.tokenize_input(batch)),
        ("decoder()", lambda: subject.decode(subject.latents.values, batch)),
        ("losses()", lambda: subject.losses(output, batch)),
        ("modules.samples()", lambda: subject.natives(output, batch.registers)),
        ("encode_samples()", lambda: subject.modality.encode_samples(subject.samples, subject.statistics)),
        ("prior()", lambda: modules.prior(check_generator(0), None)),
    )
    for name, call in calls:
        with other_randomness(3):
            before = random_states()
            call()
            after = random_states()
        for library in before:
            if before[library] != after[library]:
                yield Finding(
                    f"{name} seeds or draws from {library}'s global random numbers",
                    "leave them alone: draw from the generator that is given, or from one of your own",
                )
    yield from _seeded_build(subject)


def _seeded_build(subject: Subject) -> Iterator[Finding]:
    """What is left after building from two seeds must differ: otherwise something inside has seeded."""
    left: list[bytes] = []
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            subject.build_modules()
            left.append(torch.get_rng_state().numpy().tobytes())
    if left[0] == left[1]:
        yield Finding(
            "build_modules() seeds torch's global random numbers: every run would begin with the same weights",
            "leave out torch.manual_seed: `train.seed` decides the start weights",
        )
