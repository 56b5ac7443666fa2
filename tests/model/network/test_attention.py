"""Soft attention over the annotation grid."""

import torch

from model.network.attention import AdditiveAttention

IMAGES, ROWS, PLACES = 2, 3, 6
QUERY, ANNOTATION, ATTENTION = 5, 7, 4


def random_attention() -> tuple[AdditiveAttention, torch.Tensor, torch.Tensor]:
    """Make an attention, queries (B, R, Q) and annotations (B, L, D)."""
    torch.manual_seed(0)
    attention = AdditiveAttention(QUERY, ANNOTATION, ATTENTION).eval()
    return attention, 3 * torch.randn(IMAGES, ROWS, QUERY), 3 * torch.randn(IMAGES, PLACES, ANNOTATION)


@torch.inference_mode()
def test_attention_equals_a_plain_computation_per_row() -> None:
    attention, queries, annotations = random_attention()
    contexts, weights = attention(queries, attention.keys(annotations), annotations)
    assert contexts.shape == (IMAGES, ROWS, ANNOTATION)
    assert weights.shape == (IMAGES, ROWS, PLACES)
    w_q, b_q = attention.query.weight, attention.query.bias
    w_k, v = attention.key.weight, attention.score.weight[0]
    for image in range(IMAGES):
        for row in range(ROWS):
            scores = torch.stack(
                [v @ torch.tanh(w_q @ queries[image, row] + b_q + w_k @ a) for a in annotations[image]]
            )
            expected = scores.exp() / scores.exp().sum()
            torch.testing.assert_close(weights[image, row], expected)
            context = sum((w * a for w, a in zip(expected, annotations[image], strict=True)), torch.zeros(ANNOTATION))
            torch.testing.assert_close(contexts[image, row], context)


@torch.inference_mode()
def test_weights_are_positive_and_sum_to_one() -> None:
    attention, queries, annotations = random_attention()
    _, weights = attention(queries, attention.keys(annotations), annotations)
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(IMAGES, ROWS))
    assert weights.std(dim=2).min() > 0.01, "the weights are uniform"


@torch.inference_mode()
def test_equal_places_get_equal_weights() -> None:
    attention, queries, annotations = random_attention()
    equal = annotations[:, :1].expand(-1, PLACES, -1)
    contexts, weights = attention(queries, attention.keys(equal), equal)
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / PLACES))
    torch.testing.assert_close(contexts, equal[:, :1].expand(-1, ROWS, -1))


@torch.inference_mode()
def test_weights_move_with_the_places() -> None:
    attention, queries, annotations = random_attention()
    order = torch.randperm(PLACES)
    contexts, weights = attention(queries, attention.keys(annotations), annotations)
    moved = annotations[:, order]
    moved_contexts, moved_weights = attention(queries, attention.keys(moved), moved)
    torch.testing.assert_close(moved_weights, weights[:, :, order])
    torch.testing.assert_close(moved_contexts, contexts)


@torch.inference_mode()
def test_weights_stay_float32_under_autocast() -> None:
    attention, queries, annotations = random_attention()
    _, expected = attention(queries, attention.keys(annotations), annotations)
    with torch.autocast("cpu", torch.bfloat16):
        contexts, weights = attention(queries, attention.keys(annotations), annotations)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(IMAGES, ROWS))
    torch.testing.assert_close(weights, expected, atol=0.05, rtol=0.1)
    assert contexts.dtype == torch.bfloat16
