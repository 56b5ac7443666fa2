// Follow-up questions about a photograph: submits a request and shows its progress in one line.

import { Problem, follow, submit } from "../api/client.js";
import { explainJob, explainProblem } from "../api/problems.js";
import { fileOf } from "../upload/photograph.js";

export function openFollowUp(status) {
  let latest = 0;

  /**
   * @param {import("../upload/photograph.js").Photograph} photograph
   * @param {{path?: string, fields: object, file?: File}} question
   *   file: another picture than the photograph's own
   */
  async function ask(photograph, { path, fields, file }) {
    const { signal } = photograph.run;
    const number = ++latest;
    const say = (text) => {
      if (number === latest) status.textContent = text;
    };
    say("Asking…");
    try {
      const accepted = await submit(file ?? (await fileOf(photograph)), { path, fields, signal });
      const job = await follow(accepted, {
        signal,
        onStatus: (state, ahead) => {
          if (state === "queued") say(ahead > 0 ? `In the queue, ${ahead} ahead…` : "In the queue…");
        },
      });
      if (job.status !== "succeeded" || job.captions.length === 0) return sayError(say, explainJob(job));
      say("");
      return job;
    } catch (error) {
      if (signal.aborted) say("");
      else if (error instanceof Problem) sayError(say, explainProblem(error));
      else say(error.message);
      return null;
    }
  }

  return { ask, clear: () => (status.textContent = "") };
}

function sayError(say, { lead, detail, advice }) {
  say([lead, detail, advice].filter(Boolean).join(" "));
  return null;
}
