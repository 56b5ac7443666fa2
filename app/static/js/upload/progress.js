// Progress of the photograph in view: list of steps, status line, elapsed time and body[data-state].

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
    // Setting the same text again would make screen readers repeat it.
    if (status.textContent !== text) status.textContent = text;
  }

  function tick() {
    elapsed.textContent = timer && shown ? `${((performance.now() - shown.began) / 1000).toFixed(1)} s` : "";
  }

  return { show, say };
}

function sentence(photograph) {
  switch (photograph.state) {
    case "waiting": return "Waiting: other photographs are captioned first.";
    case "processing": return "Writing the caption…";
    case "failed": return "";
    case "succeeded":
      return photograph.seconds === null ? "Caption ready." : `Caption ready in ${photograph.seconds.toFixed(1)} s.`;
    default: return `${describeState(photograph)}…`;
  }
}
