// Wires the page together: photographs come in, are captioned a few at a time, and one of them is shown.
// In: the elements of index.html and the modules beside this file. Out: a working page.
// It must not draw, fetch or phrase anything itself: each module has its one noun, and this file only joins them.

import { cancel } from "./api.js";
import { captionPhotograph, resumePhotograph } from "./captioning.js";
import { openGallery } from "./gallery.js";
import { openIntake } from "./intake.js";
import { openLanes } from "./lanes.js";
import { openMask } from "./mask.js";
import { openMySentence } from "./mySentence.js";
import { keepLink, linkTo, readLink } from "./permalink.js";
import { addReading, fileOf, forget, photographOf, photographOfJob, startAgain } from "./photograph.js";
import { openQuestions } from "./question.js";
import { altOf, copyOnClick, curlLines, downloadJob, sheetOf } from "./takeaway.js";
import { openTrouble } from "./trouble.js";
import { chosen, openViewer } from "./viewer.js";
import { openWhatIf } from "./whatIf.js";

// A browser opens six connections to a host; each photograph under way holds one for its events.
const AT_ONCE = 4;
// What each way of writing asks for.
const WAYS = {
  beam: { num_captions: 3 },
  consensus: { strategy: "consensus", num_captions: 3 },
  greedy: { strategy: "greedy" },
  sample: { strategy: "sample", num_captions: 3 },
  diverse: { strategy: "diverse", num_captions: 4, beam_size: 4 },
};

const element = (id) => document.getElementById(id);

/** @type {import("./photograph.js").Photograph[]} */
const photographs = [];
let shown = null;
let refusal = null; // of what was no photograph at all, until the next is shown

const lanes = openLanes(AT_ONCE);
const trouble = openTrouble(element("error"));
const gallery = openGallery({ section: element("gallery-section"), list: element("gallery"), onShow: show, onRemove: remove });
const viewer = openViewer({
  onPin: (index) => whatIf.pin(index),
  onReading: (reading) => {
    whatIf.pin(null);
    if (reading) offer(reading);
    else mask.forget();
  },
});

const current = () => ({ photograph: shown, reading: viewer.reading });
const questions = openQuestions(element("asking-status"));
const asking = { current, ask: questions.ask, onAnswer: answer };
const whatIf = openWhatIf({
  ...asking,
  lead: element("what-if-lead"),
  button: element("what-if-ask"),
  list: element("what-if-choices"),
  form: element("what-if-form"),
  field: element("what-if-word"),
});
const mask = openMask({
  ...asking,
  panel: element("mask-panel"),
  brush: element("brush"),
  again: element("mask-again"),
  clear: element("mask-clear"),
  changes: element("mask-changes"),
  losses: element("mask-losses"),
  parts: {
    frame: element("frame"), canvas: element("mask"), photo: element("photo"), cellNow: () => viewer.stage.cell,
  },
});
openMySentence({ ...asking, form: element("my-form"), field: element("my-sentence") });

openIntake({
  inputs: [element("file"), element("camera")],
  samples: element("samples"),
  veil: element("veil"),
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
    refusal = { lead: "That was not a photograph.", detail: "", advice: text, again: false };
    complain();
  },
});

element("strategy").addEventListener("change", () => {
  if (shown?.state === "succeeded") rewrite(shown);
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

copyOnClick(element("copy-caption"), () => viewer.reading?.caption.text ?? "");
copyOnClick(element("copy-alt"), () => altOf(viewer.reading.caption));
copyOnClick(element("copy-link"), () => linkTo([shown.job.id], shown.job.id));
copyOnClick(element("copy-curl"), () => element("curl").textContent);
element("download").addEventListener("click", () => downloadJob(viewer.reading.job));
for (const control of document.querySelectorAll("input[name=scale]")) {
  control.addEventListener("input", () => viewer.reading && offer(viewer.reading));
}
window.addEventListener("hashchange", () => window.location.reload());
resume();

function send(photograph) {
  const way = element("strategy").value;
  const { run } = photograph;
  lanes.run(async () => {
    if (!run.signal.aborted) await captionPhotograph(photograph, { fields: WAYS[way], onChange: changed });
  });
}

/** What the address names: what was here before a reload, or what somebody else has sent. */
function resume() {
  const { jobs, show: first } = readLink();
  for (const id of jobs) {
    const photograph = photographOfJob(id);
    photographs.push(photograph);
    gallery.add(photograph);
    lanes.run(() => resumePhotograph(photograph, { onChange: changed }));
    if (id === first || !shown) show(photograph);
  }
}

async function rewrite(photograph) {
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

/** A photograph has come further. */
function changed(photograph) {
  gallery.update(photograph);
  if (photograph === shown) viewer.show(photograph);
  complain();
  link();
}

function show(photograph) {
  shown = photograph;
  refusal = null;
  questions.clear();
  gallery.mark(photograph);
  viewer.show(photograph);
  complain();
  link();
}

/** What has gone wrong with the photograph in view. A limit or a full queue hits many at once: all are tried again. */
function complain() {
  const hopeful = () => photographs.filter((photograph) => photograph.trouble?.again);
  trouble.show(refusal ?? shown?.trouble ?? null, hopeful().length, () => hopeful().forEach(rewrite));
}

function remove(photograph) {
  const index = photographs.indexOf(photograph);
  photographs.splice(index, 1);
  gallery.remove(photograph);
  if (shown === photograph) show(photographs[Math.min(index, photographs.length - 1)] ?? null);
  if (shown) gallery.focus(shown);
  forget(photograph);
  link();
}

/** A further question has its answer: a sentence more, in view if its photograph is. */
function answer(photograph, reading, pinned = null) {
  if (!photographs.includes(photograph)) return;
  addReading(photograph, reading);
  changed(photograph);
  if (photograph === shown && pinned !== null) viewer.pin(pinned);
}

/** Has the address name what is on the page, so that it survives a reload. */
function link() {
  const ids = photographs.map(({ job, id }) => job?.id ?? id).filter(Boolean);
  keepLink(ids, shown?.job?.id ?? shown?.id ?? ids[0] ?? "");
}

/** What can be taken along of the sentence in view. */
function offer(reading) {
  const { job } = reading;
  element("model").textContent =
    `Written by ${job.model?.name ?? "an unnamed model"} ${job.model?.version ?? ""}`.trim() +
    `; kept until ${new Date(job.expires_at).toLocaleString()}, and the link as long.`;
  element("curl").textContent = curlLines(job, reading.url || shown.id ? null : shown.name);
  element("sheet").href = sheetOf(reading, chosen("scale"));
}
