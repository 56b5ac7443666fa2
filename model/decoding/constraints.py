"""Constraints on the next token, for all strategies: forbidden tokens get the log-probability -inf."""

import torch
from torch import nn

from model.text.characters import FIRST_MARK, LAST_MARK, LONGEST_WORD, SPACE
from model.text.vocabulary import END, PAD, START, UNKNOWN


class Constraints:
    """Forbid special tokens, empty sentences and repetitions.

    <pad>, <start> and <unk> are never generated, and <end> is never the first token. At most `repeatable` tokens in a
    row may occur a second time (Paulus, Xiong and Socher, 2018, section 2.5): with 1, "a man in a red shirt and a red
    shirt" is not generated. No token follows itself. None removes both limits. If tokens are characters, `characters`
    applies too.
    """

    def __init__(
        self, repeatable: int | None, device: torch.device, characters: "CharacterConstraints | None" = None
    ) -> None:
        self._repeatable, self._characters = repeatable, characters
        self._special = torch.tensor([PAD, START, UNKNOWN], device=device)

    def apply(self, logprobs: torch.Tensor, tokens: torch.Tensor) -> None:
        """Set `logprobs` (B, R, V) to -inf for every token that may not follow `tokens` (B, R, T)."""
        logprobs[:, :, self._special] = -torch.inf
        if tokens.shape[2] == 0:
            logprobs[:, :, END] = -torch.inf
        if self._repeatable is not None:
            _forbid_repeats(logprobs, tokens, self._repeatable)
            logprobs.scatter_(2, tokens[:, :, -1:], -torch.inf)
        if self._characters is not None:
            self._characters.apply(logprobs, tokens)


class CharacterConstraints:
    """Make characters form words, and limit a sentence to `max_words` words after its prefix.

    A space, an apostrophe or a hyphen stands between two letters or digits. No letter follows a prefix. No word is
    longer than LONGEST_WORD. After the last allowed word the sentence is cut, whether it would end or continue, so
    <end> gets the probability of <end> and space together.
    """

    def __init__(self, max_words: int, prefix: int) -> None:
        """`prefix` is the number of forced characters."""
        self._max_words, self._prefix = max_words, prefix

    def apply(self, logprobs: torch.Tensor, tokens: torch.Tensor) -> None:
        """Change `logprobs` (B, R, V) to what may follow `tokens` (B, R, T). Ended rows are ignored by the caller."""
        tokens = nn.functional.pad(tokens, (1, 0), value=SPACE)  # (B, R, 1 + T): a sentence starts with a letter
        after_mark = (tokens[:, :, -1] >= FIRST_MARK) & (tokens[:, :, -1] <= LAST_MARK)  # (B, R)
        spaces = tokens == SPACE
        word_length = (spaces.flip(2).cumsum(dim=2) == 0).sum(dim=2)  # (B, R): characters of the current word
        words = spaces[:, :, 1 + self._prefix :].sum(dim=2) + (self._prefix == 0)  # (B, R): words after the prefix

        complete = (word_length >= LONGEST_WORD) | (self._prefix > 0 and tokens.shape[2] == 1 + self._prefix)
        inner, others = slice(SPACE + 1, LAST_MARK + 1), slice(SPACE + 1, None)
        _forbid(logprobs, others, complete)
        _forbid(logprobs, inner, word_length >= LONGEST_WORD - 1)  # no room for the letter that must follow
        _forbid(logprobs, slice(FIRST_MARK, LAST_MARK + 1), after_mark)
        _forbid(logprobs, slice(END, END + 1), after_mark)

        cut = words >= self._max_words
        either = torch.logaddexp(logprobs[:, :, END], logprobs[:, :, SPACE])
        logprobs[:, :, END] = torch.where(cut, either, logprobs[:, :, END])
        _forbid(logprobs, slice(SPACE, SPACE + 1), cut)


def _forbid(logprobs: torch.Tensor, forbidden: slice, where: torch.Tensor) -> None:
    """Set `logprobs` (B, R, V) of the tokens `forbidden` to -inf in the rows `where` (B, R)."""
    logprobs[:, :, forbidden].masked_fill_(where.unsqueeze(2), -torch.inf)


def _forbid_repeats(logprobs: torch.Tensor, tokens: torch.Tensor, repeatable: int) -> None:
    """Forbid tokens that would repeat a run of `repeatable` + 1 tokens."""
    starts = tokens.shape[2] - repeatable  # runs of that many tokens that are followed by another token
    if starts <= 0:
        return
    runs = tokens.unfold(2, repeatable, 1)  # (B, R, starts + 1, repeatable)
    latest = runs[:, :, -1:]
    # Two <unk> may stand for different words.
    repeated = (runs[:, :, :-1] == latest).all(dim=3) & (latest != UNKNOWN).all(dim=3)  # (B, R, starts)
    followers = tokens[:, :, repeatable:]  # (B, R, starts): the token after each run
    # An ended sentence keeps repeating <end>.
    forbidden = torch.where(repeated & (followers != END), -torch.inf, 0.0).to(logprobs.dtype)
    logprobs.scatter_add_(2, followers, forbidden)
