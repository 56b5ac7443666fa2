"""Beam search over a whole batch at once: rows are images x beams. Greedy search is the search with one beam.

In: a decoder and what it remembers of the images; out: for each image its best token sequences with
log-probabilities and attention. It must not know what the tokens mean, beyond the special ones.
"""

from dataclasses import dataclass

import torch

from model.decoder import Decoder, Memory
from model.vocabulary import END, PAD, START, UNKNOWN


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One finished (or cut) sequence, without <start> and <end>; `logprob` includes the decision to end."""

    tokens: list[int]  # T
    logprobs: list[float]  # T
    attention: torch.Tensor  # (T, L), float32 on the CPU
    logprob: float


@torch.inference_mode()
def beam_search(
    decoder: Decoder,
    memory: Memory,
    *,
    beams: int,
    max_words: int,
    length_power: float = 0.7,
    repeatable: int | None = None,
) -> list[list[Hypothesis]]:
    """The `beams` best hypotheses of each image, best first.

    Hypotheses are ranked by log-probability / length ** `length_power`, where the length counts <end>; this keeps the
    search from preferring sentences only because they are short. <pad>, <start> and <unk> are never chosen, and <end>
    not as the first word. A hypothesis that has not ended after `max_words` is cut there, without an <end>.
    No more than `repeatable` words in a row may be said a second time (Paulus, Xiong and Socher, 2018): with 1, "a man
    in a red shirt and a red shirt" is never written. Log-probabilities are those of the unrestricted decoder.
    """
    images, vocabulary_size = memory.annotations.shape[0], decoder.output_bias.shape[0]
    device = memory.annotations.device
    state = decoder.start(memory, beams)
    tokens = torch.full((images, beams), START, device=device)
    # At first all beams of an image are alike; letting only one of them live keeps the search from choosing the same
    # word `beams` times.
    total = torch.full((images, beams), -torch.inf, device=device)
    total[:, 0] = 0.0
    ended = torch.zeros((images, beams), dtype=torch.bool, device=device)
    length = torch.zeros((images, beams), device=device)
    never = torch.tensor([PAD, START, UNKNOWN], device=device)
    # An ended hypothesis goes on as itself, by <end> at no cost.
    only_end = torch.full((vocabulary_size,), -torch.inf, device=device)
    only_end[END] = 0.0
    said = tokens.new_empty((images, beams, 0))  # (B, K, step): the words of each hypothesis so far
    steps: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    for step in range(max_words):
        logits, new_state, weights = decoder.step(tokens, state, memory)
        logprobs = logits.log_softmax(dim=2)  # (B, K, V)
        logprobs[:, :, never] = -torch.inf
        if step == 0:
            logprobs[:, :, END] = -torch.inf
        logprobs = torch.where(ended.unsqueeze(2), only_end, logprobs)
        if repeatable is not None:
            _forbid_repeats(logprobs, said, repeatable)
        candidates = (total.unsqueeze(2) + logprobs).flatten(1)  # (B, K*V)
        total, chosen = candidates.topk(beams, dim=1)
        parent, tokens = chosen // vocabulary_size, chosen % vocabulary_size  # (B, K): whose continuation, which word
        state = new_state.rows(parent)
        said = torch.cat([said.gather(1, parent.unsqueeze(2).expand_as(said)), tokens.unsqueeze(2)], dim=2)
        length = length.gather(1, parent) + ~ended.gather(1, parent)
        ended = tokens == END
        chosen_logprobs = logprobs.flatten(1).gather(1, chosen)
        steps.append((parent, chosen_logprobs, weights))
        if bool(ended.all()):
            break

    ranking = (total / length.clamp(min=1) ** length_power).argsort(dim=1, descending=True)
    return _trace_back(steps, said, total, ranking)


def _forbid_repeats(logprobs: torch.Tensor, said: torch.Tensor, repeatable: int) -> None:
    """Forbid in `logprobs` (B, K, V) whatever would say more than `repeatable` words of `said` (B, K, T) again."""
    starts = said.shape[2] - repeatable  # places in `said` where that many words are followed by another
    if starts <= 0:
        return
    runs = said.unfold(2, repeatable, 1)  # (B, K, starts + 1, repeatable)
    said_before = (runs[:, :, :-1] == runs[:, :, -1:]).all(dim=3)  # (B, K, starts): the latest words, earlier
    followers = said[:, :, repeatable:]  # (B, K, starts): what came next there
    # An ended hypothesis only repeats <end>.
    forbidden = torch.where(said_before & (followers != END), -torch.inf, 0.0).to(logprobs.dtype)
    logprobs.scatter_add_(2, followers, forbidden)


def _trace_back(
    steps: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    said: torch.Tensor,
    total: torch.Tensor,
    ranking: torch.Tensor,
) -> list[list[Hypothesis]]:
    """Follow the parents from the last step to the first: so attention is that of the surviving beams, as `said` is."""
    row = ranking  # (B, K): the beam that held each hypothesis after the step at hand
    logprobs, attention = [], []
    for parent, step_logprobs, step_weights in reversed(steps):
        logprobs.append(step_logprobs.gather(1, row))
        row = parent.gather(1, row)
        # Attention belongs to the beam that looked, which is the parent of the word that it led to.
        attention.append(step_weights.gather(1, row.unsqueeze(2).expand(-1, -1, step_weights.shape[2])))
    all_tokens = said.gather(1, ranking.unsqueeze(2).expand_as(said)).tolist()  # B x K x T
    all_logprobs = torch.stack(logprobs[::-1], dim=2).tolist()
    all_attention = torch.stack(attention[::-1], dim=2).float().cpu()  # (B, K, T, L)
    all_totals = total.gather(1, ranking).tolist()

    results = []
    for image, sequences in enumerate(all_tokens):
        hypotheses = []
        for beam, sequence in enumerate(sequences):
            words = sequence.index(END) if END in sequence else len(sequence)
            score = all_totals[image][beam]
            if score == float("-inf"):
                continue  # fewer continuations than beams: a tiny vocabulary
            hypotheses.append(
                Hypothesis(
                    sequence[:words],
                    all_logprobs[image][beam][:words],
                    all_attention[image, beam, :words],
                    score,
                )
            )
        results.append(hypotheses)
    return results
