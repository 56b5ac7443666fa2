// Draws a word's map onto a canvas that lies over the photograph. The canvas covers the whole picture.
// Pixels have alpha, so that the photograph shows through. The large map and the thumbnails share these functions.

// The colour map: matplotlib's inferno (CC0), perceptually uniform and readable with any colour vision.
// app/rendering/overlay.py reads the same file.
const colours = await (await fetch("/static/inferno.json")).json();
// 256 entries of red, green, blue in one array: an index is faster than arithmetic per pixel.
const INFERNO = Uint8ClampedArray.from(
  colours.flatMap((colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16))),
);

// A smooth map needs few pixels; the browser scales them up.
const SMOOTH_LONG_SIDE = 320;

// Opacity of the lowest heat, relative to the highest. With less, low values would be invisible.
const HEAT_FLOOR = 0.6;

// Opacity of the spotlight's shade at the least and the greatest strength. Even at full strength, the photograph stays visible.
const SPOTLIGHT_LEAST = 0.35;
const SPOTLIGHT_MOST = 0.94;

/**
 * @param {HTMLCanvasElement} canvas
 * @param {{rows: number, cols: number, weights: number[]}} grid
 * @param {{mode: "heat"|"spotlight", smooth: boolean, top: number, strength: number, aspect: number}} how
 *   top is the weight at the top of the scale, strength is 0 to 1, aspect is the picture's width / height.
 */
export function drawMap(canvas, grid, how) {
  const { width, height } = how.smooth ? smoothSize(how.aspect) : { width: grid.cols, height: grid.rows };
  canvas.width = width;
  canvas.height = height;
  // Raw cells are one pixel each: the browser must enlarge them with hard edges.
  canvas.classList.toggle("cells", !how.smooth);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const columns = positions(width, grid.cols);
  const rows = positions(height, grid.rows);
  const paint = how.mode === "spotlight" ? paintSpotlight : paintHeat;
  for (let y = 0, offset = 0; y < height; y++) {
    const upper = rows.low[y] * grid.cols;
    const lower = rows.high[y] * grid.cols;
    for (let x = 0; x < width; x++, offset += 4) {
      const left = columns.low[x];
      const right = columns.high[x];
      const above = mix(grid.weights[upper + left], grid.weights[upper + right], columns.share[x]);
      const below = mix(grid.weights[lower + left], grid.weights[lower + right], columns.share[x]);
      const share = how.top > 0 ? Math.min(1, mix(above, below, rows.share[y]) / how.top) : 0;
      paint(image.data, offset, share, how.strength);
    }
  }
  context.putImageData(image, 0, 0);
}

export function clearMap(canvas) {
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
}

/** The scale from low to high, in the same paint as the map, for the legend. */
export function drawScale(canvas, { mode, strength }) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, 1);
  const paint = mode === "spotlight" ? paintSpotlight : paintHeat;
  for (let x = 0; x < canvas.width; x++) paint(image.data, x * 4, x / (canvas.width - 1), strength);
  context.putImageData(image, 0, 0);
}

function paintHeat(pixels, offset, share, strength) {
  const entry = Math.round(share * 255) * 3;
  pixels[offset] = INFERNO[entry];
  pixels[offset + 1] = INFERNO[entry + 1];
  pixels[offset + 2] = INFERNO[entry + 2];
  pixels[offset + 3] = 255 * strength * (HEAT_FLOOR + (1 - HEAT_FLOOR) * share);
}

function paintSpotlight(pixels, offset, share, strength) {
  pixels[offset] = 8;
  pixels[offset + 1] = 8;
  pixels[offset + 2] = 12;
  pixels[offset + 3] = 255 * mix(SPOTLIGHT_LEAST, SPOTLIGHT_MOST, strength) * (1 - share);
}

function smoothSize(aspect) {
  const scale = SMOOTH_LONG_SIDE / Math.max(aspect, 1);
  return { width: Math.max(1, Math.round(scale * aspect)), height: Math.max(1, Math.round(scale)) };
}

/** For each pixel, between which two cell centres it lies and how far along. Values are constant beyond the outermost centres. */
function positions(pixels, cells) {
  const low = new Uint16Array(pixels);
  const high = new Uint16Array(pixels);
  const share = new Float32Array(pixels);
  for (let i = 0; i < pixels; i++) {
    const at = Math.min(cells - 1, Math.max(0, ((i + 0.5) / pixels) * cells - 0.5));
    low[i] = Math.floor(at);
    high[i] = Math.min(cells - 1, low[i] + 1);
    share[i] = at - low[i];
  }
  return { low, high, share };
}

function mix(a, b, share) {
  return a + (b - a) * share;
}
