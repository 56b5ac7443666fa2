// What can be taken along: the caption as text, the whole result as JSON, and the same request as a curl line.
// In: a finished job and the file it came from. Out: the clipboard, a download.
// It must not know how a result is shown.

import { CAPTIONS, SCORES } from "./api.js";

const NOTICE_MS = 1600;
// What the service fills in by itself when it is not said.
const DEFAULTS = { strategy: "beam", temperature: 1, max_words: 20, prefix: "", attention: "heatmap", num_captions: 1 };
const CONSENSUS_BEAMS = 20;

/** Copies text() and says on the button itself how that went. */
export function copyOnClick(button, text) {
  const label = button.textContent;
  let timer = null;
  button.addEventListener("click", async () => {
    const done = await copy(text());
    button.textContent = done ? "Copied" : "Select and copy by hand";
    clearTimeout(timer);
    timer = setTimeout(() => (button.textContent = label), NOTICE_MS);
  });
}

export function downloadJob(job) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(job, null, 2)], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `wordlight-${job.id}.json`;
  link.click();
  // The browser reads the address after the click has returned.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** The caption as an attribute to be pasted into HTML. */
export function altOf(caption) {
  const sentence = caption.text.charAt(0).toUpperCase() + caption.text.slice(1);
  return `alt="${sentence.replaceAll("&", "&amp;").replaceAll('"', "&quot;").replaceAll("<", "&lt;")}"`;
}

/**
 * The request that gives this job's answer: with the same options, as far as they are not the service's own.
 * @param {string|null} fileName null: the picture is fetched first, for nobody has it but this page and the service
 */
export function curlLines(job, fileName) {
  const key = needsKey(job) ? ["-H 'Authorization: Bearer YOUR-KEY'"] : [];
  const name = fileName ?? "picture.jpg";
  const { origin } = window.location;
  const fetched = fileName === null ? [["curl", ...key, `-o ${name}`, origin + job.links.picture].join(" ")] : [];
  return [...fetched, ["curl", ...key, ...askedFor(job), `-F ${quote(`image=@${name}`)}`, origin + pathOf(job)].join(" ")].join("\n");
}

function pathOf({ options }) {
  return options.kind === "score" ? SCORES : CAPTIONS;
}

function askedFor(job) {
  const { kind: _, ...options } = job.options;
  const defaults = { ...DEFAULTS, beam_size: usualBeams(options) };
  const asked = Object.entries(options).filter(([name, value]) => value !== null && value !== defaults[name]);
  // --form-string: with -F a value that begins with @ would be read as a file.
  return ["-H 'Prefer: wait=60'", ...asked.map(([name, value]) => `--form-string ${quote(`${name}=${value}`)}`)];
}

/** As jobs/options.py has them. */
function usualBeams({ strategy, num_captions: captions }) {
  if (strategy === "consensus") return CONSENSUS_BEAMS;
  if (strategy === "diverse") return captions > 1 ? captions : 3;
  return strategy === "beam" ? Math.max(3, captions) : 1;
}

export function sheetOf({ job, number }, scale) {
  return `${job.links.self}/captions/${number}/sheet.png?scale=${scale}`;
}

/** The events of a job carry a ticket where everything else asks for a key. */
function needsKey(job) {
  return job.links?.events?.includes("ticket=") ?? false;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyByHand(text);
  }
}

/** Over plain http, away from localhost, browsers keep the clipboard API to themselves. */
function copyByHand(text) {
  const field = document.createElement("textarea");
  const before = document.activeElement;
  field.value = text;
  field.className = "unseen";
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
