// One photograph of the gallery: what it is, how far it has come, and what has been said about it.
// In: a File, or the id of a job that was made before. Out: plain objects that the other modules read and change.
// It must not know how a photograph is shown or sent.

/**
 * A sentence about the photograph, and where it comes from.
 * @typedef {object} Reading
 * @property {import("./api.js").Job} job
 * @property {number} number of the caption in its job
 * @property {import("./api.js").Caption} caption
 * @property {string} source in a word or two: "1st", "yours", "if “cat”", "masked"
 * @property {string|null} url of the picture, where it is another than the photograph's
 */

/**
 * @typedef {"waiting"|"uploading"|"queued"|"processing"|"succeeded"|"failed"} State
 * @typedef {object} Photograph
 * @property {string} name
 * @property {File|null} file null: known by its job only, after a reload
 * @property {string} url of the picture, "" until it is known
 * @property {State} state
 * @property {number|null} ahead how many jobs are before it in the queue
 * @property {number} sent the share that has been sent
 * @property {import("./api.js").Word[]} said words that are decided, while others are not yet
 * @property {import("./api.js").Job|null} job
 * @property {Reading[]} readings
 * @property {number} shown which of them is in view
 * @property {{lead: string, detail: string, advice: string, again: boolean}|null} trouble
 * @property {number} began when it was begun to be sent, as performance.now() has it
 * @property {number|null} seconds how long it took; null when nobody looked on
 * @property {AbortController} run aborting it makes all answers to come stale
 */

const ORDINALS = ["1st", "2nd", "3rd"];

/** @returns {Photograph} */
export function photographOf(file) {
  return blank(file.name || "photograph", file, URL.createObjectURL(file));
}

/** @returns {Photograph} */
export function photographOfJob(id) {
  return { ...blank("photograph", null, ""), id };
}

function blank(name, file, url) {
  return {
    name, file, url, state: "waiting", ahead: null, sent: 0, said: [], job: null, readings: [], shown: 0,
    trouble: null, began: 0, seconds: null, run: new AbortController(),
  };
}

/** Forgets an attempt, for another. */
export function startAgain(photograph) {
  photograph.run.abort();
  Object.assign(photograph, {
    state: "waiting", ahead: null, sent: 0, said: [], job: null, readings: [], shown: 0, trouble: null, seconds: null,
    run: new AbortController(),
  });
}

/** What was asked for is there. */
export function finish(photograph, job) {
  photograph.job = job;
  photograph.readings = job.captions.map((caption, number) => ({
    job, number, caption, source: ORDINALS[number] ?? `${number + 1}th`, url: null,
  }));
  photograph.state = "succeeded";
  if (!photograph.url) photograph.url = job.links.picture;
}

/** Adds a sentence, and shows it. */
export function addReading(photograph, reading) {
  photograph.readings.push(reading);
  photograph.shown = photograph.readings.length - 1;
}

export function forget(photograph) {
  photograph.run.abort();
  for (const url of [photograph.url, ...photograph.readings.map((reading) => reading.url)]) {
    if (url?.startsWith("blob:")) URL.revokeObjectURL(url);
  }
}

/** The photograph as a file, to be sent again; after a reload the service's copy of it. */
export async function fileOf(photograph) {
  if (!photograph.file) {
    const response = await fetch(photograph.url);
    if (!response.ok) throw new Error("The service no longer keeps the picture: choose the photograph again.");
    photograph.file = new File([await response.blob()], photograph.name, { type: "image/jpeg" });
  }
  return photograph.file;
}

/** Its state, in a few words. */
export function describeState({ state, ahead, sent }) {
  switch (state) {
    case "waiting": return "Waiting for its turn";
    case "uploading": return sent > 0 && sent < 1 ? `Sending: ${Math.round(sent * 100)}%` : "Sending";
    case "queued": return ahead > 0 ? `In the queue, ${ahead} ahead` : "In the queue";
    case "processing": return "Looking";
    case "failed": return "No caption";
    default: return "Done";
  }
}
