// All sentences about a photograph, each with its source and score; picking one puts it and its maps in view.
// In: readings, as photograph.js has them. Out: onPick(index). It must not know words or maps.

export function openReadings({ section, list, onPick }) {
  let buttons = [];

  function show(readings, current) {
    // A single one is in view already.
    section.hidden = readings.length < 2;
    buttons = readings.map((reading, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(
        part("reading-source", reading.source),
        part("reading-text", reading.caption.text),
        part("reading-score", score(reading.caption), "Log-probability of the whole sentence: nearer to 0 is likelier"),
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
  // A true minus sign, as in the rest of the page's numbers.
  return Number.isFinite(logprob) ? `log p ${logprob.toFixed(2).replace("-", "−")}` : "";
}
