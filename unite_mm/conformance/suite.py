"""The list of all checks that load a plugin, in the order in which they build on each other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from unite_mm.conformance import (
    another,
    data,
    device,
    files,
    fragments,
    generation,
    loading,
    model,
    modules,
    natives,
    randomness,
    rows,
    scores,
    surroundings,
    views,
)
from unite_mm.conformance.report import Blocked, Finding, Outcome, as_finding, demand_of
from unite_mm.conformance.subject import Subject


@dataclass(frozen=True)
class Check:
    """A demand of the contract.

    Attributes:
        run: yields the mistakes of a subject; its docstring says what is demanded.
        provides: steps of the subject that nothing else may use if this finds a mistake.
    """

    run: Callable[[Subject], Iterator[Finding]]
    provides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.run.__name__

    @property
    def demand(self) -> str:
        """What is demanded, in one line."""
        return demand_of(self.run)

    def outcome(self, subject: Subject) -> Outcome:
        """Run the check; whatever third-party code raises becomes a finding."""
        findings: list[Finding] = []
        needs = None
        subject.checking = self.name
        try:
            for finding in self.run(subject):
                findings.append(finding)
        except Blocked as blocked:
            needs = blocked.check
        except Exception as error:
            findings.append(as_finding(error))
        if findings:
            subject.mistaken.append(self.name)
            subject.failed_steps = dict.fromkeys(self.provides, self.name) | subject.failed_steps
        return Outcome(self.name, self.demand, tuple(findings), needs)


CHECKS = (
    Check(loading.configuration, ("configuration",)),
    Check(loading.presets, ("config",)),
    Check(loading.stored_configuration, ("modality",)),
    Check(loading.implementation, ("implementation", "modality")),
    Check(loading.training_needs),
    Check(loading.sweep_metric),
    Check(data.data, ("data",)),
    Check(data.unknown_source),
    Check(modules.statistics, ("statistics",)),
    Check(modules.layout, ("modules",)),
    Check(modules.condition, ("modules",)),
    Check(modules.sizes),
    Check(data.batches, ("batch",)),
    Check(data.repeatable_batches, ("batch",)),
    Check(rows.order, ("batch", "samples")),
    Check(rows.splits),
    Check(data.devices),
    Check(model.tokens, ("tokens",)),
    Check(model.input_matters),
    Check(model.latents, ("latents", "outputs")),
    Check(model.losses, ("terms",)),
    Check(model.repeatable, ("tokens", "terms", "outputs")),
    Check(modules.start_weights),
    Check(data.native_samples, ("samples",)),
    Check(model.padding, ("unpadded",)),
    Check(natives.native_outputs, ("outputs", "unpadded")),
    Check(natives.parts),
    Check(randomness.random_numbers),
    Check(model.gradients, ("trainable",)),
    Check(device.other_device),
    Check(model.reloading),
    Check(generation.sampling_options),
    Check(generation.prior, ("prior",)),
    Check(generation.asked_condition),
    Check(generation.asked_size),
    Check(natives.conditioned, ("marked",)),
    Check(generation.generation, ("generated",)),
    Check(fragments.fragments),
    Check(generation.shipped),
    Check(files.files, ("written",)),
    Check(files.generated_files),
    Check(files.pairs),
    Check(files.refused_files),
    Check(files.pictures),
    Check(views.report_views),
    Check(scores.reconstruction_metrics),
    Check(scores.generation_metrics),
    Check(surroundings.process_state),
    Check(another.another_process),
)
