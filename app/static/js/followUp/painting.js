// Paints a mask over the photograph in neutral grey: brush strokes by pointer, cells by keyboard.

// The middle of the network's input range: the least information.
const GREY = "rgb(128 128 128)";
// The service makes pictures smaller than this.
const LONG_SIDE = 1024;
const QUALITY = 0.95;

export function openPainting({ frame, canvas, photo, brush, cellNow, onChange }) {
  /** @type {({points: {x: number, y: number}[], size: number}|{x: number, y: number, width: number, height: number})[]} */
  let marks = [];
  let stroke = null;
  let active = false;

  frame.addEventListener("pointerdown", (event) => {
    if (!active || event.button !== 0) return;
    event.preventDefault();
    frame.setPointerCapture(event.pointerId);
    stroke = { points: [pointOf(event)], size: Number(brush.value) / 100 };
    marks.push(stroke);
    draw();
  });
  frame.addEventListener("pointermove", (event) => {
    if (!stroke) return;
    stroke.points.push(pointOf(event));
    draw();
  });
  for (const end of ["pointerup", "pointercancel"]) {
    frame.addEventListener(end, () => {
      if (stroke) onChange(marks.length);
      stroke = null;
    });
  }
  frame.addEventListener("keydown", (event) => {
    const cell = active && (event.key === "Enter" || event.key === " ") ? cellNow() : null;
    if (!cell) return;
    event.preventDefault();
    marks.push(cell);
    draw();
    onChange(marks.length);
  });
  new ResizeObserver(draw).observe(frame);

  function start() {
    active = true;
    frame.classList.add("painting");
  }

  function stop() {
    active = false;
    stroke = null;
    frame.classList.remove("painting");
    clear();
  }

  function clear() {
    marks = [];
    draw();
    onChange(0);
  }

  function draw() {
    canvas.width = Math.max(1, frame.clientWidth);
    canvas.height = Math.max(1, frame.clientHeight);
    paint(canvas);
  }

  function paint({ width, height }, context = canvas.getContext("2d")) {
    context.fillStyle = context.strokeStyle = GREY;
    context.lineCap = context.lineJoin = "round";
    for (const mark of marks) {
      if (!mark.points) {
        context.fillRect(mark.x * width, mark.y * height, mark.width * width, mark.height * height);
        continue;
      }
      context.lineWidth = mark.size * Math.min(width, height);
      context.beginPath();
      const [first, ...others] = mark.points;
      context.moveTo(first.x * width, first.y * height);
      // A line of no length, with round ends, is a dot.
      for (const point of others.length > 0 ? others : [first]) context.lineTo(point.x * width, point.y * height);
      context.stroke();
    }
  }

  /** The photograph with the mask in it. @returns {Promise<File>} */
  async function maskedPicture(name) {
    const scale = Math.min(1, LONG_SIDE / Math.max(photo.naturalWidth, photo.naturalHeight));
    const masked = document.createElement("canvas");
    masked.width = Math.max(1, Math.round(photo.naturalWidth * scale));
    masked.height = Math.max(1, Math.round(photo.naturalHeight * scale));
    const context = masked.getContext("2d");
    context.drawImage(photo, 0, 0, masked.width, masked.height);
    paint(masked, context);
    const blob = await new Promise((resolve) => masked.toBlob(resolve, "image/jpeg", QUALITY));
    return new File([blob], `masked-${name}`, { type: "image/jpeg" });
  }

  function pointOf(event) {
    const box = frame.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  }

  return { start, stop, clear, maskedPicture };
}
