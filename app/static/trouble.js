// What went wrong, and the way out of it, in a box above the photograph.
// In: what problems.js has to say, and what to do on "Try again". It must not know what was tried.

export function openTrouble(box) {
  let said = "";

  /**
   * @param {{lead: string, detail: string, advice: string, again: boolean}|null} trouble
   * @param {number} count how many photographs can be tried again
   */
  function show(trouble, count, onAgain) {
    const saying = JSON.stringify([trouble, count]);
    if (saying === said) return; // else it would be read aloud again
    said = saying;
    box.hidden = trouble === null;
    if (trouble === null) {
      box.replaceChildren();
      return;
    }
    const parts = [line("strong", trouble.lead)];
    if (trouble.detail) parts.push(line("p", trouble.detail));
    parts.push(line("p", trouble.advice));
    if (trouble.again) {
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
