"""Checks of the forward passes: tokens, latents, decoder, losses, and what must not change any of them."""

import math
from collections.abc import Iterator
from itertools import combinations

import torch
from torch import Tensor

from unite_mm.api import UNITE
from unite_mm.conformance.modules import INTEGERS
from unite_mm.conformance.report import Finding
from unite_mm.conformance.subject import Subject
from unite_mm.conformance.values import alike, check_generator, difference, left_alone, shape
from unite_mm.contract import LossTerm, Tokens
from unite_mm.errors import UniteError
from unite_mm.registry.build import build_network
from unite_mm.training.noise import Shard, StepNoise
from unite_mm.training.recipes.joint import JointRecipe

DISTINCT = 16
"""Training samples whose tokens are compared."""

TOLERANCE = 1e-3
"""Rounding that differs with the size of a batch, relative to the largest number."""

ROUNDING = 1e-5
"""Likewise for the very same computation: sums over threads may differ in their order."""

OUTSIDE = "put layers into nn.ModuleList or nn.ModuleDict, not into a plain list or dict, and tensors into nn.Parameter"

KEPT = "keep all that was learned in parameters or buffers, and build the rest from configuration and statistics"

LEAK = "mask whatever is averaged, summed, normalised or attended to, and use no batch norm"


def tokens(subject: Subject) -> Iterator[Finding]:
    """The tokenizer returns tokens of the trunk's width, their positions, and a boolean mask where some are padding."""
    found, count, width = subject.tokens, len(subject.indices), subject.config.trunk.width
    if not isinstance(found, Tokens):
        raise UniteError(f"tokenizer() returns {type(found).__name__}", "return unite_mm.contract.Tokens")
    values = found.values
    if not isinstance(values, Tensor) or values.dim() != 3 or not values.is_floating_point():
        raise UniteError(f"the tokens are {shape(values)}, not float (B, T, W)", "return one row of tokens per sample")
    if len(values) != count or values.shape[2] != width:
        raise UniteError(
            f"the tokens are {shape(values)}, not (B, T, W) with B = {count} and W = {width}",
            "W is the `width` that build_modules() is given",
        )
    if not bool(values.isfinite().all()):
        yield Finding("the tokens hold numbers that are not finite", "look for divisions by zero, or scale the input")
    length, positions, mask = values.shape[1], found.positions, found.mask
    if not isinstance(positions, Tensor) or positions.shape != (length,) or positions.dtype not in INTEGERS:
        yield Finding(
            f"tokens.positions is {shape(positions)}, not integers (T,) with T = {length}",
            "give each token a rotary position, the same for the whole batch, such as torch.arange(T)",
        )
    elif subject.config.trunk.pointer_bias and not bool(torch.isin(positions, subject.modules.layout.positions).any()):
        yield Finding(
            "trunk.pointer_bias is set, but no token has the position of a register",
            "give tokens that stand for a register its position; where none does, set trunk.pointer_bias: 0",
        )
    if mask is not None and (not isinstance(mask, Tensor) or mask.dtype != torch.bool):
        yield Finding(f"tokens.mask is {shape(mask)}, not boolean", "True for real tokens; None when all are")
    elif mask is not None and mask.shape != (count, length):
        yield Finding(f"tokens.mask is {shape(mask)}, not (B, T) = ({count}, {length})", "one entry for each token")


def input_matters(subject: Subject) -> Iterator[Finding]:
    """Different samples give different tokens."""
    subject.need("tokens")
    size = subject.data.size("train")
    rows = torch.linspace(0, size - 1, min(size, DISTINCT)).long()
    found = [subject.tokenize_input(subject.new_batch(row[None])).values for row in rows]
    pairs = [(left, right) for left, right in combinations(found, 2) if left.shape == right.shape]
    if pairs and all(torch.equal(left, right) for left, right in pairs):
        yield Finding(
            f"the tokens of {len(found)} different samples are the same: the tokenizer ignores its input",
            "make the tokens from the tensors of the batch",
        )


def latents(subject: Subject) -> Iterator[Finding]:
    """The trunk turns the tokens into finite latents of the layout's channels, and the decoder into native samples."""
    found, layout, count = subject.latents.values, subject.modules.layout, len(subject.indices)
    registers = subject.batch.registers.mask.shape[1]
    if found.shape != (count, registers, layout.channels) or not bool(found.isfinite().all()):
        yield Finding(
            f"the latents are {shape(found)}, not finite ({count}, {registers}, {layout.channels})",
            "the layout, the registers of the batch and the tokens do not fit together",
        )
    outputs = subject.outputs
    if not isinstance(outputs, list) or len(outputs) != count:
        what = f"{len(outputs)} objects" if isinstance(outputs, list) else type(outputs).__name__
        yield Finding(f"modules.samples() returns {what} for a batch of {count}", "return a list, one for each sample")


