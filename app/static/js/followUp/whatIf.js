// Replaces a word and lets the captioner continue from there.
// The choices are the captioner's next-word distribution: the beams of a search that is one word long.

import { percent } from "../caption/sentences.js";

const CHOICES = 8;
const LEAD = "First pin a word of the caption: click it, tap it, or press Enter on it.";

export function openWhatIf({ lead, button, list, form, field, current, ask, onAnswer }) {
  let position = null;

  button.addEventListener("click", async () => {
    const at = pinned();
    if (!at) return;
    const fields = {
      prefix: at.before, strategy: "beam", num_captions: CHOICES, beam_size: CHOICES, max_words: 1, attention: "none",
    };
    const job = await ask(at.photograph, { fields });
    if (job && pinned()?.key === at.key) list.replaceChildren(...job.captions.map((caption) => choice(caption, at)));
  });

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const at = pinned();
    if (at && field.value.trim()) continueWith(at, field.value.trim());
  });

  function pin(index) {
    position = index;
    const at = pinned();
    lead.textContent = at ? `Instead of “${at.word.text}”` : LEAD;
    button.disabled = field.disabled = !at;
    form.querySelector("button").disabled = !at;
    list.replaceChildren();
  }

  function pinned() {
    const { photograph, entry } = current();
    const word = position === null ? null : entry?.caption.words[position];
    if (!word) return null;
    const before = entry.caption.words.slice(0, position).map(({ text }) => text).join(" ");
    return { photograph, entry, word, position, before, key: `${entry.job.id} ${entry.number} ${position}` };
  }

  /** One choice: a word with its probability, or the end of the caption, which cannot be continued. */
  function choice(caption, at) {
    const item = document.createElement("li");
    const word = caption.words[at.position];
    const logprobOfWords = caption.words.reduce((sum, { logprob }) => sum + logprob, 0);
    const share = percent(Math.exp(word ? word.logprob : caption.logprob - logprobOfWords));
    if (!word) {
      item.textContent = `(the end) ${share}`;
      return item;
    }
    const chosen = document.createElement("button");
    chosen.type = "button";
    chosen.className = "choice";
    chosen.append(word.text, Object.assign(document.createElement("span"), { textContent: share }));
    if (word.text === at.word.text) chosen.setAttribute("aria-current", "true");
    chosen.addEventListener("click", () => continueWith(at, word.text));
    item.append(chosen);
    return item;
  }

  async function continueWith(at, word) {
    const prefix = at.before ? `${at.before} ${word}` : word;
    const job = await ask(at.photograph, { fields: { prefix } });
    if (!job) return;
    const entry = { job, number: 0, caption: job.captions[0], source: `if “${word}”`, url: null };
    onAnswer(at.photograph, entry, at.position);
  }

  pin(null);
  return { pin };
}
