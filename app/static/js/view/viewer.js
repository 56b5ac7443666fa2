// Viewer: one photograph with a caption and the heatmaps of its words.
// Calls onPin(index or null), and onEntry(entry) when another caption is in view.

import { openCaptionList } from "../caption/captionList.js";
import { cellShare, describeConfidence, describeWord } from "../caption/sentences.js";
import { openWords } from "../caption/words.js";
import { openProgress } from "../upload/progress.js";
import { isGrid, peak } from "./grid.js";
import { clearMap, drawMap, drawScale } from "./heatmap.js";
import { openOverview } from "./overview.js";
import { openPhotoView } from "./photoView.js";
import { describePoint, drawRanking, liftsAt, tints } from "./pointing.js";

const INVITATION = "Point at a word or tap it to see its heatmap. Point at the photograph to see which words have evidence there.";
const NO_MAPS = "These words have no heatmaps.";

const element = (id) => document.getElementById(id);

export function openViewer({ onPin, onEntry }) {
  const heatmap = element("heatmap");
  const readout = element("readout");
  const ranking = element("ranking");

  let photograph = null;
  let entry = null;
  let caption = null; // of the entry, or the words so far of one that is being written
  let word = null; // index into caption.words

  const progress = openProgress({ steps: element("steps"), status: element("status"), elapsed: element("elapsed") });
  const photoView = openPhotoView({
    frame: element("frame"),
    photo: element("photo"),
    placeholder: element("placeholder"),
    marker: element("marker"),
    onPoint: showPoint,
    onShape: redraw,
  });
  const words = openWords({ container: element("caption"), play: element("play"), onWord: showWord, onPin });
  const overview = openOverview({ list: element("overview"), onHover: words.hover, onPick: words.pin });
  const captionList = openCaptionList({
    section: element("captions"),
    list: element("captions-list"),
    onPick: (index) => {
      photograph.shown = index;
      showEntry();
      captionList.mark(index);
    },
  });

  for (const control of document.querySelectorAll(".controls input")) control.addEventListener("input", redraw);

  /** @param {import("../upload/photograph.js").Photograph|null} next */
  function show(next) {
    if (next !== photograph) {
      photograph = next;
      blank();
    }
    // The state first: hidden elements have no size to draw into.
    progress.show(next);
    if (!next) return;
    if (next.state !== "succeeded") {
      if (entry) blank(); // it is being captioned again
      if (next.url) photoView.show(next.url);
      showWordsSoFar();
      return;
    }
    if (next.captionList[next.shown] === entry && captionList.count === next.captionList.length) return;
    captionList.show(next.captionList, next.shown);
    showEntry();
  }

  function blank() {
    words.clear();
    photoView.clearPoint();
    clearMap(heatmap);
    entry = caption = null;
    element("caption").replaceChildren();
    document.body.classList.remove("writing");
    element("photo").alt = "The photograph you chose"; // until the caption is ready
    if (photograph?.url) photoView.show(photograph.url);
    onEntry(null);
  }

  /** Shows the words decided so far. */
  function showWordsSoFar() {
    const decided = photograph.words.filter(Boolean);
    if (caption && decided.length < caption.words.length) caption = null;
    if (decided.length === 0) return;
    if (!caption) {
      caption = { text: "", words: [] };
      words.show(caption);
    }
    document.body.classList.add("writing");
    for (const one of decided.slice(caption.words.length)) {
      caption.words.push(one);
      words.append(one);
    }
    const grid = caption.words.find((one) => isGrid(one.heatmap))?.heatmap;
    if (grid) photoView.setSteps(grid);
  }

  function showEntry() {
    document.body.classList.remove("writing");
    entry = photograph.captionList[photograph.shown];
    caption = entry.caption;
    photoView.show(entry.url ?? photograph.url);
    photoView.setSize(entry.job.image);
    words.show(caption);
    element("photo").alt = caption.text;
    element("confidence").textContent = describeConfidence(caption);
    const grid = caption.words.find((one) => isGrid(one.heatmap))?.heatmap;
    if (grid) photoView.setSteps(grid);
    overview.show(caption.words);
    onEntry(entry);
    showWord(null);
    redraw();
  }

  function showWord(index) {
    word = index;
    overview.mark(index);
    // While words play one by one, screen readers stay silent.
    readout.setAttribute("aria-live", words.playing ? "off" : "polite");
    drawWord();
    say();
  }

  function showPoint(point) {
    document.body.classList.toggle("pointing", point !== null && caption !== null);
    if (!caption) return;
    if (!point) {
      words.mark(null);
      say();
      return;
    }
    const lifts = liftsAt(caption.words, point);
    words.mark(tints(lifts));
    drawRanking(ranking, caption.words, lifts);
    readout.textContent = describePoint(caption.words, lifts);
  }

  function say() {
    if (!caption) readout.textContent = "";
    else if (word !== null) readout.textContent = describeWord(caption.words[word]);
    else readout.textContent = caption.words.some((one) => isGrid(one.heatmap)) ? INVITATION : NO_MAPS;
  }

  /** Draws all maps again, after a change of view, shape or caption. */
  function redraw() {
    if (!caption) return;
    drawWord();
    if (entry) overview.draw(caption.words, photoView.picture, { ...viewNow(), topOf });
  }

  function drawWord() {
    const view = viewNow();
    const grid = caption && word !== null ? caption.words[word].heatmap : null;
    element("legend-top").textContent = isGrid(grid) ? cellShare(topOf(caption.words[word])) : "most";
    drawScale(element("legend"), view);
    if (isGrid(grid)) drawMap(heatmap, grid, { ...view, top: topOf(caption.words[word]) });
    else clearMap(heatmap);
  }

  /** The weight at the top of the scale: this word's strongest cell, or the strongest of the whole caption. */
  function topOf(one) {
    if (chosen("scale") === "word") return peak(one.heatmap).weight;
    return Math.max(...caption.words.map((each) => (isGrid(each.heatmap) ? peak(each.heatmap).weight : 0)));
  }

  function viewNow() {
    return {
      mode: chosen("mode"),
      smooth: chosen("grid") === "smooth",
      strength: Number(element("strength").value) / 100,
      aspect: photoView.aspect,
    };
  }

  return {
    show,
    say: progress.say,
    clear() {
      words.clear();
      photoView.clearPoint();
    },
    pin: words.pin,
    get entry() {
      return entry;
    },
    photoView,
  };
}

export function chosen(name) {
  return document.querySelector(`.controls input[name="${name}"]:checked`).value;
}
