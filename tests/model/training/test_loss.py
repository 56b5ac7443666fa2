"""The training loss, compared with sums written by hand."""

import pytest
import torch

from model.text.vocabulary import END, PAD
from model.training.likelihood import caption_loss

IMAGES, ROWS, STEPS, PLACES, VOCABULARY = 2, 2, 3, 4, 7
# The second image has a single caption.
TARGETS = torch.tensor([[[4, 5, END], [6, END, PAD]], [[5, END, PAD], [PAD, PAD, PAD]]])
REAL = [(i, r, t) for i in range(IMAGES) for r in range(ROWS) for t in range(STEPS) if TARGETS[i, r, t] != PAD]


def random_logits() -> torch.Tensor:
    return 2 * torch.randn(IMAGES, ROWS, STEPS, VOCABULARY, generator=torch.Generator().manual_seed(0))


def random_attention() -> torch.Tensor:
    scores = torch.randn(IMAGES, ROWS, STEPS, PLACES, generator=torch.Generator().manual_seed(1))
    return scores.softmax(dim=3)


def even_attention() -> torch.Tensor:
    return torch.full((IMAGES, ROWS, STEPS, PLACES), 1 / PLACES)


def loss(logits: torch.Tensor, attention: torch.Tensor, smoothing: float = 0.0, doubly: float = 0.0) -> float:
    return caption_loss(logits, attention, TARGETS, label_smoothing=smoothing, doubly_stochastic=doubly).item()


def test_the_loss_is_the_mean_cross_entropy_per_word() -> None:
    logits = random_logits()
    surprises = []
    for place in REAL:
        scores = logits[place]
        surprises.append((scores.exp().sum().log() - scores[TARGETS[place]]).item())
    assert len(surprises) == 7
    assert loss(logits, even_attention()) == pytest.approx(sum(surprises) / 7, rel=1e-5)


def test_label_smoothing_spreads_a_share_over_all_words() -> None:
    logits = random_logits()
    smoothing, expected = 0.2, 0.0
    for place in REAL:
        surprise = -logits[place].log_softmax(dim=0)
        expected += ((1 - smoothing) * surprise[TARGETS[place]] + smoothing * surprise.mean()).item() / len(REAL)
    assert loss(logits, even_attention(), smoothing) == pytest.approx(expected, rel=1e-5)


def test_padding_costs_nothing() -> None:
    logits, attention = random_logits(), random_attention()
    before = loss(logits, attention, 0.1, 1.0)
    padding = TARGETS == PAD
    logits[padding] = 100 * torch.randn(int(padding.sum()), VOCABULARY)
    attention[padding] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    assert loss(logits, attention, 0.1, 1.0) == pytest.approx(before)


def test_padding_has_no_gradient() -> None:
    logits, attention = random_logits().requires_grad_(), random_attention().requires_grad_()
    caption_loss(logits, attention, TARGETS, label_smoothing=0.1, doubly_stochastic=1.0).backward()
    assert logits.grad is not None
    assert attention.grad is not None
    padding = TARGETS == PAD
    assert not logits.grad[padding].any()
    assert not attention.grad[padding].any()
    assert logits.grad[~padding].any(dim=1).all()
    assert attention.grad.isfinite().all()


def test_even_attention_adds_nothing() -> None:
    logits = random_logits()
    assert loss(logits, even_attention(), doubly=5.0) == pytest.approx(loss(logits, even_attention()), rel=1e-6)


def test_attention_that_is_even_over_the_sentence_adds_nothing() -> None:
    targets = torch.tensor([[[4, END]]])
    logits = torch.zeros(1, 1, 2, VOCABULARY)
    attention = torch.tensor([[[[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]]])
    costs = [caption_loss(logits, attention, targets, label_smoothing=0.0, doubly_stochastic=w).item() for w in (0, 5)]
    assert costs[1] == pytest.approx(costs[0])


def test_uneven_attention_costs_the_squared_deviation_from_even_shares() -> None:
    logits, attention = random_logits(), random_attention()
    of_rows = []
    for image, row in ((0, 0), (0, 1), (1, 0)):
        steps = [t for i, r, t in REAL if (i, r) == (image, row)]
        share = sum((attention[image, row, t] for t in steps), torch.zeros(PLACES)) / (len(steps) / PLACES)
        of_rows.append(((share - 1) ** 2).mean().item())
    expected = sum(of_rows) / 3
    assert expected > 0.01
    assert loss(logits, attention, doubly=2.0) - loss(logits, attention) == pytest.approx(2 * expected, rel=1e-4)
