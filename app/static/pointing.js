// The question the other way round: which words looked at this point of the photograph?
// In: words with their grids, and a point (x, y from 0 to 1). Out: a tint for each word, a ranking, and a sentence.
// It must not know how a point is chosen.

import { isGrid, lift } from "./grid.js";
import { sawLittle } from "./sentences.js";

const NAMED = 3;
const RANKED = 5;
// Below this multiple of an even look, a word did not mean this spot.
const NOTABLE_LIFT = 1.3;

/**
 * How strongly each word looked there, as a multiple of an even look with all of its attention; 0 without a map.
 * A word that hardly looked at the picture counts as little, wherever the rest of its look fell.
 */
export function liftsAt(words, { x, y }) {
  return words.map((word) => (isGrid(word.heatmap) ? lift(word.heatmap, x, y) * (word.visual_grounding ?? 1) : 0));
}

/** From 0 to 1 for each word; all 0 where no word looked more than evenly. */
export function tints(lifts) {
  const most = Math.max(...lifts);
  return lifts.map((value) => (value >= NOTABLE_LIFT ? value / most : 0));
}

export function describePoint(words, lifts) {
  const named = byLift(lifts).slice(0, NAMED).filter((i) => lifts[i] >= NOTABLE_LIFT);
  if (named.length === 0) return "No word looked here more than elsewhere.";
  return `Looked here most: ${named.map((i) => `“${words[i].text}” ${times(lifts[i])}`).join(", ")} an even look.`;
}

/** Draws the ranking as bars: the sentence says the same, so readers of screens are spared it. */
export function drawRanking(list, words, lifts) {
  const most = Math.max(NOTABLE_LIFT, ...lifts);
  list.replaceChildren(...byLift(lifts).slice(0, RANKED).map((i) => row(words[i], lifts[i], lifts[i] / most)));
}

function row(word, value, share) {
  const item = document.createElement("li");
  const bar = part("");
  bar.className = "bar";
  bar.style.setProperty("--share", share.toFixed(3));
  item.append(part(word.text), bar, part(times(value)));
  item.classList.toggle("little", !isGrid(word.heatmap) || sawLittle(word));
  return item;
}

function part(text) {
  return Object.assign(document.createElement("span"), { textContent: text });
}

function byLift(lifts) {
  return [...lifts.keys()].sort((a, b) => lifts[b] - lifts[a]);
}

function times(value) {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)}×`;
}
