// The colour map of the heatmaps: matplotlib's inferno (CC0), perceptually uniform and readable with any colour vision.
// app/rendering/overlay.py reads the same file.

const colours = await (await fetch("/static/inferno.json")).json();

/** 256 entries of red, green, blue in one array: an index is faster than arithmetic per pixel. */
export const INFERNO = Uint8ClampedArray.from(
  colours.flatMap((colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16))),
);
