"""The adaptive decoder, optimised for inference. It gives the same results faster.

Everything that depends on a word alone is computed once for the whole vocabulary, and products with a common factor are
one product.
"""

import torch
from torch.nn import functional

from model.network.adaptive import AdaptiveDecoder
from model.network.cells import State
from model.network.encoded_images import AdaptiveEncodedImages, EncodedImages
from model.runtime.packed_linear import PackedLinear


class FusedDecoder:
    """See StepDecoder; AdaptiveDecoder has the equations.

    Products are computed in `dtype`, sums in float32. The weights of the decoder must not change afterwards.
    """

    @torch.inference_mode()
    def __init__(self, decoder: AdaptiveDecoder, dtype: torch.dtype = torch.float32) -> None:
        self._decoder = decoder
        embedding, gate, cell = decoder.embedding.weight, decoder.sentinel_gate, decoder.cell
        self.output_bias = decoder.output_bias
        size = embedding.shape[1]
        # The four gates of the LSTM and the gate of the sentinel have the same inputs: word, context and hidden state.
        inputs = size + decoder.hidden_size
        input_weights = torch.cat([cell.weight_ih, gate.weight[:, :inputs]])  # (5 H, E + H)
        hidden_weights = torch.cat([cell.weight_hh, gate.weight[:, inputs:]])  # (5 H, H)
        bias = torch.cat([cell.bias_ih + cell.bias_hh, gate.bias])
        self._embedding = embedding
        self._gates_of_word = functional.linear(embedding, input_weights[:, :size], bias)  # (V, 5 H)
        # Of context and hidden state.
        self._gates = PackedLinear(torch.cat([input_weights[:, size:], hidden_weights], dim=1), dtype)
        hidden_layers = (decoder.query, decoder.deep_hidden, decoder.trust)
        weights, biases = zip(*((layer.weight, layer.bias) for layer in hidden_layers), strict=True)
        self._hidden_projections = PackedLinear(torch.cat(weights), dtype, torch.cat(biases))
        self._sentinel_projections = PackedLinear(
            torch.cat([decoder.sentinel_key.weight, decoder.sentinel_value.weight]), dtype
        )
        self._deep_context = PackedLinear(decoder.deep_context.weight, dtype)
        self._output = PackedLinear(embedding, dtype, decoder.output_bias)
        self._attention_size = decoder.query.out_features
        self._detectable = (decoder.seen_as < len(decoder.usual_here)).nonzero().squeeze(1)
        self._detector_words = decoder.seen_as[self._detectable]

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
        squashed_cell = torch.tanh(cell)
        hidden, sentinel = torch.sigmoid(o) * squashed_cell, torch.sigmoid(s) * squashed_cell

        projected = self._hidden_projections(hidden)
        query, deep, trust = projected.tensor_split([self._attention_size, projected.shape[2] - 2], dim=2)
        key, value = self._sentinel_projections(sentinel).tensor_split([self._attention_size], dim=2)
        scores = torch.cat([query @ encoded.keys.transpose(1, 2), (query * key).sum(dim=2, keepdim=True)], dim=2)
        attention = (scores * self._attention_size**-0.5).softmax(dim=2)
        weights, sentinel_weight = attention[:, :, :-1], attention[:, :, -1:]
        context = weights @ encoded.annotations + sentinel_weight * value

        deep = torch.tanh(deep + self._embedding[tokens] + self._deep_context(context))
        logits = self._output(deep)
        evidence = self._decoder.word_evidence(weights, trust, encoded)
        logits.index_add_(2, self._detectable, evidence.index_select(2, self._detector_words))
        return logits, State(tuple(part.unsqueeze(2) for part in (hidden, cell, context))), weights
