// One photograph, large: the picture, a sentence about it, and where its words looked, in every way of looking at that.
// In: a photograph, each time that it has changed. Out: onPin(index or null), onReading(reading) when another is in view.
// It must not know how sentences come about. The parts that it joins have one noun each.

import { isGrid, peak } from "./grid.js";
import { clearMap, drawMap, drawScale } from "./heatmap.js";
import { openOverview } from "./overview.js";
import { describePoint, drawRanking, liftsAt, tints } from "./pointing.js";
import { openProgress } from "./progress.js";
import { openReadings } from "./readings.js";
import { cellShare, describeConfidence, describeWord } from "./sentences.js";
import { openStage } from "./stage.js";
import { openWords } from "./words.js";

const INVITATION = "Point at a word, or tap it, to see where the network looked. Point at the photograph to ask the other way round.";
const NO_MAPS = "This model wrote the caption without attention, so there are no maps.";

const element = (id) => document.getElementById(id);

export function openViewer({ onPin, onReading }) {
  const heatmap = element("heatmap");
  const readout = element("readout");
  const ranking = element("ranking");

  let photograph = null;
  let reading = null;
  let caption = null; // of the reading, or what is there of one that is being written
  let word = null; // index into caption.words

  const progress = openProgress({ steps: element("steps"), status: element("status"), elapsed: element("elapsed") });
  const stage = openStage({
    frame: element("frame"),
    photo: element("photo"),
    placeholder: element("placeholder"),
    marker: element("marker"),
    onPoint: showPoint,
    onShape: redraw,
  });
  const words = openWords({ container: element("caption"), play: element("play"), onWord: showWord, onPin });
  const overview = openOverview({ list: element("overview"), onHover: words.hover, onPick: words.pin });
  const readings = openReadings({
    section: element("readings"),
    list: element("readings-list"),
    onPick: (index) => {
      photograph.shown = index;
      showReading();
      readings.mark(index);
    },
  });

  for (const control of document.querySelectorAll(".controls input")) control.addEventListener("input", redraw);

  /** @param {import("./photograph.js").Photograph|null} next */
  function show(next) {
    if (next !== photograph) {
      photograph = next;
      blank();
    }
    // The state first: what is hidden has no size to draw into.
    progress.show(next);
    if (!next) return;
    if (next.state !== "succeeded") {
      if (reading) blank(); // it is being written anew
      if (next.url) stage.show(next.url);
      showSaid();
      return;
    }
    if (next.readings[next.shown] === reading && readings.count === next.readings.length) return;
    readings.show(next.readings, next.shown);
    showReading();
  }

  function blank() {
    words.clear();
    stage.clearPoint();
    clearMap(heatmap);
    reading = caption = null;
    element("caption").replaceChildren();
    document.body.classList.remove("speaking");
    element("photo").alt = "The photograph you chose"; // until its own caption is there
    if (photograph?.url) stage.show(photograph.url);
    onReading(null);
  }

  /** The words that have been decided while others have not. */
  function showSaid() {
    const said = photograph.said.filter(Boolean);
    if (caption && said.length < caption.words.length) caption = null;
    if (said.length === 0) return;
    if (!caption) {
      caption = { text: "", words: [] };
      words.show(caption);
    }
    document.body.classList.add("speaking");
    for (const one of said.slice(caption.words.length)) {
      caption.words.push(one);
      words.append(one);
    }
    const grid = caption.words.find((one) => isGrid(one.heatmap))?.heatmap;
    if (grid) stage.setSteps(grid);
  }

  function showReading() {
    document.body.classList.remove("speaking");
    reading = photograph.readings[photograph.shown];
    caption = reading.caption;
    stage.show(reading.url ?? photograph.url);
    stage.setSize(reading.job.image);
    words.show(caption);
    element("photo").alt = caption.text;
    element("confidence").textContent = describeConfidence(caption);
    const grid = caption.words.find((one) => isGrid(one.heatmap))?.heatmap;
    if (grid) stage.setSteps(grid);
    overview.show(caption.words);
    onReading(reading);
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

  /** After a change of view, of shape or of caption: all maps anew. */
  function redraw() {
    if (!caption) return;
    drawWord();
    if (reading) overview.draw(caption.words, stage.picture, { ...viewNow(), topOf });
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
      aspect: stage.aspect,
    };
  }

  return {
    show,
    say: progress.say,
    clear() {
      words.clear();
      stage.clearPoint();
    },
    pin: words.pin,
    get reading() {
      return reading;
    },
    stage,
  };
}

export function chosen(name) {
  return document.querySelector(`.controls input[name="${name}"]:checked`).value;
}
