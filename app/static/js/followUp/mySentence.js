// Scores a caption that a person wrote.

import { SCORES } from "../api/client.js";

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
