// Where the photograph in view is on its way: sent, queued, looked at; and for how long it has been under way.
// In: a photograph, each time that it has come further. Out: the step list, the status line, body[data-state].
// It must not know how the states become known, nor guess one: it shows only what the service has said.

import { describeState } from "./photograph.js";

const TICK_MS = 100;
const UNDER_WAY = new Set(["uploading", "queued", "processing"]);

export function openProgress({ steps, status, elapsed }) {
  let shown = null;
  let timer = null;

  /** @param {import("./photograph.js").Photograph|null} photograph */
  function show(photograph) {
    shown = photograph;
    const state = photograph?.state ?? "idle";
    document.body.dataset.state = state;
    say(photograph ? sentence(photograph) : "");
    let passed = true;
    for (const step of steps.children) {
      const current = step.dataset.step === state;
      if (current) passed = false;
      step.classList.toggle("passed", passed && UNDER_WAY.has(state));
      if (current) step.setAttribute("aria-current", "step");
      else step.removeAttribute("aria-current");
    }
    clearInterval(timer);
    timer = UNDER_WAY.has(state) ? setInterval(tick, TICK_MS) : null;
    tick();
  }

  function say(text) {
    // Setting the same text again would have it read aloud again.
    if (status.textContent !== text) status.textContent = text;
  }

  function tick() {
    elapsed.textContent = timer && shown ? `${((performance.now() - shown.began) / 1000).toFixed(1)} s` : "";
  }

  return { show, say };
}

function sentence(photograph) {
  switch (photograph.state) {
    case "waiting": return "Waiting for its turn: others are being captioned first.";
    case "processing": return "Looking at the photograph…";
    case "failed": return "";
    case "succeeded":
      return photograph.seconds === null ? "Caption ready." : `Caption ready in ${photograph.seconds.toFixed(1)} s.`;
    default: return `${describeState(photograph)}…`;
  }
}
