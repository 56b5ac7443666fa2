"""What a sampled caption is worth: CIDEr-D against what people said of the same training image.

In: tokens and the number of a training image; out: a number. It must not know of tensors or of how captions are made.
"""

from collections.abc import Sequence

from model.training.cider import CiderD, References
from model.training.dataset import Sample
from model.training.views import is_mirrored, view_caption
from model.vocabulary import END, Vocabulary, split_words


class Reward:
    """CIDEr-D with the document frequencies of the training split.

    With `count_end` <end> is a word like others in captions and references. Without it, a caption that stops after
    "with a" loses no more than one that ends well, since n-grams that are not there cost little, and training soon
    finds that out.
    """

    def __init__(self, samples: Sequence[Sample], vocabulary: Vocabulary, *, count_end: bool) -> None:
        self._vocabulary, self._count_end = vocabulary, count_end
        self._samples = samples
        # Words that the captioner does not know are words all the same: its <unk> would make them all one.
        self._unknown: dict[str, int] = {}
        documents = [self._references(sample.captions) for sample in samples]
        self._cider = CiderD(documents, len(vocabulary) + len(self._unknown))
        self._prepared: dict[tuple[int, bool], References] = {}

    def __call__(self, image: int, view: int, words: Sequence[int], *, ended: bool) -> float:
        """The reward for `words`, token ids without <end>, said of `view` of training image number `image`."""
        key = (image, is_mirrored(view))
        if key not in self._prepared:
            captions = [view_caption(caption, view) for caption in self._samples[image].captions]
            self._prepared[key] = self._cider.prepare(self._references(captions))
        return self._cider.score([*words, END] if ended and self._count_end else words, self._prepared[key])

    def _references(self, captions: Sequence[str]) -> list[list[int]]:
        end = [END] if self._count_end else []
        return [[*map(self._token, split_words(caption)), *end] for caption in captions]

    def _token(self, word: str) -> int:
        known = self._vocabulary.token(word)
        if known is not None:
            return known
        return self._unknown.setdefault(word, len(self._vocabulary) + len(self._unknown))
