// The caption as a row of buttons. Pointing at, focusing or tapping a word selects it.
// Calls onWord(index or null) when another word is selected and onPin(index or null) when another word is pinned.

import { isGrid } from "../view/grid.js";
import { describeWord, probability, hasWeakEvidence } from "./sentences.js";

const PLAY_MS = 900;

export function openWords({ container, play, onWord, onPin }) {
  const reducedMotion = window.matchMedia("(prefers-reduced-motion: reduce)");
  let buttons = [];
  // The word in view is the first of these that is set.
  const view = { hovered: null, played: null, focused: null, pinned: null };
  let shown = null;
  let timer = null;

  // Hover ends at the edge of the caption, not in the gaps between its words. Otherwise the map would flicker.
  container.addEventListener("pointerover", (event) => {
    const index = indexOf(event.target);
    if (index !== null && event.pointerType !== "touch") change({ hovered: index });
  });
  container.addEventListener("pointerleave", () => change({ hovered: null }));
  container.addEventListener("focusin", (event) => {
    const index = indexOf(event.target);
    if (index === null) return;
    for (const [i, button] of buttons.entries()) button.tabIndex = i === index ? 0 : -1;
    change({ focused: index });
  });
  container.addEventListener("focusout", () => change({ focused: null }));
  container.addEventListener("click", (event) => {
    const index = indexOf(event.target);
    if (index !== null) pin(index);
  });
  container.addEventListener("keydown", (event) => {
    const index = indexOf(event.target);
    if (index === null || event.altKey || event.ctrlKey || event.metaKey) return;
    const last = buttons.length - 1;
    const next = { ArrowLeft: Math.max(0, index - 1), ArrowRight: Math.min(last, index + 1), Home: 0, End: last }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    stop();
    // Keys take precedence over a mouse that rests on the caption.
    change({ hovered: null });
    buttons[next].focus();
  });

  play.addEventListener("click", () => {
    if (reducedMotion.matches) step();
    else if (timer) stop();
    else start();
  });
  reducedMotion.addEventListener("change", labelPlay);
  labelPlay();

  function show(caption) {
    clear();
    container.replaceChildren();
    buttons = caption.words.map(makeButton);
    // Keep the text between two words: usually a space; nothing if the tokens are letters.
    let at = 0;
    for (const [i, button] of buttons.entries()) {
      const word = caption.words[i].text;
      const offset = caption.text.indexOf(word, at);
      const between = offset < 0 ? (i > 0 ? " " : "") : caption.text.slice(at, offset);
      if (between) container.append(between);
      container.append(button);
      if (offset >= 0) at = offset + word.length;
    }
    container.append(caption.text.slice(at));
    play.disabled = buttons.length === 0;
  }

  /** Adds a word while the caption is being written. */
  function append(word) {
    const button = makeButton(word, buttons.length);
    if (buttons.length > 0) container.append(" ");
    container.append(button);
    buttons.push(button);
  }

  function makeButton(word, index) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "word";
    button.textContent = word.text;
    button.title = describeWord(word);
    button.tabIndex = index === 0 ? 0 : -1;
    button.dataset.index = String(index);
    button.setAttribute("aria-pressed", "false");
    button.style.setProperty("--probability", probability(word).toFixed(3));
    button.classList.toggle("weak", isGrid(word.heatmap) && hasWeakEvidence(word));
    button.classList.toggle("unknown", word.in_vocabulary === false);
    return button;
  }

  function pin(index) {
    stop();
    change(view.pinned === index ? { pinned: null, focused: null } : { pinned: index, focused: index });
  }

  /** Clears the selection, wherever the pointer or the focus is. */
  function clear() {
    stop();
    change({ hovered: null, played: null, focused: null, pinned: null });
    mark(null);
  }

  function start() {
    const advance = () => {
      const next = view.played === null ? 0 : view.played + 1;
      if (next >= buttons.length) return stop();
      change({ hovered: null, played: next });
      timer = setTimeout(advance, PLAY_MS);
    };
    change({ pinned: null, focused: null });
    advance();
    labelPlay();
  }

  function stop() {
    clearTimeout(timer);
    timer = null;
    change({ played: null });
    labelPlay();
  }

  /** With reduced motion, each press of the button goes to the next word. */
  function step() {
    if (buttons.length > 0) change({ pinned: ((view.pinned ?? -1) + 1) % buttons.length });
  }

  function labelPlay() {
    play.textContent = reducedMotion.matches ? "Next word" : timer ? "Stop" : "Play";
  }

  function change(part) {
    const pinned = view.pinned;
    Object.assign(view, part);
    if (view.pinned !== pinned) onPin(view.pinned);
    const next = view.hovered ?? view.played ?? view.focused ?? view.pinned;
    for (const [i, button] of buttons.entries()) {
      button.classList.toggle("shown", i === next);
      button.setAttribute("aria-pressed", String(i === view.pinned));
    }
    if (next === shown) return;
    shown = next;
    onWord(next);
  }

  /** Tints each word by its share from 0 to 1; null removes all tints. */
  function mark(shares) {
    for (const [i, button] of buttons.entries()) {
      const share = shares ? shares[i] : 0;
      button.style.setProperty("--evidence", share.toFixed(3));
      button.classList.toggle("marked", share > 0);
    }
  }

  function indexOf(target) {
    const button = target instanceof Element ? target.closest("button.word") : null;
    return button ? Number(button.dataset.index) : null;
  }

  return {
    show,
    append,
    clear,
    mark,
    pin,
    hover: (index) => change({ hovered: index }),
    get playing() {
      return timer !== null;
    },
  };
}
