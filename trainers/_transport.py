"""Moves the cells of a picture so that what is salient lies where a mask shows it.

Puzzle Mix's transport (Kim, Choo and Song 2020, https://arxiv.org/abs/2009.06962) for each picture, with
saliency s, mask z and the squared distance C of cells (in units of the longer side):

    cost_ij = ξ C_ij - s_i [z_j > 0]

Each cell i picks the place j that costs it least; of those that pick the same one the cheapest wins, and for the
others that place costs 1 more from now on; as often as the longer side has cells. A place that is taken once stays
taken, and a cell that is shown stays or is beaten, so every shown place ends with exactly one cell.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["sources"]


def sources(
    saliency: Float[Tensor, "n rows columns"], shown: Bool[Tensor, "n rows columns"], xi: float
) -> Int[Tensor, "n rows*columns"]:
    """Return which cell comes to each place, as a number in reading order; a place without one keeps its own.

    Of equal costs the cell's own place wins, then the first in reading order.
    """
    n, rows, columns = saliency.shape
    cells, device, turns = rows * columns, saliency.device, max(rows, columns)
    s, z = saliency.flatten(1), shown.flatten(1).to(saliency.dtype)
    way = xi * _distances(rows, columns, device).to(s.dtype)
    own = torch.arange(cells, device=device)
    pick, price = own.repeat(n, 1), -s * z
    # any way costs something: a cell that is shown stays, as does one that is not and gains less than a step costs
    moving = (z == 0) & (s > xi / max(turns - 1, 1) ** 2)
    loser = place = own[:0]
    for turn in range(turns):
        picture, cell = moving.nonzero(as_tuple=True)
        offers = way.index_select(0, cell).addcmul_(s[moving][:, None], z.index_select(0, picture), value=-1)
        _add_losses(offers, picture * cells + cell, loser, place, n * cells)
        least, best = offers.min(1)
        stays = offers.gather(1, cell[:, None])[:, 0] == least
        price[moving], pick[moving] = least, torch.where(stays, cell, best)
        won = _winners(pick, price)
        if turn + 1 == turns or bool(won.all()):
            break
        moving = ~won
        loser, place = torch.cat([loser, moving.flatten().nonzero()[:, 0]]), torch.cat([place, pick[moving]])
    # losers are sent past the end
    came = torch.arange(cells + 1, device=device).repeat(n, 1)
    return came.scatter_(1, torch.where(won, pick, cells), own.expand(n, cells))[:, :cells]


def _add_losses(
    offers: Float[Tensor, "few cells"],
    rows: Int[Tensor, " few"],
    loser: Int[Tensor, " losses"],
    place: Int[Tensor, " losses"],
    total: int,
) -> None:
    """Add 1, in place, to what each of ``rows``, out of ``total``, offers for a place, for each time it lost it."""
    # few cells ever lose one, so a table of all cells and places would be nearly empty
    line = torch.full((total,), -1, device=rows.device)
    line[rows] = torch.arange(len(rows), device=rows.device)
    at = line[loser]
    now = at >= 0
    offers.index_put_((at[now], place[now]), offers.new_ones(()), accumulate=True)


def _winners(pick: Int[Tensor, "n cells"], price: Float[Tensor, "n cells"]) -> Bool[Tensor, "n cells"]:
    """Return the cheapest claimant of each place; of equals the first."""
    least = torch.full_like(price, torch.inf).scatter_reduce(1, pick, price, "amin")
    cheapest = price == least.gather(1, pick)
    cells = pick.shape[1]
    number = torch.where(cheapest, torch.arange(cells, device=pick.device), cells)
    first = torch.full_like(pick, cells).scatter_reduce(1, pick, number, "amin")
    return number == first.gather(1, pick)


def _distances(rows: int, columns: int, device: torch.device) -> Float[Tensor, "cells cells"]:
    """Squared distances between cells; the longer side, from the first cell to the last, is 1."""
    place = torch.cartesian_prod(
        torch.arange(rows, device=device), torch.arange(columns, device=device)
    ).reshape(rows * columns, 2)
    squares = (place[:, None] - place).square().sum(2)
    return squares / max(max(rows, columns) - 1, 1) ** 2
