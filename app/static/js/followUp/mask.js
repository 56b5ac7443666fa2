// Mask: captions the photograph without a part of it and shows which words change.

import { SCORES } from "../api/client.js";
import { changesBetween, drawChanges } from "./changes.js";
import { openPainting } from "./painting.js";
import { percent, probability } from "../caption/sentences.js";

// A word has lost its evidence when its probability falls below this share of what it was.
const LOST = 0.5;
const NAMED = 6;

export function openMask({ panel, brush, again, clear, changes, losses, parts, current, ask, onAnswer }) {
  const painting = openPainting({
    ...parts,
    brush,
    onChange: (marks) => (again.disabled = clear.disabled = marks === 0),
  });

  panel.addEventListener("toggle", () => {
    if (panel.open) painting.start();
    else painting.stop();
  });
  clear.addEventListener("click", painting.clear);
  again.addEventListener("click", async () => {
    const { photograph, entry } = current();
    if (!entry) return;
    again.disabled = true;
    const file = await painting.maskedPicture(photograph.name);
    const [written, scored] = await Promise.all([
      ask(photograph, { fields: optionsOf(entry.job), file }),
      ask(photograph, { path: SCORES, fields: { caption: entry.caption.text, attention: "none" }, file }),
    ]);
    again.disabled = false;
    if (!written || !scored) return;
    const caption = written.captions[0];
    painting.clear(); // it is part of the new picture
    onAnswer(photograph, { job: written, number: 0, caption, source: "masked", url: URL.createObjectURL(file) });
    showChanges(entry.caption, caption, scored.captions[0]);
  });

  function showChanges(before, after, rescored) {
    const words = ({ words: list }) => list.map(({ text }) => text);
    drawChanges(changes, changesBetween(words(before), words(after)));
    losses.textContent = describeLosses(before.words, rescored.words);
  }

  function forget() {
    painting.clear();
    changes.replaceChildren();
    losses.textContent = "";
  }

  return { forget };
}

/** The options of the earlier job, so that only the picture differs. */
function optionsOf({ options }) {
  const fields = {};
  for (const name of ["strategy", "num_captions", "beam_size", "prefix", "seed", "temperature"]) {
    const value = options[name];
    if (value !== null && value !== undefined && value !== "") fields[name] = value;
  }
  return fields;
}

function describeLosses(before, after) {
  if (before.length !== after.length) return "";
  const lost = before
    .map((word, i) => ({ text: word.text, was: probability(word), is: probability(after[i]) }))
    .filter(({ was, is }) => is < was * LOST)
    .sort((a, b) => a.is / a.was - b.is / b.was)
    .slice(0, NAMED);
  if (lost.length === 0) return "Without that part, every word of the earlier caption stays about as probable.";
  const list = lost.map(({ text, was, is }) => `“${text}” ${percent(was)} → ${percent(is)}`).join(", ");
  return `Without that part, these words of the earlier caption become less probable: ${list}.`;
}
