// Overview: one small photograph with its heatmap for each word, as in papers on attention.
// It repeats what the caption's buttons do, so the keyboard skips it.

import { drawMap } from "./heatmap.js";
import { isGrid } from "./grid.js";

// Twice the displayed size, for dense screens.
const LONG_SIDE = 264;

export function openOverview({ list, onHover, onPick }) {
  const scratch = document.createElement("canvas");
  let tiles = [];

  list.addEventListener("pointerover", (event) => {
    if (event.pointerType !== "touch") onHover(indexOf(event.target));
  });
  list.addEventListener("pointerleave", () => onHover(null));
  list.addEventListener("click", (event) => {
    const index = indexOf(event.target);
    if (index !== null) onPick(index);
  });

  function show(words) {
    tiles = words.map((word, index) => {
      const tile = document.createElement("li");
      const canvas = document.createElement("canvas");
      const name = document.createElement("span");
      name.textContent = word.text;
      tile.dataset.index = String(index);
      tile.append(canvas, name);
      return tile;
    });
    list.replaceChildren(...tiles);
  }

  /** @param how as drawMap takes it, with topOf(word) in place of top. */
  function draw(words, picture, how) {
    for (const [i, tile] of tiles.entries()) {
      const canvas = tile.firstElementChild;
      const scale = LONG_SIDE / Math.max(how.aspect, 1);
      canvas.width = Math.max(1, Math.round(scale * how.aspect));
      canvas.height = Math.max(1, Math.round(scale));
      const context = canvas.getContext("2d");
      if (picture) context.drawImage(picture, 0, 0, canvas.width, canvas.height);
      if (!isGrid(words[i].heatmap)) continue;
      drawMap(scratch, words[i].heatmap, { ...how, top: how.topOf(words[i]) });
      context.imageSmoothingEnabled = how.smooth;
      context.drawImage(scratch, 0, 0, canvas.width, canvas.height);
    }
  }

  function mark(index) {
    for (const [i, tile] of tiles.entries()) tile.classList.toggle("shown", i === index);
  }

  function indexOf(target) {
    const tile = target instanceof Element ? target.closest("li") : null;
    return tile ? Number(tile.dataset.index) : null;
  }

  return { show, draw, mark };
}
