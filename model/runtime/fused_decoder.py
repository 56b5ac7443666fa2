"""The decoder with adaptive attention, made ready to write: the same numbers, sooner.

In: a trained decoder; out: one that can be stepped, and not be trained. What depends on a word alone is computed once
for the whole vocabulary, and products with the same factor are one. It must not know how words are chosen.
"""

import torch
from torch.nn import functional

from model.network.adaptive import AdaptiveDecoder
from model.network.cells import State
from model.network.encoded_images import AdaptiveEncodedImages, EncodedImages
from model.runtime.packed_linear import PackedLinear


class FusedDecoder:
    """See StepDecoder; for the equations, AdaptiveDecoder.

    Products are computed in `dtype`, all that is summed up in float32.
    """

    @torch.inference_mode()
    def __init__(self, decoder: AdaptiveDecoder, dtype: torch.dtype = torch.float32) -> None:
        self._decoder = decoder
        embedding, gate, cell = decoder.embedding.weight, decoder.sentinel_gate, decoder.cell
        self.output_bias = decoder.output_bias
        size = embedding.shape[1]
        # The four gates of the LSTM and that of the sentinel take the same: word, context and hidden state.
        inputs = size + decoder.hidden_size
        of_inputs = torch.cat([cell.weight_ih, gate.weight[:, :inputs]])  # (5 H, E + H)
        of_hidden = torch.cat([cell.weight_hh, gate.weight[:, inputs:]])  # (5 H, H)
        bias = torch.cat([cell.bias_ih + cell.bias_hh, gate.bias])
        self._word = embedding
        self._gates_of_word = functional.linear(embedding, of_inputs[:, :size], bias)  # (V, 5 H)
        self._gates = PackedLinear(
            torch.cat([of_inputs[:, size:], of_hidden], dim=1), dtype
        )  # of context and hidden state
        of_new_hidden = (decoder.query, decoder.deep_hidden, decoder.trust)
        weights, biases = zip(*((layer.weight, layer.bias) for layer in of_new_hidden), strict=True)
        self._of_new_hidden = PackedLinear(torch.cat(weights), dtype, torch.cat(biases))
        self._of_sentinel = PackedLinear(torch.cat([decoder.sentinel_key.weight, decoder.sentinel_value.weight]), dtype)
        self._deep_context = PackedLinear(decoder.deep_context.weight, dtype)
        self._output = PackedLinear(embedding, dtype, decoder.output_bias)
        self._attention_size = decoder.query.out_features
        self._named = (decoder.seen_as < len(decoder.usual_here)).nonzero().squeeze(1)
        self._named_as = decoder.seen_as[self._named]

    def start(self, encoded: EncodedImages, rows: int) -> State:
        """See StepDecoder."""
        return self._decoder.start(encoded, rows)

    def step(
        self, tokens: torch.Tensor, state: State, encoded: EncodedImages
    ) -> tuple[torch.Tensor, State, torch.Tensor]:
        """See StepDecoder."""
        assert isinstance(encoded, AdaptiveEncodedImages)
        hidden, cell, context = (part[:, :, 0] for part in state.parts)  # each (B, R, H)
        gates = self._gates_of_word[tokens] + self._gates(torch.cat([context, hidden], dim=2))
        i, f, g, o, s = gates.chunk(5, dim=2)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        shown = torch.tanh(cell)
        hidden, sentinel = torch.sigmoid(o) * shown, torch.sigmoid(s) * shown

        of_hidden = self._of_new_hidden(hidden)
        query, deep, trust = of_hidden.tensor_split([self._attention_size, of_hidden.shape[2] - 2], dim=2)
        key, value = self._of_sentinel(sentinel).tensor_split([self._attention_size], dim=2)
        scores = torch.cat([query @ encoded.keys.transpose(1, 2), (query * key).sum(dim=2, keepdim=True)], dim=2)
        attention = (scores * self._attention_size**-0.5).softmax(dim=2)
        weights, not_looking = attention[:, :, :-1], attention[:, :, -1:]
        context = weights @ encoded.annotations + not_looking * value

        deep = torch.tanh(deep + self._word[tokens] + self._deep_context(context))
        logits = self._output(deep)
        seen = self._decoder.seen(weights, trust, encoded)
        logits.index_add_(2, self._named, seen.index_select(2, self._named_as))
        return logits, State(tuple(part.unsqueeze(2) for part in (hidden, cell, context))), weights
