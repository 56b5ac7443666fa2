// What the page says about a word, to read and to be read aloud.
// In: words with their grids, as the service sends them. Out: plain sentences.
// It must not know the page. Its numbers are kept coarse: the grids are coarse.

import { isDiffuse, isGrid, peakPlace, spread } from "./grid.js";

export function probability(word) {
  return Math.min(1, Math.exp(Math.min(0, word.logprob ?? 0)));
}

// Below this share of its attention on the picture, a word was made of the words before it.
const LOOKED_LITTLE = 0.35;

/** Whether the word's map means little: it hardly looked at the picture, or everywhere. */
export function sawLittle(word) {
  return hardlyLooked(word) || isDiffuse(word.attention);
}

function hardlyLooked(word) {
  return (word.looked ?? 1) < LOOKED_LITTLE;
}

export function describeWord(word) {
  const sure = `Probability\u00a0${percent(probability(word))}.`;
  if (!isGrid(word.attention)) return `“${word.text}”. ${sure}`;
  const cells = word.attention.weights.length;
  const over = Math.max(1, Math.round(spread(word.attention)));
  if (hardlyLooked(word)) {
    return `“${word.text}”: hardly looked at the picture, with ${percent(word.looked)} of its attention. ${sure}`;
  }
  const place = isDiffuse(word.attention)
    ? `spread over most of the picture, about ${over} of ${cells} cells.`
    : `strongest at ${peakPlace(word.attention)}, over about ${over} of ${cells} cells.`;
  return `“${word.text}”: ${place} ${sure}`;
}

function percent(share) {
  if (share < 0.01) return "under 1%";
  if (share > 0.99) return "over 99%";
  return `${Math.round(share * 100)}%`;
}

/** One cell's share of a word's attention: small, hence with a decimal. */
export function cellShare(weight) {
  return `${(weight * 100).toFixed(weight < 0.1 ? 1 : 0)}%`;
}
