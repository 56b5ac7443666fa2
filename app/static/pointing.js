// The question the other way round: which words looked at this point of the photograph?
// In: words with their grids, and a point (x, y from 0 to 1). Out: a tint for each word, and a sentence.
// It must not know the page, nor how a point is chosen.

import { isGrid, lift } from "./grid.js";

const NAMED = 3;
// Below this multiple of an even look, a word did not mean this spot.
const NOTABLE_LIFT = 1.3;

/** How strongly each word looked there, as a multiple of an even look; 0 for words without a map. */
export function liftsAt(words, { x, y }) {
  return words.map((word) => (isGrid(word.attention) ? lift(word.attention, x, y) : 0));
}

/** From 0 to 1 for each word; all 0 where no word looked more than evenly. */
export function tints(lifts) {
  const most = Math.max(...lifts);
  return lifts.map((value) => (value >= NOTABLE_LIFT ? value / most : 0));
}

export function describePoint(words, lifts) {
  const named = [...lifts.keys()]
    .filter((i) => lifts[i] >= NOTABLE_LIFT)
    .sort((a, b) => lifts[b] - lifts[a])
    .slice(0, NAMED);
  if (named.length === 0) return "No word looked here more than elsewhere.";
  return `Looked here most: ${named.map((i) => `“${words[i].text}” ${times(lifts[i])}`).join(", ")} an even look.`;
}

function times(value) {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)}×`;
}
