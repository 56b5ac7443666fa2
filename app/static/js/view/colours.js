// The colour scale of the maps: inferno, which is perceptually uniform and readable with any colour vision.
// In: a share from 0 to 1. Out: red, green and blue, 0 to 255.
// It must not know what the shares mean, nor any canvas.

// 33 evenly spaced stops of matplotlib's inferno (CC0); straight lines between them stay within 1.5 of its 256 entries.
const STOPS =
  "0000040403120b0724150b37210c4a2f0a5b3d09654a0c6b57106e64156e71196e7d1e6d8a226a972766a32c61b0315bbc3754c63d4dd0" +
  "4545da4e3ce35933eb6429f1711ff67e14f98c0afb9b06fcaa0ffbba1ff9c932f5d949f2e865f3f586fcffa4";

const ENTRIES = 256;

/** 256 entries of red, green, blue, one after the other: an index is quicker than arithmetic per pixel. */
export const INFERNO = expand(STOPS);

function expand(stops) {
  const channel = (stop, i) => parseInt(stops.slice(stop * 6 + i * 2, stop * 6 + i * 2 + 2), 16);
  const spans = stops.length / 6 - 1;
  const table = new Uint8ClampedArray(ENTRIES * 3);
  for (let entry = 0; entry < ENTRIES; entry++) {
    const at = (entry / (ENTRIES - 1)) * spans;
    const stop = Math.min(Math.floor(at), spans - 1);
    for (let i = 0; i < 3; i++) {
      table[entry * 3 + i] = channel(stop, i) + (channel(stop + 1, i) - channel(stop, i)) * (at - stop);
    }
  }
  return table;
}
