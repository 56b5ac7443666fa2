// Measures of a map {rows, cols, weights}: where it peaks, how far it spreads, how much of it is at a point.
// Weights are in row order, sum to 1 and cover the whole picture.

// A map that spreads over more than this share of the cells is diffuse. As in contact_sheet.py.
const DIFFUSE_SHARE = 0.75;

const PLACES = [
  ["upper left", "top", "upper right"],
  ["left", "centre", "right"],
  ["lower left", "bottom", "lower right"],
];

/** Whether there is a map to draw. */
export function isGrid(grid) {
  return (
    grid != null && grid.rows > 0 && grid.cols > 0 && Array.isArray(grid.weights) &&
    grid.weights.length === grid.rows * grid.cols
  );
}

export function peak(grid) {
  let best = 0;
  for (let i = 1; i < grid.weights.length; i++) if (grid.weights[i] > grid.weights[best]) best = i;
  return { row: Math.floor(best / grid.cols), col: best % grid.cols, weight: grid.weights[best] };
}

/** The ninth of the picture in which the strongest cell lies, in words. */
export function peakPlace(grid) {
  const { row, col } = peak(grid);
  const third = (index, count) => Math.min(2, Math.floor(((index + 0.5) / count) * 3));
  return PLACES[third(row, grid.rows)][third(col, grid.cols)];
}

/** How many cells the map covers: the exponential of its entropy, from 1 to all cells. */
export function spread(grid) {
  let entropy = 0;
  for (const weight of grid.weights) if (weight > 0) entropy -= weight * Math.log(weight);
  return Math.exp(entropy);
}

export function isDiffuse(grid) {
  return spread(grid) > DIFFUSE_SHARE * grid.weights.length;
}

/** The weight at a point (x, y from 0 to 1) as a multiple of the average cell. */
export function lift(grid, x, y) {
  const row = Math.min(grid.rows - 1, Math.max(0, Math.floor(y * grid.rows)));
  const col = Math.min(grid.cols - 1, Math.max(0, Math.floor(x * grid.cols)));
  return grid.weights[row * grid.cols + col] * grid.weights.length;
}
