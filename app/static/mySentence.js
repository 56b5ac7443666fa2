// A caption of one's own: what the captioner makes of it, and where its words would have looked.
// In: a form, and a way to ask. Out: onAnswer(photograph, reading). It must not know how answers are shown.

import { SCORES } from "./api.js";

export function openMySentence({ form, field, current, ask, onAnswer }) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { photograph } = current();
    const caption = field.value.trim();
    if (!photograph || !caption) return;
    const job = await ask(photograph, { path: SCORES, fields: { caption } });
    if (job) onAnswer(photograph, { job, number: 0, caption: job.captions[0], source: "yours", url: null });
  });
}
