// The captions that came second and third, with their scores; picking one puts it and its maps in view.
// In: the captions of a job, best first. Out: onPick(index).
// It must not know words or maps.

export function openAlternatives({ section, list, onPick }) {
  let buttons = [];

  function show(captions, current) {
    // One caption has no alternatives; the list with several holds the first too, so that there is a way back.
    section.hidden = captions.length < 2;
    buttons = captions.map((caption, index) => {
      const button = document.createElement("button");
      const text = document.createElement("span");
      const score = document.createElement("span");
      text.className = "alternative-text";
      text.textContent = caption.text;
      score.className = "alternative-score";
      score.textContent = formatScore(caption.logprob);
      score.title = "Log-probability of the whole sentence: nearer to 0 is likelier";
      button.type = "button";
      button.append(text, score);
      button.addEventListener("click", () => onPick(index));
      return button;
    });
    list.replaceChildren(
      ...buttons.map((button) => {
        const item = document.createElement("li");
        item.append(button);
        return item;
      }),
    );
    mark(current);
  }

  function mark(current) {
    for (const [i, button] of buttons.entries()) button.setAttribute("aria-pressed", String(i === current));
  }

  return { show, mark };
}

function formatScore(logprob) {
  // A true minus sign, as in the rest of the page's numbers.
  return Number.isFinite(logprob) ? `log p ${logprob.toFixed(2).replace("-", "−")}` : "";
}
