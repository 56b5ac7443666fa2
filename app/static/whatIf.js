// Another word in the place of one, and the sentence that goes on from there.
// In: the reading in view and which of its words is pinned. Out: onAnswer(photograph, reading).
// What could stand there instead is the captioner's own next-word distribution: the beams of a search one word long.
// It must not know how answers are shown.

import { percent } from "./sentences.js";

const CHOICES = 8;
const LEAD = "Pin a word of the caption: click it, tap it, or press Enter on it.";

export function openWhatIf({ lead, button, list, form, field, current, ask, onAnswer }) {
  let position = null;

  button.addEventListener("click", async () => {
    const at = here();
    if (!at) return;
    const fields = {
      prefix: at.before, strategy: "beam", num_captions: CHOICES, beam_size: CHOICES, max_words: 1, attention: "none",
    };
    const job = await ask(at.photograph, { fields });
    if (job && here()?.key === at.key) list.replaceChildren(...job.captions.map((caption) => choice(caption, at)));
  });

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const at = here();
    if (at && field.value.trim()) goOn(at, field.value.trim());
  });

  function pin(index) {
    position = index;
    const at = here();
    lead.textContent = at ? `Instead of “${at.word.text}”` : LEAD;
    button.disabled = field.disabled = !at;
    form.querySelector("button").disabled = !at;
    list.replaceChildren();
  }

  function here() {
    const { photograph, reading } = current();
    const word = position === null ? null : reading?.caption.words[position];
    if (!word) return null;
    const before = reading.caption.words.slice(0, position).map(({ text }) => text).join(" ");
    return { photograph, reading, word, position, before, key: `${reading.job.id} ${reading.number} ${position}` };
  }

  /** One choice: a word with its probability there, or the end of the sentence, which leaves nothing to go on from. */
  function choice(caption, at) {
    const item = document.createElement("li");
    const word = caption.words[at.position];
    const said = caption.words.reduce((sum, { logprob }) => sum + logprob, 0);
    const share = percent(Math.exp(word ? word.logprob : caption.logprob - said));
    if (!word) {
      item.textContent = `(the end) ${share}`;
      return item;
    }
    const chosen = document.createElement("button");
    chosen.type = "button";
    chosen.className = "choice";
    chosen.append(word.text, Object.assign(document.createElement("span"), { textContent: share }));
    if (word.text === at.word.text) chosen.setAttribute("aria-current", "true");
    chosen.addEventListener("click", () => goOn(at, word.text));
    item.append(chosen);
    return item;
  }

  async function goOn({ photograph, before, position: place }, word) {
    const prefix = before ? `${before} ${word}` : word;
    const job = await ask(photograph, { fields: { prefix } });
    if (!job) return;
    const reading = { job, number: 0, caption: job.captions[0], source: `if “${word}”`, url: null };
    onAnswer(photograph, reading, place);
  }

  pin(null);
  return { pin };
}
