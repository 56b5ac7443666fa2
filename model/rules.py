"""Which words may come next, whoever chooses. In: log-probabilities and what was said so far; out: -inf for the rest.

It must not know how the choice is made.
"""

import torch

from model.vocabulary import END, PAD, START, UNKNOWN


class Rules:
    """<pad>, <start> and <unk> are never said, <end> not as the first word, and little is said twice.

    No more than `repeatable` words in a row may be said a second time (Paulus, Xiong and Socher, 2018): with 1, "a man
    in a red shirt and a red shirt" is never written. None: no limit.
    """

    def __init__(self, repeatable: int | None, device: torch.device) -> None:
        self._repeatable = repeatable
        self._never = torch.tensor([PAD, START, UNKNOWN], device=device)

    def apply(self, logprobs: torch.Tensor, said: torch.Tensor) -> None:
        """Set `logprobs` (B, R, V) to -inf for every word that may not follow `said` (B, R, T)."""
        logprobs[:, :, self._never] = -torch.inf
        if said.shape[2] == 0:
            logprobs[:, :, END] = -torch.inf
        if self._repeatable is not None:
            _forbid_repeats(logprobs, said, self._repeatable)


def _forbid_repeats(logprobs: torch.Tensor, said: torch.Tensor, repeatable: int) -> None:
    starts = said.shape[2] - repeatable  # places in `said` where that many words are followed by another
    if starts <= 0:
        return
    runs = said.unfold(2, repeatable, 1)  # (B, R, starts + 1, repeatable)
    latest = runs[:, :, -1:]
    # Two unknown words need not be the same word.
    said_before = (runs[:, :, :-1] == latest).all(dim=3) & (latest != UNKNOWN).all(dim=3)  # (B, R, starts)
    followers = said[:, :, repeatable:]  # (B, R, starts): what came next there
    # A sentence that has ended only repeats <end>.
    forbidden = torch.where(said_before & (followers != END), -torch.inf, 0.0).to(logprobs.dtype)
    logprobs.scatter_add_(2, followers, forbidden)
