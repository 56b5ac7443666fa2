// State of one photograph in the gallery: plain objects that the other modules read and change.

/**
 * A caption of the photograph and its source.
 * @typedef {object} CaptionEntry
 * @property {import("../api/client.js").Job} job
 * @property {number} number of the caption in its job
 * @property {import("../api/client.js").Caption} caption
 * @property {string} source in a word or two: "1st", "yours", "if “cat”" or "masked"
 * @property {string|null} url of the picture, if it is not the photograph itself
 */

/**
 * @typedef {"waiting"|"uploading"|"queued"|"processing"|"succeeded"|"failed"} State
 * @typedef {object} Photograph
 * @property {string} name
 * @property {File|null} file null after a reload, when only the job is known
 * @property {string} url of the picture; "" until it is known
 * @property {State} state
 * @property {number|null} ahead number of jobs ahead of it in the queue
 * @property {number} sent share of the upload, from 0 to 1
 * @property {import("../api/client.js").Word[]} words decided so far, until the caption is complete
 * @property {import("../api/client.js").Job|null} job
 * @property {CaptionEntry[]} captionList
 * @property {number} shown index of the caption in view
 * @property {{lead: string, detail: string, advice: string, again: boolean}|null} error
 * @property {number} began when the upload began, by performance.now()
 * @property {number|null} seconds how long it took; null if it ran before this page was open
 * @property {AbortController} run aborting it cancels all requests for this photograph
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
    name, file, url, state: "waiting", ahead: null, sent: 0, words: [], job: null, captionList: [], shown: 0,
    error: null, began: 0, seconds: null, run: new AbortController(),
  };
}

/** Resets the photograph for another attempt. */
export function startAgain(photograph) {
  photograph.run.abort();
  Object.assign(photograph, {
    state: "waiting", ahead: null, sent: 0, words: [], job: null, captionList: [], shown: 0, error: null, seconds: null,
    run: new AbortController(),
  });
}

/** Stores the captions of a finished job. */
export function finish(photograph, job) {
  photograph.job = job;
  photograph.captionList = job.captions.map((caption, number) => ({
    job, number, caption, source: ORDINALS[number] ?? `${number + 1}th`, url: null,
  }));
  photograph.state = "succeeded";
  if (!photograph.url) photograph.url = job.links.picture;
}

/** Adds a caption and shows it. */
export function addEntry(photograph, entry) {
  photograph.captionList.push(entry);
  photograph.shown = photograph.captionList.length - 1;
}

export function forget(photograph) {
  photograph.run.abort();
  for (const url of [photograph.url, ...photograph.captionList.map((entry) => entry.url)]) {
    if (url?.startsWith("blob:")) URL.revokeObjectURL(url);
  }
}

/** The photograph as a file, to send again. After a reload it is the service's copy. */
export async function fileOf(photograph) {
  if (!photograph.file) {
    const response = await fetch(photograph.url);
    if (!response.ok) throw new Error("The service no longer keeps the picture. Choose the photograph again.");
    photograph.file = new File([await response.blob()], photograph.name, { type: "image/jpeg" });
  }
  return photograph.file;
}

/** The state in a few words. */
export function describeState({ state, ahead, sent }) {
  switch (state) {
    case "waiting": return "Waiting";
    case "uploading": return sent > 0 && sent < 1 ? `Uploading: ${Math.round(sent * 100)}%` : "Uploading";
    case "queued": return ahead > 0 ? `In the queue, ${ahead} ahead` : "In the queue";
    case "processing": return "Captioning";
    case "failed": return "No caption";
    default: return "Done";
  }
}
