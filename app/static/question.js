// A further question about a photograph: asked of the service, with how it goes said in one line.
// In: a photograph, a path and fields. Out: the finished job, or null when there is no answer. It must not know why one asks.

import { Problem, follow, submit } from "./api.js";
import { fileOf } from "./photograph.js";
import { explainJob, explainProblem } from "./problems.js";

export function openQuestions(status) {
  let latest = 0;

  /**
   * @param {import("./photograph.js").Photograph} photograph
   * @param {{path?: string, fields: object, file?: File, quiet?: boolean}} question file: another picture than its own
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
      if (job.status !== "succeeded" || job.captions.length === 0) return tell(say, explainJob(job));
      say("");
      return job;
    } catch (error) {
      if (signal.aborted) say("");
      else if (error instanceof Problem) tell(say, explainProblem(error));
      else say(error.message);
      return null;
    }
  }

  return { ask, clear: () => (status.textContent = "") };
}

function tell(say, { lead, detail, advice }) {
  say([lead, detail, advice].filter(Boolean).join(" "));
  return null;
}
