// Pointing: which words have evidence at a point of the photograph.

import { hasWeakEvidence } from "../caption/sentences.js";
import { isGrid, lift } from "./grid.js";

const NAMED = 3;
const RANKED = 5;
// Below this multiple of the average cell, a word has no particular evidence here.
const NOTABLE_LIFT = 1.3;

/**
 * Each word's evidence at a point (x, y from 0 to 1), as a multiple of the average cell; 0 without a heatmap.
 * It is weighted by visual grounding, so words with little attention on the picture count little.
 */
export function liftsAt(words, { x, y }) {
  return words.map((word) => (isGrid(word.heatmap) ? lift(word.heatmap, x, y) * (word.visual_grounding ?? 1) : 0));
}

/** From 0 to 1 for each word; 0 for words without particular evidence here. */
export function tints(lifts) {
  const most = Math.max(...lifts);
  return lifts.map((value) => (value >= NOTABLE_LIFT ? value / most : 0));
}

export function describePoint(words, lifts) {
  const named = byLift(lifts).slice(0, NAMED).filter((i) => lifts[i] >= NOTABLE_LIFT);
  if (named.length === 0) return "No word is stronger here than elsewhere.";
  return `Strongest here: ${named.map((i) => `“${words[i].text}” ${times(lifts[i])}`).join(", ")} the average.`;
}

/** Draws the ranking as bars. Screen readers skip it, because describePoint says the same. */
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
  item.classList.toggle("little", !isGrid(word.heatmap) || hasWeakEvidence(word));
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
