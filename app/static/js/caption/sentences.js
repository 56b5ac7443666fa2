// Descriptions of words and captions, for the page and screen readers. Numbers are coarse because maps are coarse.

import { isDiffuse, isGrid, peakPlace, spread } from "../view/grid.js";

export function probability(word) {
  return Math.min(1, Math.exp(Math.min(0, word.logprob ?? 0)));
}

// Below this share of attention on the picture, a word follows from the words before it, as "of" does.
const LITTLE_GROUNDING = 0.2;

/** Whether the word's heatmap means little: little of its attention is on the picture, or the map is diffuse. */
export function hasWeakEvidence(word) {
  return hasLittleGrounding(word) || isDiffuse(word.heatmap);
}

function hasLittleGrounding(word) {
  return (word.visual_grounding ?? 1) < LITTLE_GROUNDING;
}

export function describeWord(word) {
  const likely = `Probability\u00a0${percent(probability(word))}.`;
  const unknown = word.in_vocabulary === false ? "The captioner never learned this word and reads it as unknown. " : "";
  if (!isGrid(word.heatmap)) return `“${word.text}”. ${unknown}${likely}`;
  return `“${word.text}”: ${describeMap(word)} ${unknown}${likely}`;
}

function describeMap(word) {
  if (hasLittleGrounding(word)) {
    return `rests little on the picture (${percent(word.visual_grounding)} of its attention).`;
  }
  const cells = word.heatmap.weights.length;
  const over = Math.max(1, Math.round(spread(word.heatmap)));
  if (isDiffuse(word.heatmap)) return `spread over most of the picture, about ${over} of ${cells} cells.`;
  return `strongest at ${peakPlace(word.heatmap)}, over about ${over} of ${cells} cells.`;
}

/** The captioner's confidence in a caption; "" if the captioner is not calibrated. */
export function describeConfidence({ confidence, confident }) {
  if (confidence == null) return "";
  const threshold = `${confident ? "above" : "below"} the captioner’s threshold`;
  return `Confidence: ${percent(confidence)} that this caption is as good as a person’s, ${threshold}.`;
}

export function percent(share) {
  if (share < 0.01) return "under 1%";
  if (share > 0.99) return "over 99%";
  return `${Math.round(share * 100)}%`;
}

/** One cell's share of a map: small, hence with a decimal. */
export function cellShare(weight) {
  return `${(weight * 100).toFixed(weight < 0.1 ? 1 : 0)}%`;
}
