"""Checks of fragments, where a plugin takes them."""

from collections.abc import Iterator
from typing import Any

from unite_mm.conformance.report import Finding, calling
from unite_mm.conformance.subject import Subject
from unite_mm.conformance.values import alike, check_generator, other_randomness
from unite_mm.contract import Fragment, Held, Modality, PriorSample, SampleRequest
from unite_mm.errors import UniteError, UsageError
from unite_mm.sampling.fragments import check_held

TRIES = 8
"""Samples that are tried as fragments of others."""

DRAWS = 4


def fragments(subject: Subject) -> Iterator[Finding]:
    """Around a fragment, if the modality takes any, the prior has room, and generators alone decide what is held."""
    if type(subject.modality).fragment is Modality.fragment:
        return
    subject.need("prior", "samples")
    for sample in subject.samples[:TRIES]:
        drawn = _around(subject, sample)
        if drawn is None:
            continue
        fragment, priors = drawn
        found = [int(prior.mask.sum()) for prior in priors]
        if min(found) <= fragment.registers:
            yield Finding(
                f"around a fragment of {fragment.registers} registers, the prior gives {min(found)}",
                "heed `request.fragment` in prior_for(): draw more than it takes",
            )
            return
        held = []
        for other in (1, 2):
            with other_randomness(other):
                held.append(_hold(subject, fragment, priors))
            check_held(held[-1], priors)
        if not alike(held[0].mask, held[1].mask):
            yield Finding("hold() holds other registers for equal generators", "draw from these, and from nothing else")
            return


def _around(subject: Subject, sample: Any) -> tuple[Fragment, list[PriorSample]] | None:
    """A sample as a fragment, and draws around it; None where no sample is larger."""
    options = subject.modality.sampling_options()
    try:
        fragment = subject.modality.fragment(sample, subject.statistics)
        request = SampleRequest(options=options, fragment=fragment)
        priors = [subject.modules.prior_for(check_generator(seed), request) for seed in range(DRAWS)]
    except UsageError:
        return None
    if not isinstance(fragment, Fragment):
        raise UniteError(f"fragment() returns {type(fragment).__name__}", "return unite_mm.contract.Fragment")
    return fragment, priors


def _hold(subject: Subject, fragment: Fragment, priors: list[PriorSample]) -> Held:
    generators = [check_generator(seed) for seed in range(DRAWS)]
    with calling("hold()"):
        held = subject.modality.hold(fragment, priors, generators, subject.statistics)
    if not isinstance(held, Held):
        raise UniteError(f"hold() returns {type(held).__name__}", "return unite_mm.contract.Held")
    return held
