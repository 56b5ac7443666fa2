// Wires the page together: photographs come in, jobs are followed, captions and maps are shown.
// In: the elements of index.html and the modules beside this file. Out: a working page.
// It must not draw, fetch or phrase anything itself: each module has its one noun, and this file only joins them.

import { openAlternatives } from "./alternatives.js";
import { Problem, follow, submit } from "./api.js";
import { isGrid, peak } from "./grid.js";
import { clearMap, drawMap, drawScale } from "./heatmap.js";
import { openIntake } from "./intake.js";
import { openOverview } from "./overview.js";
import { describePoint, liftsAt, tints } from "./pointing.js";
import { explainJob, explainProblem } from "./problems.js";
import { openProgress } from "./progress.js";
import { cellShare, describeWord } from "./sentences.js";
import { openStage } from "./stage.js";
import { copyOnClick, curlLines, downloadJob } from "./takeaway.js";
import { openWords } from "./words.js";

const INVITATION = "Point at a word, or tap it, to see where the network looked. Point at the photograph to ask the other way round.";
const NO_MAPS = "This model wrote the caption without attention, so there are no maps.";

const element = (id) => document.getElementById(id);
const heatmap = element("heatmap");
const readout = element("readout");
const errorBox = element("error");

// What is on the page now. Everything else follows from it.
let file = null;
let job = null;
let caption = null;
let word = null; // index into caption.words
let run = new AbortController(); // the photograph under way; aborting it makes all its answers stale

const progress = openProgress({ steps: element("steps"), status: element("status"), elapsed: element("elapsed") });

const stage = openStage({
  frame: element("frame"),
  photo: element("photo"),
  placeholder: element("placeholder"),
  marker: element("marker"),
  onPoint: showPoint,
  onShape: redraw,
});

const words = openWords({ container: element("caption"), play: element("play"), onWord: showWord });

const overview = openOverview({ list: element("overview"), onHover: words.hover, onPick: words.pin });

const alternatives = openAlternatives({
  section: element("alternatives"),
  list: element("alternatives-list"),
  onPick: (index) => {
    showCaption(job.captions[index]);
    alternatives.mark(index);
  },
});

openIntake({
  input: element("file"),
  samples: element("samples"),
  veil: element("veil"),
  onPhoto: send,
  onRefusal: (text) => {
    reset();
    fail({ lead: "That was not a photograph.", detail: "", advice: text, again: false });
  },
});

element("cancel").addEventListener("click", () => {
  reset();
  progress.enter("idle", "Canceled.");
  element("file").focus();
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  words.clear();
  stage.clearPoint();
});

for (const control of document.querySelectorAll(".controls input")) control.addEventListener("input", redraw);

copyOnClick(element("copy-caption"), () => caption?.text ?? "");
copyOnClick(element("copy-curl"), () => element("curl").textContent);
element("download").addEventListener("click", () => downloadJob(job));

/** Sends a photograph and sees it through. A newer one, or Cancel, makes this one stale wherever it is. */
async function send(photograph) {
  reset();
  file = photograph;
  const { signal } = run;
  window.scrollTo({ top: 0 });
  stage.show(photograph);
  progress.enter("uploading", "Sending the photograph…");
  progress.begin();
  try {
    const accepted = await submit(photograph, { signal, onSent: progress.setSent });
    const ended = await follow(accepted, {
      signal,
      onStatus: (status) => {
        if (status === "queued") progress.enter("queued", "Waiting in the queue…");
        if (status === "processing") progress.enter("processing", "Looking at the photograph…");
      },
    });
    if (ended.status === "succeeded" && ended.captions?.length > 0) succeed(ended);
    else fail(explainJob(ended));
  } catch (error) {
    if (signal.aborted) return;
    fail(explainProblem(error instanceof Problem ? error : new Problem({ status: 500 })));
    if (!(error instanceof Problem)) throw error; // a fault of this page: the console should have it
  }
}

/** Drops the photograph under way and everything that was shown of the last one. */
function reset() {
  run.abort();
  run = new AbortController();
  progress.end();
  words.clear();
  stage.clearPoint();
  clearMap(heatmap);
  job = caption = null;
  element("photo").alt = "The photograph you chose"; // until its own caption is there
  errorBox.hidden = true;
  errorBox.replaceChildren();
}

function succeed(ended) {
  job = ended;
  stage.setSize(job.image);
  element("model").textContent = `Written by ${job.model?.name ?? "an unnamed model"} ${job.model?.version ?? ""}`.trim();
  element("curl").textContent = curlLines(job, file.name);
  // The state first: what is hidden has no size to draw into.
  progress.enter("succeeded", `Caption ready in ${progress.end().toFixed(1)} s.`);
  alternatives.show(job.captions, 0);
  showCaption(job.captions[0]);
}

function fail({ lead, detail, advice, again }) {
  progress.end();
  const line = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
  const parts = [line("strong", lead)];
  if (detail) parts.push(line("p", detail));
  parts.push(line("p", advice));
  if (again && file) {
    const button = line("button", "Try again");
    button.type = "button";
    button.className = "button";
    button.addEventListener("click", () => send(file));
    parts.push(button);
  }
  errorBox.replaceChildren(...parts);
  errorBox.hidden = false;
  progress.enter("failed", "");
}

function showCaption(next) {
  caption = next;
  words.show(caption);
  element("photo").alt = caption.text;
  const grid = caption.words.find(({ attention }) => isGrid(attention))?.attention;
  if (grid) stage.setSteps(grid);
  overview.show(caption.words);
  showWord(null);
  redraw();
}

function showWord(index) {
  word = index;
  overview.mark(index);
  // Read aloud, a word a second would drown everything else.
  readout.setAttribute("aria-live", words.playing ? "off" : "polite");
  drawWord();
  say();
}

function showPoint(point) {
  if (!caption) return;
  if (!point) {
    words.mark(null);
    say();
    return;
  }
  const lifts = liftsAt(caption.words, point);
  words.mark(tints(lifts));
  readout.textContent = describePoint(caption.words, lifts);
}

function say() {
  if (!caption) readout.textContent = "";
  else if (word !== null) readout.textContent = describeWord(caption.words[word]);
  else readout.textContent = caption.words.some(({ attention }) => isGrid(attention)) ? INVITATION : NO_MAPS;
}

/** After a change of view, of shape or of caption: all maps anew. */
function redraw() {
  if (!caption) return;
  drawWord();
  overview.draw(caption.words, stage.picture, { ...viewNow(), topOf });
}

function drawWord() {
  const view = viewNow();
  const grid = caption && word !== null ? caption.words[word].attention : null;
  element("legend-top").textContent = isGrid(grid) ? cellShare(topOf(caption.words[word])) : "most";
  drawScale(element("legend"), view);
  if (isGrid(grid)) drawMap(heatmap, grid, { ...view, top: topOf(caption.words[word]) });
  else clearMap(heatmap);
}

/** The weight at the top of the scale: this word's strongest cell, or the strongest of the whole caption. */
function topOf({ attention }) {
  if (chosen("scale") === "word") return peak(attention).weight;
  return Math.max(...caption.words.map((each) => (isGrid(each.attention) ? peak(each.attention).weight : 0)));
}

function viewNow() {
  return {
    mode: chosen("mode"),
    smooth: chosen("grid") === "smooth",
    strength: Number(element("strength").value) / 100,
    aspect: stage.aspect,
  };
}

function chosen(name) {
  return document.querySelector(`.controls input[name="${name}"]:checked`).value;
}
