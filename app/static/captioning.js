// Sees one photograph through: sends it, follows its job, writes down how far it is.
// In: a photograph, and what to ask for. Out: onChange(photograph) after each step. It must not know the page.

import { Problem, follow, read, submit } from "./api.js";
import { finish } from "./photograph.js";
import { explainJob, explainProblem } from "./problems.js";

/**
 * @param {import("./photograph.js").Photograph} photograph
 * @param {{fields: object, onChange: (photograph: object) => void}} how
 */
export function captionPhotograph(photograph, { fields, onChange }) {
  return seen(photograph, onChange, async (signal) => {
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

/** The same for a job that was made before: by this page, until it was reloaded, or by whoever sent the link. */
export function resumePhotograph(photograph, { onChange }) {
  return seen(photograph, onChange, async (signal) => {
    const job = await read(photograph.id, { signal });
    photograph.url = job.links.picture;
    photograph.name = job.name ?? photograph.name;
    return job;
  });
}

async function seen(photograph, onChange, begin) {
  const { signal } = photograph.run;
  photograph.began = performance.now();
  try {
    const accepted = await begin(signal);
    photograph.job = accepted;
    const ended = await follow(accepted, {
      signal,
      onStatus: (status, ahead = null) => {
        if (status === "queued" || status === "processing") Object.assign(photograph, { state: status, ahead });
        if (status === "processing") photograph.said = []; // another attempt says its words anew
        onChange(photograph);
      },
      onWord: ({ caption, position, word }) => {
        if (caption === 0) photograph.said[position] = word;
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
    if (!(error instanceof Problem)) console.error(error); // a fault of this page
  }
  onChange(photograph);
}

function fail(photograph, trouble) {
  photograph.state = "failed";
  // Without its file it cannot be sent again.
  photograph.trouble = photograph.file ? trouble : { ...trouble, advice: "Choose the photograph again.", again: false };
}
