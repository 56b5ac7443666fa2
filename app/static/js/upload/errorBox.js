// Error box: shows an error above the photograph, with a button to try again.

export function openErrorBox(box) {
  let shown = "";

  /**
   * @param {{lead: string, detail: string, advice: string, again: boolean}|null} error
   * @param {number} count number of photographs that can be sent again
   */
  function show(error, count, onAgain) {
    const next = JSON.stringify([error, count]);
    if (next === shown) return; // otherwise screen readers would repeat it
    shown = next;
    box.hidden = error === null;
    if (error === null) {
      box.replaceChildren();
      return;
    }
    const parts = [line("strong", error.lead)];
    if (error.detail) parts.push(line("p", error.detail));
    parts.push(line("p", error.advice));
    if (error.again) {
      const button = line("button", count > 1 ? `Try all ${count} again` : "Try again");
      button.type = "button";
      button.className = "button";
      button.addEventListener("click", onAgain);
      parts.push(button);
    }
    box.replaceChildren(...parts);
  }

  return { show };
}

function line(tag, text) {
  return Object.assign(document.createElement(tag), { textContent: text });
}