def losses(subject: Subject) -> Iterator[Finding]:
    """Every loss term is one finite, differentiable number per sample."""
    terms, count = subject.terms, len(subject.indices)
    if not isinstance(terms, dict) or not terms:
        raise UniteError(
            f"losses() returns {'no term' if isinstance(terms, dict) else type(terms).__name__}",
            'return a dict such as {"distance": LossTerm(values, weight)}',
        )
    for name, term in terms.items():
        if not isinstance(term, LossTerm):
            raise UniteError(f"losses()[{name!r}] is {type(term).__name__}", "wrap it: LossTerm(values, weight)")
        values = term.values
        if not isinstance(values, Tensor) or values.shape != (count,) or not values.is_floating_point():
            yield Finding(
                f"losses()[{name!r}] is {shape(values)}, not float (B,) = ({count},)",
                "reduce over everything but the batch, for example values.flatten(1).mean(1): the core averages",
            )
        elif not bool(values.isfinite().all()):
            yield Finding(
                f"losses()[{name!r}] is not finite for {int((~values.isfinite()).sum())} of {count} samples",
                "look for divisions by zero and logarithms; samples without data must not be in the batch",
            )
        if not isinstance(term.weight, int | float):
            yield Finding(f"losses()[{name!r}].weight is {type(term.weight).__name__}", "use a plain number")
        elif not 0 <= term.weight < math.inf:
            yield Finding(
                f"losses()[{name!r}].weight is {term.weight}", "give what shall become small a weight above 0"
            )
    if not any(isinstance(term.values, Tensor) and term.values.requires_grad for term in terms.values()):
        yield Finding(
            "no term of losses() is differentiable",
            "compute them from the decoder's output without detach(), .item(), argmax or torch.no_grad()",
        )


def repeatable(subject: Subject) -> Iterator[Finding]:
    """The same batch gives the same tokens and losses in training mode: runs resume exactly."""
    subject.need("terms")
    batch, values = subject.batch, subject.latents.values
    with left_alone("tokenizer()", batch=batch):
        again = subject.tokenize_input(batch)
    if difference(subject.tokens, again, ROUNDING):
        yield Finding(
            "the tokenizer gives other tokens for the same batch",
            "leave dropout and random masking out: random augmentation belongs into data.batch(), with its generator",
        )
    with left_alone("decoder()", latents=values, registers=batch.registers):
        output = subject.decode(values, batch)
    with left_alone("losses()", output=output, batch=batch):
        terms = subject.losses(output, batch)
    if any(difference(subject.terms[name].values, terms[name].values, ROUNDING) for name in subject.terms):
        yield Finding(
            "decoder and losses give other values for the same latents",
            "leave dropout and other random numbers out of them: a resumed run could not repeat them",
        )


def padding(subject: Subject) -> Iterator[Finding]:
    """What a sample yields is the same alone and beside longer ones, in tokens, latents and losses."""
    subject.need("terms")
    leaks: set[str] = set()
    for row in range(len(subject.indices)):
        try:
            leaks |= _changed_alone(subject, row)
        except UniteError:
            if not leaks:
                raise
    for what in sorted(leaks):
        hint = f"set Tokens.mask where tokens are padding; {LEAK}" if what == "tokenizing" else LEAK
        yield Finding(
            f"a sample gives another result in a batch than alone: {what} lets padding or other samples in", hint
        )


