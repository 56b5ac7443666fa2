"""Teacher forcing, and less and less of it: scheduled sampling (Bengio, Vinyals, Jaitly and Shazeer, 2015).

In: a decoder, what it remembers of the images, and the true words; out: its logits and attention. At each step the
input is the true word or, with some probability, a word that the decoder itself would have said there, so that it
learns to go on from its own mistakes. It must not know of losses.
"""

from collections.abc import Sequence

import torch

from model.decoder import AnyDecoder
from model.memory import Memory
from model.sampling import draw, uniform_numbers


def sampling_probability(final: float, epoch: int, epochs: int) -> float:
    """How likely an input is the decoder's own in `epoch`: from 0 in the first in a line to `final` in the last."""
    return final * epoch / max(1, epochs - 1)


def unroll(
    decoder: AnyDecoder, memory: Memory, inputs: torch.Tensor, probability: float = 0.0, seeds: Sequence[int] = ()
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (B, R, T, V) and attention (B, R, T, L) for the words after `inputs` (B, R, T), which start with <start>.

    With `probability`, each row for itself, an input is drawn from what the decoder said in the step before. Which
    ones and what depends on `seeds`, one for each image, and no gradient flows through the choice.
    """
    if not probability:
        return decoder(memory, inputs)  # type: ignore[no-any-return]
    rows, steps = inputs.shape[1:]
    chance = uniform_numbers(list(seeds), 2 * rows, steps).to(inputs.device)
    replaced, numbers = chance[:, :rows] < probability, chance[:, rows:]  # (B, R, T)
    state = decoder.start(memory, rows)
    logits: list[torch.Tensor] = []
    attention: list[torch.Tensor] = []
    for step, truth in enumerate(inputs.unbind(dim=2)):  # (B, R)
        previous = truth
        if step > 0:
            own = draw(logits[-1].detach().log_softmax(dim=2), numbers[:, :, step], 1.0, None, None)
            previous = torch.where(replaced[:, :, step], own, truth)
        scores, state, weights = decoder.step(previous, state, memory)
        logits.append(scores)
        attention.append(weights)
    return torch.stack(logits, dim=2), torch.stack(attention, dim=2)
