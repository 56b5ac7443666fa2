"""How good the captions are that a captioner writes freely. In: a captioner; out: its CIDEr on the split `val`."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from model.captioner import Captioner
from model.evaluation.scores import quick_cider
from model.options import DecodingOptions, Strategy
from model.training.dataset import Sample
from model.training.prefetch import Prefetch
from model.training.processes import Processes
from model.training.recipe import Recipe
from model.training.step import autocast

_BATCH = 64
_GREEDY = DecodingOptions(strategy=Strategy.GREEDY, repeatable=None)


class Validation:
    """Greedy search over images whose `activations` (1, images, C', R', R') are known, shared among the processes."""

    def __init__(
        self,
        recipe: Recipe,
        samples: list[Sample],
        activations: npt.NDArray[np.float16],
        processes: Processes,
    ) -> None:
        self._recipe, self._samples, self._activations, self._processes = recipe, samples, activations, processes
        style = samples[0].style if recipe.default_style not in (None, samples[0].style) else None
        self._options = replace(_GREEDY, style=style)

    @torch.inference_mode()
    def cider(self, captioner: Captioner) -> float:
        """CIDEr-D on our own tokens, without the captioner being told any true word. The same in every process."""
        vocabulary = captioner.vocabulary
        most = vocabulary.most_tokens(_GREEDY.max_words)
        tokens = torch.zeros(len(self._samples), most, dtype=torch.long)  # of <pad>, which is never said
        mine = np.arange(len(self._samples))[self._processes.rank :: self._processes.count]
        chunks = [mine[start : start + _BATCH] for start in range(0, len(mine), _BATCH)]
        for images, trunk in Prefetch((chunk, torch.from_numpy(self._activations[0, chunk])) for chunk in chunks):
            with autocast(self._recipe, self._processes.device):
                memory = captioner.memorise(captioner.see(trunk.to(self._processes.device).float()))
                written = captioner.write(memory, self._options)
            for image, (caption,) in zip(images, written, strict=True):
                said = vocabulary.encode(caption.text)
                tokens[image, : len(said)] = torch.tensor(said)
        tokens = tokens.to(self._processes.device)
        self._processes.sum(tokens)  # every row is 0 but in one process
        captions = {
            sample.name: vocabulary.decode([token for token in row if token])
            for sample, row in zip(self._samples, tokens.tolist(), strict=True)
        }
        references = {sample.name: sample.captions for sample in self._samples}
        return self._processes.agree(quick_cider(captions, references))
