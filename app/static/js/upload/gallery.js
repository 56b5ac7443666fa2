// Gallery: a row of cards, one for each photograph, with its state or its caption.

import { describeState } from "./photograph.js";

export function openGallery({ section, list, onShow, onRemove }) {
  /** @type {Map<object, {item: HTMLElement, button: HTMLElement, picture: HTMLImageElement, words: HTMLElement}>} */
  const cards = new Map();

  function add(photograph) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    const picture = document.createElement("img");
    const words = document.createElement("span");
    const remove = document.createElement("button");
    button.type = remove.type = "button";
    button.className = "card";
    words.className = "card-words";
    picture.alt = "";
    picture.decoding = "async";
    picture.addEventListener("error", () => (picture.hidden = true));
    remove.className = "card-remove";
    remove.textContent = "×";
    remove.setAttribute("aria-label", `Remove ${photograph.name}`);
    remove.title = "Remove";
    button.append(picture, words);
    button.addEventListener("click", () => onShow(photograph));
    remove.addEventListener("click", () => onRemove(photograph));
    item.append(button, remove);
    list.append(item);
    cards.set(photograph, { item, button, picture, words });
    update(photograph);
  }

  function update(photograph) {
    const card = cards.get(photograph);
    if (!card) return;
    const { item, picture, words } = card;
    if (photograph.url && picture.getAttribute("src") !== photograph.url) {
      picture.src = photograph.url;
      picture.hidden = false;
    }
    item.dataset.state = photograph.state;
    const caption = photograph.captionList[0]?.caption.text ?? photograph.words.map((word) => word.text).join(" ");
    const text = caption || describeState(photograph);
    if (words.textContent !== text) words.textContent = text;
    item.title = `${photograph.name}: ${photograph.error?.lead ?? describeState(photograph)}`;
    // A single photograph is in view already.
    section.hidden = cards.size < 2;
  }

  function remove(photograph) {
    cards.get(photograph)?.item.remove();
    cards.delete(photograph);
    section.hidden = cards.size < 2;
  }

  function mark(shown) {
    for (const [photograph, { button }] of cards) {
      if (photograph === shown) {
        button.setAttribute("aria-current", "true");
        button.scrollIntoView({ block: "nearest", inline: "nearest" });
      } else button.removeAttribute("aria-current");
    }
  }

  return { add, update, remove, mark, focus: (photograph) => cards.get(photograph)?.button.focus() };
}
