"""Optimizers by declared parameter groups: Muon and AdamW side by side."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from unite_mm.model.layers import HIDDEN_MATRICES
from unite_mm.training.muon import Rows, StackedMuon
from unite_mm_schemas.config import OptimConfig

Named = list[tuple[str, nn.Parameter]]


@dataclass(frozen=True)
class ParameterGroups:
    """Trained parameters by the optimizer that steps them, with their names."""

    muon: Named
    adamw: Named


def parameter_groups(model: nn.Module, optimizer: str) -> ParameterGroups:
    """Split the trainable parameters: hidden matrices (`layers.HIDDEN_MATRICES`) for Muon, all others for AdamW."""
    hidden = {
        id(module.weight) for module in model.modules() if isinstance(module, HIDDEN_MATRICES) and optimizer == "muon"
    }
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return ParameterGroups(
        muon=[(name, parameter) for name, parameter in trainable if id(parameter) in hidden],
        adamw=[(name, parameter) for name, parameter in trainable if id(parameter) not in hidden],
    )


class Optimizers:
    """Muon and AdamW side by side, with state keyed by parameter names.

    Args:
        groups: the trained parameters, or what of them lies on this rank.
        config: rates and constants.
        rows: where the rows of matrices lie; None: they are whole.
        recorded: whether steps are recorded as a CUDA graph: rates are then tensors on the parameters' device.
    """

    def __init__(
        self, groups: ParameterGroups, config: OptimConfig, rows: Rows | None = None, *, recorded: bool = False
    ) -> None:
        self.config, self.recorded = config, recorded
        self.muon_named, self.adamw_named = groups.muon, groups.adamw
        self.muon_rate = config.muon_learning_rate or config.learning_rate
        self.adamw = torch.optim.AdamW(
            [parameter for _, parameter in self.adamw_named],
            lr=config.learning_rate,
            betas=config.betas,
            eps=config.eps,
            weight_decay=0.0 if self.muon_named else config.weight_decay,
            fused=True,
            capturable=recorded,
        )
        self.muon = (
            StackedMuon(
                [parameter for _, parameter in self.muon_named],
                rows,
                precision=getattr(torch, config.muon_precision),
                lr=self.muon_rate,
                weight_decay=config.weight_decay,
                momentum=config.momentum,
                eps=config.eps,
            )
            if self.muon_named
            else None
        )
        for optimizer in (self.adamw, self.muon) if recorded else ():
            for group in () if optimizer is None else optimizer.param_groups:
                group["lr"] = torch.tensor(group["lr"], device=self.parameters[0].device)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All trained parameters, Muon's first."""
        return [parameter for _, parameter in self.muon_named + self.adamw_named]

    def named(self, network: nn.Module) -> Named:
        """The trained parameters with their names, in the order of the network."""
        trained = dict(self.muon_named + self.adamw_named)
        return [(name, trained[name]) for name, _ in network.named_parameters() if name in trained]

    def zero_grad(self) -> None:
        """Give every trained parameter a zero gradient, so that unused ones count as zero on every rank."""
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        torch._foreach_zero_([cast(Tensor, parameter.grad) for parameter in self.parameters])

    def set_rates(self, factor: float) -> None:
        """Let the next steps be at `factor` of the peak rates."""
        for optimizer, peak in ((self.adamw, self.config.learning_rate), (self.muon, self.muon_rate)):
            for group in () if optimizer is None else optimizer.param_groups:
                if self.recorded:
                    group["lr"].fill_(peak * factor)
                else:
                    group["lr"] = peak * factor

    def step(self) -> None:
        """One step on the gradients that there are."""
        self.adamw.step()
        if self.muon is not None:
            self.muon.step()

    def state(self) -> dict[str, Tensor]:
        """Flat `parameter/entry` -> tensor."""
        flat = {}
        for optimizer, named in self._pairs():
            for name, parameter in named:
                for entry, value in optimizer.state.get(parameter, {}).items():
                    flat[f"{name}/{entry}"] = torch.as_tensor(value)
        return flat

    def load_state(self, flat: Mapping[str, Tensor]) -> None:
        """Restore what `state` gave."""
        for optimizer, named in self._pairs():
            for name, parameter in named:
                entries = {key.rpartition("/")[2]: key for key in flat if key.rpartition("/")[0] == name}
                if entries:
                    # The fused AdamW wants its count of steps beside the parameter as well.
                    optimizer.state[parameter] = {
                        entry: flat[key].clone().to(parameter.device) for entry, key in entries.items()
                    }

    def _pairs(self) -> Iterable[tuple[torch.optim.Optimizer, Named]]:
        yield self.adamw, self.adamw_named
        if self.muon is not None:
            yield self.muon, self.muon_named
