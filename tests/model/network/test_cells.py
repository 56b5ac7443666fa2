"""Recurrent cells equal PyTorch's."""

import pytest
import torch
from torch import nn

from model.network.cells import CELLS, CellName

INPUT, HIDDEN, STEPS = 7, 5, 6
THEIRS: dict[CellName, type[nn.Module]] = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}


@pytest.mark.parametrize("name", CELLS)
def test_cells_equal_pytorch_forward_and_backward(name: CellName) -> None:
    torch.manual_seed(0)
    ours, theirs = CELLS[name](INPUT, HIDDEN), THEIRS[name](INPUT, HIDDEN)
    ours.load_state_dict({key: 3 * value for key, value in theirs.state_dict().items()})
    theirs.load_state_dict(ours.state_dict())  # the layouts are equal
    inputs = torch.randn(STEPS, 4, INPUT)
    start = [torch.randn(4, HIDDEN) for _ in range(ours.parts)]
    weights = torch.randn(STEPS, ours.parts, 4, HIDDEN)

    def run(cell: nn.Module) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return all states, and the gradients of the inputs, the first state and the parameters."""
        x = inputs.clone().requires_grad_()
        first = [part.clone().requires_grad_() for part in start]
        state, states = tuple(first), []
        for step in range(STEPS):
            if cell is ours:
                state = cell(x[step], state)
            else:
                new = cell(x[step], state if name == "lstm" else state[0])
                state = new if name == "lstm" else (new,)
            states.append(torch.stack(state))
        stacked = torch.stack(states)
        parameters = [parameter for _, parameter in sorted(cell.named_parameters())]
        return stacked.detach(), list(torch.autograd.grad((stacked * weights).mean(), [x, *first, *parameters]))

    (our_states, our_gradients), (their_states, their_gradients) = run(ours), run(theirs)
    torch.testing.assert_close(our_states, their_states, atol=1e-6, rtol=0)
    assert all(gradient.abs().max() > 1e-4 for gradient in our_gradients)
    torch.testing.assert_close(our_gradients, their_gradients, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", CELLS)
def test_initial_weights_have_the_range_of_pytorch(name: CellName) -> None:
    for parameter in CELLS[name](INPUT, 64).parameters():
        assert parameter.abs().max().item() == pytest.approx(1 / 8, rel=0.1)


@pytest.mark.parametrize("name", CELLS)
def test_rows_are_independent_for_any_shape(name: CellName) -> None:
    torch.manual_seed(1)
    cell = CELLS[name](INPUT, HIDDEN)
    inputs, state = torch.randn(2, 3, INPUT), tuple(torch.randn(2, 3, HIDDEN) for _ in range(cell.parts))
    together = cell(inputs, state)
    alone = cell(inputs[1, 2], tuple(part[1, 2] for part in state))
    for part, single in zip(together, alone, strict=True):
        assert part.shape == (2, 3, HIDDEN)
        torch.testing.assert_close(part[1, 2], single)