def gradients(subject: Subject) -> Iterator[Finding]:
    """The losses reach the latents, the tokenizer and the decoder, and leave no parameter out."""
    subject.need("terms")
    cut = subject.latents.values.clone().requires_grad_(True)
    _total(subject.losses(subject.decode(cut, subject.batch), subject.batch)).backward()
    if cut.grad is None or not bool(cut.grad.any()):
        yield Finding(
            "the losses do not depend on the latents: no gradient goes through the decoder to the tokenizer",
            "compute the output from the latents, without detach() or argmax",
        )
        return
    network = subject.model.network
    strange = _outside(subject, cut)
    if strange is not None:
        yield Finding(
            f"the losses use a trainable tensor {tuple(strange.shape)} that is no parameter of the modules: it would "
            "never be trained or saved",
            OUTSIDE,
        )
        return
    network.zero_grad(set_to_none=True)
    noise = StepNoise(check_generator(0), len(subject.indices), subject.modules.layout, Shard())
    JointRecipe(subject.config, network).backward(subject.name, subject.batch, noise)
    for part in ("tokenizer", "decoder"):
        module = getattr(network.modules_of(subject.name), part)
        parameters = {name: entry for name, entry in module.named_parameters() if entry.requires_grad}
        untouched = [name for name, entry in parameters.items() if entry.grad is None]
        if parameters and not any(entry.grad is not None and entry.grad.any() for entry in parameters.values()):
            yield Finding(
                f"no gradient reaches the {part}",
                "look for detach(), torch.no_grad(), argmax or rounding between its parameters and its result",
            )
        elif untouched:
            yield Finding(
                f"{len(untouched)} parameters of the {part} take no part in any loss, first {untouched[0]}",
                "use them or leave them out: they would be saved and never trained",
            )
    network.zero_grad(set_to_none=True)


def reloading(subject: Subject) -> Iterator[Finding]:
    """The model is written and loaded again from configuration, statistics and weights alone."""
    subject.need("latents")
    loaded = UNITE.from_pretrained(subject.exported)
    loaded.network.train()
    again = loaded.tokenize(subject.batch, subject.name)
    if difference(again.values, subject.latents.values, ROUNDING):
        yield Finding("a model that was written and loaded again gives other latents", KEPT)
        return
    other = _of_another_seed(subject)
    other.tokenize(subject.new_batch(subject.indices[:1]), subject.name)
    if difference(other.tokenize(subject.batch, subject.name).values, again.values, ROUNDING):
        yield Finding(
            "a model with the same weights gives other latents where it was built from another seed, or met another "
            "batch first",
            f"keep nothing of the first batch; random numbers of a model belong into register_buffer(). {KEPT}",
        )
        return
    one, two = (model.network.decode(subject.name, again.values, subject.batch.registers) for model in (loaded, other))
    if difference(one, two, ROUNDING):
        yield Finding(
            "a decoder with the same weights gives another output where it was built from another seed",
            f"random numbers of a model belong into register_buffer(). {KEPT}",
        )


def _of_another_seed(subject: Subject) -> UNITE:
    """A model with the weights of the subject's, built from another seed."""
    seed = subject.config.train.seed + 1
    config = subject.config.model_copy(update={"train": subject.config.train.model_copy(update={"seed": seed})})
    modalities, statistics = {subject.name: subject.modality}, {subject.name: subject.statistics}
    model = UNITE(build_network(config, modalities, statistics), config, modalities, statistics)
    model.network.load_state_dict(subject.model.network.state_dict())
    model.network.train()
    return model


def _changed_alone(subject: Subject, row: int) -> set[str]:
    """What differs where a sample of the batch is computed alone; only the first thing, for others follow from it."""
    alone = subject.new_batch(subject.indices[row : row + 1])
    own = subject.model.tokenize(alone, subject.name, first=row)
    used, kept = own.registers.mask[0], subject.batch.registers.mask[row]
    if not alike(own.values[0][used], subject.latents.values[row][kept], TOLERANCE):
        return {"tokenizing"}
    terms = subject.losses(subject.decode(own.values, alone), alone)
    return {
        f"decoder or losses()[{name!r}]"
        for name, term in terms.items()
        if not alike(term.values[0], subject.terms[name].values[row], TOLERANCE)
    }


def _outside(subject: Subject, cut: Tensor) -> Tensor | None:
    """A leaf of the graph of tokens or losses that is no parameter of the network."""
    batch, network = subject.batch, subject.model.network
    tokens: Tokens = subject.model.modules_of(subject.name).tokenizer(batch)
    ends = (tokens.values, _total(subject.losses(subject.decode(cut, batch), batch)))
    waiting = [end.grad_fn for end in ends if end.grad_fn is not None]
    known, seen = {id(parameter) for parameter in network.parameters()} | {id(cut)}, set(waiting)
    while waiting:
        node = waiting.pop()
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor) and id(leaf) not in known:
            return leaf
        following = {following for following, _ in node.next_functions if following is not None} - seen
        seen |= following
        waiting += following
    return None


def _total(terms: dict[str, LossTerm]) -> Tensor:
    return torch.stack([term.weight * term.values.mean() for term in terms.values()]).sum()
