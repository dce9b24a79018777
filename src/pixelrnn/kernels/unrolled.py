"""The recurrence in PyTorch with its backward pass written out: no graph a front, states in one arena, work in place.

Shape letters: `D` directions, `B` batch, `h` features of the LSTM, `N` cells, `n` cells of a front, `M` slots of the
arena, `T` neighbours.
"""

from typing import Any

import torch
from torch import Tensor

from pixelrnn.kernels.geometry import Front, Geometry

__all__ = ["front_lstm"]


def front_lstm(
    gates: Tensor, weight: Tensor, hidden_init: Tensor, cell_init: Tensor, geometry: Geometry
) -> tuple[Tensor, Tensor]:
    """Do what `reference.front_lstm` does, faster.

    Raises:
        RuntimeError: in the backward pass with `create_graph=True`, as second derivatives are not available.
    """
    hidden, cell = _FrontLSTM.apply(gates, weight, hidden_init, cell_init, geometry)
    return hidden, cell


class _FrontLSTM(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, weight: Tensor, hidden_init: Tensor, cell_init: Tensor, geometry: Geometry
    ) -> tuple[Tensor, Tensor]:
        batch, width = gates.shape[2:]
        h = width // 4
        gates = gates.index_select(1, geometry.order)
        squashed = gates.new_empty(*gates.shape[:3], h)
        hidden, cell = (state[:, None, None].repeat(1, geometry.size, batch, 1) for state in (hidden_init, cell_init))
        taps = weight.permute(3, 0, 2, 1).contiguous()
        for front in geometry.fronts:
            z = _own(gates, front)
            for t, tap in enumerate(taps):
                z.baddbmm_(_slots(hidden, front.seen + t, front), tap)
            o, f, i = z[..., : 3 * h].sigmoid_().split(h, dim=-1)
            g = z[..., 3 * h :].tanh_()
            c, tanh_c = _slots(cell, front.slot, front), _own(squashed, front)
            torch.mul(f, _slots(cell, front.seen + geometry.predecessor, front), out=c).addcmul_(i, g)
            torch.mul(o, torch.tanh(c, out=tanh_c), out=_slots(hidden, front.slot, front))
        ctx.save_for_backward(gates, squashed, hidden, cell, weight)
        ctx.geometry = geometry
        ctx.set_materialize_grads(False)
        return hidden.index_select(1, geometry.slots), cell.index_select(1, geometry.slots)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("create_graph=True: the recurrent layers have no second derivatives")
        gates, squashed, hidden, cell, weight = ctx.saved_tensors
        geometry: Geometry = ctx.geometry
        h = squashed.shape[-1]
        d_hidden, d_cell = (torch.zeros_like(hidden) for _ in range(2))
        for arena, gradient in zip((d_hidden, d_cell), gradients, strict=True):
            if gradient is not None:
                arena.index_copy_(1, geometry.slots, gradient)
        d_gates = torch.empty_like(gates)
        taps = weight.permute(3, 0, 1, 2).contiguous()
        d_taps = torch.zeros_like(taps)
        for front in reversed(geometry.fronts):
            z, tanh_c, dz = _own(gates, front), _own(squashed, front), _own(d_gates, front)
            o, f, i, g = z.split(h, dim=-1)
            dh, dc = _slots(d_hidden, front.slot, front), _slots(d_cell, front.slot, front)
            before = front.seen + geometry.predecessor
            dc += torch.ops.aten.tanh_backward(dh * o, tanh_c)
            d_o, d_f, d_i, d_g = dz.split(h, dim=-1)
            torch.mul(dh, tanh_c, out=d_o)
            torch.mul(dc, _slots(cell, before, front), out=d_f)
            torch.mul(dc, g, out=d_i)
            torch.mul(dc, i, out=d_g)
            squeezed = dz[..., : 3 * h]
            torch.ops.aten.sigmoid_backward.grad_input(squeezed, z[..., : 3 * h], grad_input=squeezed)
            torch.ops.aten.tanh_backward.grad_input(d_g, g, grad_input=d_g)
            _slots(d_cell, before, front).addcmul_(dc, f)
            for t, tap in enumerate(taps):
                _slots(d_hidden, front.seen + t, front).baddbmm_(dz, tap)
                d_taps[t].baddbmm_(dz.mT, _slots(hidden, front.seen + t, front))
        d_inits = (arena.index_select(1, geometry.border).sum(dim=(1, 2)) for arena in (d_hidden, d_cell))
        return d_gates.index_select(1, geometry.rank), d_taps.permute(1, 2, 3, 0), *d_inits, None


def _own(tensor: Tensor, front: Front) -> Tensor:
    """A front's part of (D, N, B, …) in the order of fronts, as (D, n·B, …)."""
    return tensor[:, front.start : front.start + front.cells].flatten(1, 2)


def _slots(arena: Tensor, first: int, front: Front) -> Tensor:
    """As many slots of (D, M, B, h) as the front has cells, as (D, n·B, h)."""
    return arena[:, first : first + front.cells].flatten(1, 2)
