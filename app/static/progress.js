// Where a photograph is on its way: sent, queued, looked at; and for how long it has been under way.
// In: the states as they are reported. Out: the step list, the status line, body[data-state].
// It must not know how the states become known, nor guess one: it shows only what the service has said.

const TICK_MS = 100;

export function openProgress({ steps, status, elapsed }) {
  let started = 0;
  let timer = null;
  let sent = null;

  function begin() {
    started = performance.now();
    sent = null;
    clearInterval(timer);
    timer = setInterval(tick, TICK_MS);
    tick();
  }

  function enter(state, text) {
    document.body.dataset.state = state;
    // Setting the same text again would have it read aloud again.
    if (status.textContent !== text) status.textContent = text;
    let passed = true;
    for (const step of steps.children) {
      const current = step.dataset.step === state;
      if (current) passed = false;
      step.classList.toggle("passed", passed);
      if (current) step.setAttribute("aria-current", "step");
      else step.removeAttribute("aria-current");
    }
  }

  /** Seconds since begin(); stops the clock. */
  function end() {
    clearInterval(timer);
    timer = null;
    elapsed.textContent = "";
    return (performance.now() - started) / 1000;
  }

  function tick() {
    const seconds = `${((performance.now() - started) / 1000).toFixed(1)} s`;
    const sending = document.body.dataset.state === "uploading" && sent !== null;
    elapsed.textContent = sending ? `${Math.round(sent * 100)}% sent, ${seconds}` : seconds;
  }

  return { begin, enter, end, setSent: (share) => (sent = share) };
}
