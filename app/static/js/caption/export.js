// Export: the caption as text, the result as JSON, and the same request as a curl command.

import { CAPTIONS, SCORES } from "../api/client.js";

const FEEDBACK_MS = 1600;
// The service's defaults, which the curl command leaves out.
const DEFAULTS = { strategy: "beam", temperature: 1, max_words: 20, prefix: "", attention: "heatmap", num_captions: 1 };
const CONSENSUS_BEAMS = 20;

/** Copies text() on a click and reports the outcome on the button. */
export function copyOnClick(button, text) {
  const label = button.textContent;
  let timer = null;
  button.addEventListener("click", async () => {
    const done = await copy(text());
    button.textContent = done ? "Copied" : "Could not copy";
    clearTimeout(timer);
    timer = setTimeout(() => (button.textContent = label), FEEDBACK_MS);
  });
}

export function downloadJob(job) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(job, null, 2)], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `wordlight-${job.id}.json`;
  link.click();
  // The browser reads the URL after click() has returned.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** The caption as an alt attribute for HTML. */
export function altOf(caption) {
  const sentence = caption.text.charAt(0).toUpperCase() + caption.text.slice(1);
  return `alt="${sentence.replaceAll("&", "&amp;").replaceAll('"', "&quot;").replaceAll("<", "&lt;")}"`;
}

/**
 * The curl command that repeats this job's request.
 * @param {string|null} fileName null: the command first downloads the picture from the service
 */
export function curlLines(job, fileName) {
  const key = needsKey(job) ? ["-H 'Authorization: Bearer YOUR-KEY'"] : [];
  const name = fileName ?? "picture.jpg";
  const { origin } = window.location;
  const fetched = fileName === null ? [["curl", ...key, `-o ${name}`, origin + job.links.picture].join(" ")] : [];
  return [...fetched, ["curl", ...key, ...optionFlags(job), `-F ${quote(`image=@${name}`)}`, origin + pathOf(job)].join(" ")].join("\n");
}

function pathOf({ options }) {
  return options.kind === "score" ? SCORES : CAPTIONS;
}

function optionFlags(job) {
  const { kind: _, ...options } = job.options;
  const defaults = { ...DEFAULTS, beam_size: defaultBeams(options) };
  const asked = Object.entries(options).filter(([name, value]) => value !== null && value !== defaults[name]);
  // --form-string: with -F a value that begins with @ would be read as a file.
  return ["-H 'Prefer: wait=60'", ...asked.map(([name, value]) => `--form-string ${quote(`${name}=${value}`)}`)];
}

/** The default of beam_size, as in jobs/options.py. */
function defaultBeams({ strategy, num_captions: captions }) {
  if (strategy === "consensus") return CONSENSUS_BEAMS;
  if (strategy === "diverse") return captions > 1 ? captions : 3;
  return strategy === "beam" ? Math.max(3, captions) : 1;
}

export function sheetOf({ job, number }, scale) {
  return `${job.links.self}/captions/${number}/sheet.png?scale=${scale}`;
}

/** A service that needs keys puts a ticket into the URL of a job's events. */
function needsKey(job) {
  return job.links?.events?.includes("ticket=") ?? false;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

/** For pages on plain http, where browsers offer no clipboard API. */
function copyBySelection(text) {
  const field = document.createElement("textarea");
  const before = document.activeElement;
  field.value = text;
  field.className = "visually-hidden";
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  before?.focus();
  return done;
}

function quote(word) {
  return /^[\w./:@=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
