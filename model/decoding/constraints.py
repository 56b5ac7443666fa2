"""Which tokens may come next, whoever chooses. In: log-probabilities and what was said so far; out: -inf for the rest.

It must not know how the choice is made.
"""

import torch
from torch import nn

from model.text.characters import FIRST_MARK, LAST_MARK, LONGEST_WORD, SPACE
from model.text.vocabulary import END, PAD, START, UNKNOWN


class Constraints:
    """<pad>, <start> and <unk> are never said, <end> not as the first word, and little is said twice.

    No more than `repeatable` tokens in a row may be said a second time (Paulus, Xiong and Socher, 2018): with 1, "a man
    in a red shirt and a red shirt" is never written. Nor is a token said again at once. None: no limit. Where tokens
    are characters, `characters` holds too.
    """

    def __init__(
        self, repeatable: int | None, device: torch.device, characters: "CharacterConstraints | None" = None
    ) -> None:
        self._repeatable, self._spelling = repeatable, characters
        self._never = torch.tensor([PAD, START, UNKNOWN], device=device)

    def apply(self, logprobs: torch.Tensor, said: torch.Tensor) -> None:
        """Set `logprobs` (B, R, V) to -inf for every token that may not follow `said` (B, R, T)."""
        logprobs[:, :, self._never] = -torch.inf
        if said.shape[2] == 0:
            logprobs[:, :, END] = -torch.inf
        if self._repeatable is not None:
            _forbid_repeats(logprobs, said, self._repeatable)
            logprobs.scatter_(2, said[:, :, -1:], -torch.inf)
        if self._spelling is not None:
            self._spelling.apply(logprobs, said)


class CharacterConstraints:
    """What makes characters words, and a sentence one of at most `max_words` words after its prefix.

    A space, an apostrophe or a hyphen stands between two letters or digits, a prefix is followed by no letter, and no
    word is longer than LONGEST_WORD. At the end of the last word that may be written it makes no difference whether the
    sentence ends or goes on: it is cut, and <end> gets the probability of <end> and space together.
    """

    def __init__(self, max_words: int, prefix: int) -> None:
        """`prefix` is how many characters of the sentence are forced."""
        self._max_words, self._prefix = max_words, prefix

    def apply(self, logprobs: torch.Tensor, said: torch.Tensor) -> None:
        """Change `logprobs` (B, R, V) to what may follow `said` (B, R, T); rows that have ended count for nothing."""
        said = nn.functional.pad(said, (1, 0), value=SPACE)  # (B, R, 1 + T): at the start too, a letter must follow
        after_mark = (said[:, :, -1] >= FIRST_MARK) & (said[:, :, -1] <= LAST_MARK)  # (B, R)
        spaces = said == SPACE
        written = (spaces.flip(2).cumsum(dim=2) == 0).sum(dim=2)  # (B, R): characters of the word at hand
        begun = spaces[:, :, 1 + self._prefix :].sum(dim=2) + (self._prefix == 0)  # (B, R): words after the prefix

        whole = (written >= LONGEST_WORD) | (self._prefix > 0 and said.shape[2] == 1 + self._prefix)
        inner, others = slice(SPACE + 1, LAST_MARK + 1), slice(SPACE + 1, None)
        _forbid(logprobs, others, whole)
        _forbid(logprobs, inner, written >= LONGEST_WORD - 1)  # it would leave no room for the letter to follow
        _forbid(logprobs, slice(FIRST_MARK, LAST_MARK + 1), after_mark)
        _forbid(logprobs, slice(END, END + 1), after_mark)

        cut = begun >= self._max_words
        either = torch.logaddexp(logprobs[:, :, END], logprobs[:, :, SPACE])
        logprobs[:, :, END] = torch.where(cut, either, logprobs[:, :, END])
        _forbid(logprobs, slice(SPACE, SPACE + 1), cut)


def _forbid(logprobs: torch.Tensor, tokens: slice, where: torch.Tensor) -> None:
    """Set `logprobs` (B, R, V) of `tokens` to -inf in the rows `where` (B, R)."""
    logprobs[:, :, tokens].masked_fill_(where.unsqueeze(2), -torch.inf)


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
