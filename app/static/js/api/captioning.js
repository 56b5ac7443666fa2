// Captions one photograph: submits it or reads its job, follows the job, and updates the photograph at each step.

import { finish } from "../upload/photograph.js";
import { Problem, follow, read, submit } from "./client.js";
import { explainJob, explainProblem } from "./problems.js";

/**
 * @param {import("../upload/photograph.js").Photograph} photograph
 * @param {{fields: object, onChange: (photograph: object) => void}} how
 */
export function captionPhotograph(photograph, { fields, onChange }) {
  return run(photograph, onChange, async (signal) => {
    photograph.state = "uploading";
    onChange(photograph);
    return submit(photograph.file, {
      fields,
      signal,
      onSent: (share) => {
        photograph.sent = share;
        onChange(photograph);
      },
    });
  });
}

/** The same for an existing job, after a reload or from a link. */
export function resumePhotograph(photograph, { onChange }) {
  return run(photograph, onChange, async (signal) => {
    const job = await read(photograph.id, { signal });
    photograph.url = job.links.picture;
    photograph.name = job.name ?? photograph.name;
    return job;
  });
}

async function run(photograph, onChange, begin) {
  const { signal } = photograph.run;
  photograph.began = performance.now();
  try {
    const accepted = await begin(signal);
    photograph.job = accepted;
    const ended = await follow(accepted, {
      signal,
      onStatus: (status, ahead = null) => {
        if (status === "queued" || status === "processing") Object.assign(photograph, { state: status, ahead });
        if (status === "processing") photograph.words = []; // another attempt sends its words again
        onChange(photograph);
      },
      onWord: ({ caption, position, word }) => {
        if (caption === 0) photograph.words[position] = word;
        onChange(photograph);
      },
    });
    if (ended.status === "succeeded" && ended.captions?.length > 0) {
      photograph.seconds = photograph.file ? (performance.now() - photograph.began) / 1000 : null;
      finish(photograph, ended);
    } else fail(photograph, explainJob(ended));
  } catch (error) {
    if (signal.aborted) return;
    fail(photograph, explainProblem(error instanceof Problem ? error : new Problem({ status: 500 })));
    if (!(error instanceof Problem)) console.error(error); // an error of this page
  }
  onChange(photograph);
}

function fail(photograph, error) {
  photograph.state = "failed";
  // Without its file the photograph cannot be sent again.
  photograph.error = photograph.file ? error : { ...error, advice: "Choose the photograph again.", again: false };
}
