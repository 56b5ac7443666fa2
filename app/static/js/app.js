// Entry point of the page: creates the parts in the folders beside this file and connects them.

import { captionPhotograph, resumePhotograph } from "./api/captioning.js";
import { cancel } from "./api/client.js";
import { openConcurrencyLimit } from "./api/concurrencyLimit.js";
import { altOf, copyOnClick, curlLines, downloadJob, sheetOf } from "./caption/export.js";
import { openFollowUp } from "./followUp/followUp.js";
import { openMask } from "./followUp/mask.js";
import { openMySentence } from "./followUp/mySentence.js";
import { openWhatIf } from "./followUp/whatIf.js";
import { openErrorBox } from "./upload/errorBox.js";
import { openGallery } from "./upload/gallery.js";
import { keepLink, linkTo, readLink } from "./upload/permalink.js";
import { addEntry, fileOf, forget, photographOf, photographOfJob, startAgain } from "./upload/photograph.js";
import { openUploadSources } from "./upload/uploadSources.js";
import { chosen, openViewer } from "./view/viewer.js";

// A browser opens six connections to a host. Each photograph that is being captioned holds one for its events.
const MOST_CONCURRENT = 4;
// The options that each choice of the method sends.
const METHODS = {
  beam: { num_captions: 3 },
  consensus: { strategy: "consensus", num_captions: 3 },
  greedy: { strategy: "greedy" },
  sample: { strategy: "sample", num_captions: 3 },
  diverse: { strategy: "diverse", num_captions: 4, beam_size: 4 },
};

const element = (id) => document.getElementById(id);

/** @type {import("./upload/photograph.js").Photograph[]} */
const photographs = [];
let shown = null;
let refusal = null; // the error of an upload without a photograph, until a photograph is shown

const concurrencyLimit = openConcurrencyLimit(MOST_CONCURRENT);
const errorBox = openErrorBox(element("error"));
const gallery = openGallery({ section: element("gallery-section"), list: element("gallery"), onShow: show, onRemove: remove });
const viewer = openViewer({
  onPin: (index) => whatIf.pin(index),
  onEntry: (entry) => {
    whatIf.pin(null);
    if (entry) fillExport(entry);
    else mask.forget();
  },
});

const current = () => ({ photograph: shown, entry: viewer.entry });
const followUp = openFollowUp(element("follow-up-status"));
const questions = { current, ask: followUp.ask, onAnswer: addAnswer };
const whatIf = openWhatIf({
  ...questions,
  lead: element("what-if-lead"),
  button: element("what-if-ask"),
  list: element("what-if-choices"),
  form: element("what-if-form"),
  field: element("what-if-word"),
});
const mask = openMask({
  ...questions,
  panel: element("mask-panel"),
  brush: element("brush"),
  again: element("mask-again"),
  clear: element("mask-clear"),
  changes: element("mask-changes"),
  losses: element("mask-losses"),
  parts: {
    frame: element("frame"), canvas: element("mask"), photo: element("photo"), cellNow: () => viewer.photoView.cell,
  },
});
openMySentence({ ...questions, form: element("my-form"), field: element("my-sentence") });

openUploadSources({
  inputs: [element("file"), element("camera")],
  samples: element("samples"),
  overlay: element("drop-overlay"),
  onPhotos: (files) => {
    const taken = files.map(photographOf);
    for (const photograph of taken) {
      photographs.push(photograph);
      gallery.add(photograph);
      send(photograph);
    }
    window.scrollTo({ top: 0 });
    show(taken[0]);
  },
  onRefusal: (text) => {
    if (!shown) document.body.dataset.state = "failed";
    refusal = { lead: "That is not a photograph.", detail: "", advice: text, again: false };
    showError();
  },
});

element("strategy").addEventListener("change", () => {
  if (shown?.state === "succeeded") captionAgain(shown);
});
element("cancel").addEventListener("click", () => {
  if (shown.job) cancel(shown.job);
  remove(shown);
  viewer.say("Canceled.");
  element("file").focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") viewer.clear();
});

copyOnClick(element("copy-caption"), () => viewer.entry?.caption.text ?? "");
copyOnClick(element("copy-alt"), () => altOf(viewer.entry.caption));
copyOnClick(element("copy-link"), () => linkTo([shown.job.id], shown.job.id));
copyOnClick(element("copy-curl"), () => element("curl").textContent);
element("download").addEventListener("click", () => downloadJob(viewer.entry.job));
for (const control of document.querySelectorAll("input[name=scale]")) {
  control.addEventListener("input", () => viewer.entry && fillExport(viewer.entry));
}
window.addEventListener("hashchange", () => window.location.reload());
resume();

function send(photograph) {
  const method = element("strategy").value;
  const { run } = photograph;
  concurrencyLimit.run(async () => {
    if (!run.signal.aborted) await captionPhotograph(photograph, { fields: METHODS[method], onChange: changed });
  });
}

/** Show the jobs that the URL names, after a reload or from a link. */
function resume() {
  const { jobs, show: first } = readLink();
  for (const id of jobs) {
    const photograph = photographOfJob(id);
    photographs.push(photograph);
    gallery.add(photograph);
    concurrencyLimit.run(() => resumePhotograph(photograph, { onChange: changed }));
    if (id === first || !shown) show(photograph);
  }
}

async function captionAgain(photograph) {
  try {
    await fileOf(photograph);
  } catch (error) {
    viewer.say(error.message);
    return;
  }
  startAgain(photograph);
  send(photograph);
  changed(photograph);
}

/** Update the page after a photograph has changed. */
function changed(photograph) {
  gallery.update(photograph);
  if (photograph === shown) viewer.show(photograph);
  showError();
  updateLink();
}

function show(photograph) {
  shown = photograph;
  refusal = null;
  followUp.clear();
  gallery.mark(photograph);
  viewer.show(photograph);
  showError();
  updateLink();
}

/** Show the error of the photograph in view. A limit or a full queue affects many photographs, so retry all of them. */
function showError() {
  const retryable = () => photographs.filter((photograph) => photograph.error?.again);
  errorBox.show(refusal ?? shown?.error ?? null, retryable().length, () => retryable().forEach(captionAgain));
}

function remove(photograph) {
  const index = photographs.indexOf(photograph);
  photographs.splice(index, 1);
  gallery.remove(photograph);
  if (shown === photograph) show(photographs[Math.min(index, photographs.length - 1)] ?? null);
  if (shown) gallery.focus(shown);
  forget(photograph);
  updateLink();
}

/** Add the answer to a follow-up question to the captions of its photograph. */
function addAnswer(photograph, entry, pinned = null) {
  if (!photographs.includes(photograph)) return;
  addEntry(photograph, entry);
  changed(photograph);
  if (photograph === shown && pinned !== null) viewer.pin(pinned);
}

/** Write the ids of all jobs into the URL, so that a reload shows them again. */
function updateLink() {
  const ids = photographs.map(({ job, id }) => job?.id ?? id).filter(Boolean);
  keepLink(ids, shown?.job?.id ?? shown?.id ?? ids[0] ?? "");
}

/** Fill the export section for the caption in view. */
function fillExport(entry) {
  const { job } = entry;
  element("model").textContent =
    `Written by ${job.model?.name ?? "an unnamed model"} ${job.model?.version ?? ""}`.trim() +
    `. The result and its link are kept until ${new Date(job.expires_at).toLocaleString()}.`;
  element("curl").textContent = curlLines(job, entry.url || shown.id ? null : shown.name);
  element("sheet").href = sheetOf(entry, chosen("scale"));
}
