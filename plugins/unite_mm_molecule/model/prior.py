"""What generation may be asked of molecules, and how their compositions are drawn.

Dimensions: R compositions of training molecules, S training molecules whose properties are known, P properties,
M numbers of the condition: counts, then properties.
"""

import math

import torch
from torch import Tensor

from unite_mm.contract import ConditionSpec, SampleRequest, Statistics
from unite_mm.errors import UsageError
from unite_mm_molecule.molecule import SYMBOLS
from unite_mm_molecule.properties import property_labels

BANDWIDTH = 0.1
"""How near training molecules must come to the properties asked for: width of a Gaussian, in standard deviations."""


def condition_spec(statistics: Statistics) -> ConditionSpec:
    """The counts and properties that the denoiser is told, with mean and deviation over the training molecules.

    Counts that are not asked for are drawn. Of a model that is told properties, too, any part may be left open.
    """
    names = tuple(statistics["composition_names"])
    rows = torch.tensor(statistics["composition"], dtype=torch.float64)  # [registers, counts..., molecules]
    counts, weights = rows[:, 1:-1], rows[:, -1:] / rows[:, -1].sum()
    mean = (counts * weights).sum(0)
    std = ((counts - mean).square() * weights).sum(0).sqrt().clamp_min(0.1)
    told = statistics.get("properties")
    if told is None:
        if not names:
            return ConditionSpec()
        return ConditionSpec("numbers", len(names), names, tuple(mean.tolist()), tuple(std.tolist()), left_open="drawn")
    supported = [*zip(counts.amin(0).tolist(), counts.amax(0).tolist(), strict=True)] if names else []
    return ConditionSpec(
        "numbers",
        len(names) + len(told["names"]),
        (*names, *property_labels(told["names"], beside_formula=not set(names).isdisjoint(SYMBOLS.values()))),
        (*mean.tolist(), *told["mean"]),
        (*std.tolist(), *told["std"]),
        left_open="dropped",
        units=("",) * len(names) + tuple(told["units"]),
        ranges=(*supported, *zip(told["low"], told["high"], strict=True)),
    )


class CompositionPrior:
    """Draws the number of registers and the composition of a molecule to generate.

    Args:
        statistics: the histogram of compositions, and where there are any the properties of training molecules.

    Attributes:
        sizes: fewest and most registers of a training molecule.
    """

    def __init__(self, statistics: Statistics) -> None:
        rows = torch.tensor(statistics["composition"], dtype=torch.float64)
        self._rows, self._weights = rows[:, :-1].long(), rows[:, -1]  # (R, 1 + counts), (R,)
        self._names = tuple(statistics["composition_names"])
        self.sizes = (int(self._rows[:, 0].min()), int(self._rows[:, 0].max()))
        told = statistics.get("properties")
        self._properties = 0 if told is None else len(told["names"])
        if told is not None:
            known = [[math.nan if value is None else value for value in row] for row in told["rows"]]
            table = torch.tensor(known, dtype=torch.float64)
            self._kind = table[:, 0].long()  # (S,)
            self._std = torch.tensor(told["std"], dtype=torch.float64)
            self._known = table[:, 1:] / self._std  # (S, P)

    def draw(self, generator: torch.Generator, request: SampleRequest) -> tuple[int, Tensor | None]:
        """Registers and condition (M,) of one molecule; None where there is no condition.

        Args:
            generator: the only source of randomness.
            request: condition (M,) with nan for what is left open, registers, fragment; and whether each composition is
                drawn equally often, not as often as training molecules have it.

        Raises:
            UsageError: no training molecule has the composition or size asked for.
        """
        asked = request.condition
        equally = request.options is not None and request.options.compositions == "uniform"
        counts = None if asked is None else asked[: len(self._names)]
        wanted = torch.full((self._properties,), torch.nan) if asked is None else asked[len(self._names) :]
        weights = self._agreeing(counts, request, equally)
        near = self._near(wanted, weights > 0, equally)
        kind = int(torch.multinomial(weights if near is None else near, 1, generator=generator))
        registers, *found = self._rows[kind if near is None else int(self._kind[kind])].tolist()
        condition = torch.cat((torch.tensor(found, dtype=torch.float32), wanted.float()))
        return registers, condition if len(condition) else None

    def _agreeing(self, counts: Tensor | None, request: SampleRequest, equally: bool) -> Tensor:
        """(R,) weights of the compositions, 0 for those that do not have what is asked for."""
        weights = torch.ones_like(self._weights) if equally else self._weights
        asked = []
        if counts is not None:
            weights = weights * ((self._rows[:, 1:] == counts) | counts.isnan()).all(1)
            named = zip(counts.tolist(), self._names, strict=True)
            asked += [f"{count:g} {name}" for count, name in named if not math.isnan(count)]
        if request.size is not None:
            weights = weights * (self._rows[:, 0] == request.size)
            asked.append(f"size {request.size}")
        if request.fragment is not None:
            weights = weights * request.fragment.native.fits(self._names, self._rows[:, 1:])
            weights = weights * (self._rows[:, 0] > request.fragment.registers)
            asked.append(f"room for the fragment {request.fragment.native.text}")
        if not weights.any():
            raise UsageError(f"no training molecule has {', '.join(asked)}", "ask for other counts")
        return weights

    def _near(self, wanted: Tensor, allowed: Tensor, equally: bool) -> Tensor | None:
        """(S,) weights of the training molecules by how near their properties are to those asked for.

        The nearest always counts, however far it is.

        Args:
            wanted: (P,) with nan for what is left open.
            allowed: (R,) compositions that may be drawn.
            equally: weigh compositions that occur often down by how often.

        Returns:
            None where no property is asked for, or no molecule of the sample is allowed.
        """
        asked = ~wanted.isnan()
        if not asked.any():
            return None
        away = (self._known[:, asked] - (wanted.double() / self._std)[asked]).square().sum(1)
        away = away.masked_fill(away.isnan() | ~allowed[self._kind], torch.inf)
        if not away.isfinite().any():
            return None
        weights = torch.exp((away.min() - away) / (2 * BANDWIDTH**2))
        return weights / self._kind.bincount()[self._kind] if equally else weights
