// List of all captions of a photograph, each with its source and score. Calls onPick(index).

export function openCaptionList({ section, list, onPick }) {
  let buttons = [];

  function show(entries, current) {
    // A single caption is in view already.
    section.hidden = entries.length < 2;
    buttons = entries.map((entry, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(
        part("caption-source", entry.source),
        part("caption-text", entry.caption.text),
        part("caption-score", score(entry.caption), "Log-probability of the whole caption: nearer to 0 is more probable"),
      );
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

  return {
    show,
    mark,
    get count() {
      return buttons.length;
    },
  };
}

function part(className, text, title = "") {
  const span = document.createElement("span");
  span.className = className;
  span.textContent = text;
  if (title) span.title = title;
  return span;
}

function score({ logprob }) {
  // A minus sign instead of a hyphen.
  return Number.isFinite(logprob) ? `log p ${logprob.toFixed(2).replace("-", "−")}` : "";
}
