// The photograph on the page: keeps its shape and reports where a person points.
// Calls onPoint({x, y}) with 0 to 1 from the upper left, onPoint(null), and onShape() when the shape becomes known.

// Steps of the arrow keys until setSteps() sets the grid of the map.
const COARSE_STEPS = 8;

const UNKNOWN_ASPECT = 4 / 3;
// The browser and the service must agree on the shape within this tolerance, or maps would lie in the wrong places.
const SAME_SHAPE = 0.02;

export function openPhotoView({ frame, photo, placeholder, marker, onPoint, onShape }) {
  let aspect = UNKNOWN_ASPECT;
  let size = null; // of the picture, as the service reports it
  let steps = { rows: COARSE_STEPS, cols: COARSE_STEPS };
  let point = null;

  photo.addEventListener("load", () => {
    photo.hidden = false;
    placeholder.hidden = true;
    // The natural size is the upright one: browsers apply the EXIF orientation, and so does the service.
    setAspect(photo.naturalWidth, photo.naturalHeight);
    checkShape();
  });
  photo.addEventListener("error", () => {
    if (photo.getAttribute("src")) showPlaceholder();
  });

  frame.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "touch" && !painting()) pointAt(fraction(event));
  });
  frame.addEventListener("pointerdown", (event) => {
    if (!painting()) pointAt(fraction(event));
  });
  frame.addEventListener("pointerleave", (event) => {
    // Lifting a finger fires this too; its point stays until the next tap.
    if (event.pointerType !== "touch") pointAt(null);
  });
  frame.addEventListener("blur", () => pointAt(null));
  frame.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const from = point ?? { x: 0.5, y: 0.5 };
    pointAt(point ? { x: cell(from.x, step[0], steps.cols), y: cell(from.y, step[1], steps.rows) } : from);
  });

  function show(url) {
    if (photo.getAttribute("src") === url) return;
    size = null;
    placeholder.hidden = true;
    photo.hidden = false;
    photo.src = url;
    pointAt(null);
  }

  /** While a mask is painted, pointers do not select points. */
  function painting() {
    return frame.classList.contains("painting");
  }

  function setSize(next) {
    size = next;
    if (photo.hidden) shapeBySize();
    else checkShape();
  }

  /** Some browsers ignore the orientation of a WebP, which the service applies. */
  function checkShape() {
    if (!(size?.width > 0 && size?.height > 0 && photo.naturalWidth > 0)) return;
    const ratio = (photo.naturalWidth / photo.naturalHeight) * (size.height / size.width);
    if (Math.abs(ratio - 1) > SAME_SHAPE) showPlaceholder();
  }

  function showPlaceholder() {
    photo.hidden = true;
    placeholder.hidden = false;
    shapeBySize();
  }

  /** Gives the placeholder the shape that the service reports. */
  function shapeBySize() {
    if (size?.width > 0 && size?.height > 0) setAspect(size.width, size.height);
    else setAspect(UNKNOWN_ASPECT, 1);
  }

  function setAspect(width, height) {
    if (!(width > 0 && height > 0)) return;
    aspect = width / height;
    frame.style.setProperty("--aspect", String(aspect));
    onShape();
  }

  function pointAt(next) {
    if (next === null && point === null) return;
    point = next;
    marker.hidden = next === null;
    if (next) outline(next);
    onPoint(next);
  }

  /** Outlines the cell of the point: answers are no finer than the map. */
  function outline({ x, y }) {
    const { rows, cols } = steps;
    marker.style.left = `${(Math.min(cols - 1, Math.floor(x * cols)) / cols) * 100}%`;
    marker.style.top = `${(Math.min(rows - 1, Math.floor(y * rows)) / rows) * 100}%`;
    marker.style.width = `${100 / cols}%`;
    marker.style.height = `${100 / rows}%`;
  }

  function fraction(event) {
    const box = frame.getBoundingClientRect();
    const within = (value) => Math.min(1, Math.max(0, value));
    return { x: within((event.clientX - box.left) / box.width), y: within((event.clientY - box.top) / box.height) };
  }

  return {
    show,
    setSize,
    setSteps: (grid) => (steps = grid),
    clearPoint: () => pointAt(null),
    get aspect() {
      return aspect;
    },
    /** The cell that is outlined, from 0 to 1, or null. */
    get cell() {
      if (!point) return null;
      const { rows, cols } = steps;
      return {
        x: Math.min(cols - 1, Math.floor(point.x * cols)) / cols, y: Math.min(rows - 1, Math.floor(point.y * rows)) / rows,
        width: 1 / cols, height: 1 / rows,
      };
    },
    /** The picture for thumbnails, or null when the browser cannot show it. */
    get picture() {
      return photo.hidden || !photo.complete || photo.naturalWidth === 0 ? null : photo;
    },
  };
}

/** The middle of the neighbouring cell, so that the arrows visit every cell once. */
function cell(at, by, count) {
  const index = Math.min(count - 1, Math.max(0, Math.floor(at * count) + by));
  return (index + 0.5) / count;
}
