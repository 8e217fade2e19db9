"""Historical averaging: a game whose players are held near the mean of their past."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ganlib.training import Game


class HistoricalAveraging(Game):
    r"""Any game, with a term in each player's loss that ties its parameters to their average so far.

    .. math:: L_p + \lambda \Big\| \theta_p - \frac1t \sum_{i=1}^t \theta_p[i] \Big\|^2

    A player that circles has its own past in the middle of the circle, and is drawn there: fictitious play in
    the space of parameters. The average is a constant of the step, updated after it.

    Args:
        game: whose terms stay as they are.
        weight: :math:`\lambda`, for all players or by player's name; not negative.

    Raises:
        ValueError: if a weight is negative or its player unknown.

    Source: Salimans et al. 2016, section 3.3. Lecture: Purdue "Historical averaging".
    """

    def __init__(self, game: Game, weight: float | Mapping[str, float]) -> None:
        super().__init__()
        self.game, self.turns = game, game.turns
        self.weights = dict(weight) if isinstance(weight, Mapping) else dict.fromkeys(game.turns, weight)
        if unknown := set(self.weights) - set(game.turns):
            raise ValueError(f"weight must be of players {list(game.turns)}, got {sorted(unknown)}")
        for player, value in self.weights.items():
            if not value >= 0:
                raise ValueError(f"weight of {player} must be at least 0, got {value}")
        self.past = nn.ModuleDict({player: _Mean(game.players[player]) for player in self.weights})

    @property
    def players(self) -> dict[str, nn.Module]:
        return self.game.players

    def terms(self, player: str, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        terms = self.game.terms(player, batch)
        if player in self.weights:
            distance = self.past[player].squared_distance(self.players[player])
            terms = terms | {"historical averaging": self.weights[player] * distance}
        return terms

    def after_step(self, player: str) -> None:
        self.game.after_step(player)
        if player in self.weights:
            self.past[player].take_in(self.players[player])

    def sample(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        return self.game.sample(n, rng)


class _Mean(nn.Module):
    """The running mean of a module's parameters, the initial ones being the first."""

    count: Tensor

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.register_buffer("count", torch.ones(()))
        self.means = nn.ParameterList(p.detach().clone() for p in module.parameters()).requires_grad_(False)

    def squared_distance(self, module: nn.Module) -> Tensor:
        pairs = zip(module.parameters(), self.means, strict=True)
        return torch.stack([(p - mean).square().sum() for p, mean in pairs]).sum()

    @torch.no_grad()
    def take_in(self, module: nn.Module) -> None:
        self.count += 1
        for mean, parameter in zip(self.means, module.parameters(), strict=True):
            mean += (parameter - mean) / self.count
