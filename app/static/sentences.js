// What the page says about a word, to read and to be read aloud.
// In: words with their grids, as the service sends them. Out: plain sentences.
// It must not know the page. Its numbers are kept coarse: the grids are coarse.

import { isFunctionWord } from "./functionWords.js";
import { isDiffuse, isGrid, peakPlace, spread } from "./grid.js";

export function probability(word) {
  return Math.min(1, Math.exp(Math.min(0, word.logprob ?? 0)));
}

// Below this share of its attention on the picture, a word was made of the words before it.
const LOOKED_LITTLE = 0.35;

/** Whether the word's map means little: there is nothing to see of it, it hardly looked, or it looked everywhere. */
export function sawLittle(word) {
  return isFunctionWord(word.text) || hardlyLooked(word) || isDiffuse(word.heatmap);
}

function hardlyLooked(word) {
  return (word.visual_grounding ?? 1) < LOOKED_LITTLE;
}

export function describeWord(word) {
  const sure = `Probability\u00a0${percent(probability(word))}.`;
  const unknown = word.in_vocabulary === false ? "The captioner has never learned this word, and reads it as unknown. " : "";
  if (!isGrid(word.heatmap)) return `“${word.text}”. ${unknown}${sure}`;
  return `“${word.text}”: ${look(word)} ${unknown}${sure}`;
}

function look(word) {
  const cells = word.heatmap.weights.length;
  const over = Math.max(1, Math.round(spread(word.heatmap)));
  const looked = `${percent(word.visual_grounding ?? 1)} of its attention`;
  if (hardlyLooked(word)) return `hardly looked at the picture, with ${looked}.`;
  if (isFunctionWord(word.text)) {
    return `nothing in a picture shows this word; ${looked} fell on it, most at ${peakPlace(word.heatmap)}.`;
  }
  if (isDiffuse(word.heatmap)) return `spread over most of the picture, about ${over} of ${cells} cells.`;
  return `strongest at ${peakPlace(word.heatmap)}, over about ${over} of ${cells} cells.`;
}

/** What the captioner itself thinks of a sentence; "" where it was not measured. */
export function describeConfidence({ confidence, confident }) {
  if (confidence == null) return "";
  const verdict = confident ? "It counts that as sure." : "It does not count that as sure.";
  return `The captioner’s own estimate: ${percent(confidence)} that this is as good as a person’s caption. ${verdict}`;
}

export function percent(share) {
  if (share < 0.01) return "under 1%";
  if (share > 0.99) return "over 99%";
  return `${Math.round(share * 100)}%`;
}

/** One cell's share of a word's attention: small, hence with a decimal. */
export function cellShare(weight) {
  return `${(weight * 100).toFixed(weight < 0.1 ? 1 : 0)}%`;
}
