// Talks to the Wordlight service: hands in a photograph, follows its job to the end.
// In: a File or an id, and an AbortSignal. Out: job objects as the service sends them, or a Problem.
// It must not know the page: what to tell a person about a Problem is in problems.js.

const ROOT = "/v1/captions";
const TERMINAL = new Set(["succeeded", "failed", "canceled", "expired"]);
const STATUSES = ["queued", "processing", ...TERMINAL];

// Some proxies hold an event stream back until it ends. After this much silence the long poll takes over.
const SILENCE_MS = 12_000;
const POLL_SECONDS = 20;
// A server or proxy that answers a long poll at once must not be hammered.
const POLL_REST_MS = 700;
const POLL_TRIES = 4;

/** An RFC 9457 problem, or something of that shape for what never reached the service (status 0). */
export class Problem extends Error {
  constructor({ status = 0, title = "", detail = "" } = {}, retryAfter = null) {
    super(detail || title || `status ${status}`);
    this.name = "Problem";
    this.status = status;
    this.title = title;
    this.detail = detail;
    this.retryAfter = retryAfter;
  }
}

export function isTerminal(status) {
  return TERMINAL.has(status);
}

/**
 * Sends the photograph. XMLHttpRequest, because fetch cannot say how much of a body has left: on a phone's network
 * that is most of the wait.
 * @param {(sent: number) => void} onSent called with the share that was sent, 0 to 1
 */
export function submit(file, { signal, onSent }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    form.append("image", file, file.name || "photograph");
    request.open("POST", ROOT);
    request.setRequestHeader("Accept", "application/json");
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable && event.total > 0) onSent(event.loaded / event.total);
    });
    request.addEventListener("load", () => {
      const body = parse(request.responseText);
      if (request.status >= 200 && request.status < 300 && body?.id) resolve(body);
      else reject(problemOf(request.status, body, request.getResponseHeader("Retry-After")));
    });
    request.addEventListener("error", () => reject(new Problem()));
    request.addEventListener("abort", () => reject(new DOMException("stale", "AbortError")));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(form);
  });
}

/** Waits until the job is in a terminal state and returns it, result included. */
export async function follow(job, { signal, onStatus }) {
  onStatus(job.status);
  if (isTerminal(job.status)) return job;
  await listen(job.id, { signal, onStatus });
  return poll(job.id, { signal, onStatus }); // at the end it answers at once
}

/** The event stream, until it has told of the end or cannot be relied upon. */
function listen(id, { signal, onStatus }) {
  return new Promise((resolve, reject) => {
    const source = new EventSource(`${ROOT}/${encodeURIComponent(id)}/events`);
    let watchdog;
    const finish = (settle, value) => {
      clearTimeout(watchdog);
      source.close();
      signal.removeEventListener("abort", abort);
      settle(value);
    };
    const abort = () => finish(reject, new DOMException("stale", "AbortError"));
    const rearm = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => finish(resolve), SILENCE_MS);
    };
    signal.addEventListener("abort", abort);
    for (const status of STATUSES) {
      source.addEventListener(status, () => {
        if (isTerminal(status)) return finish(resolve);
        onStatus(status);
        rearm();
      });
    }
    source.addEventListener("error", () => finish(resolve));
    rearm();
  });
}

async function poll(id, { signal, onStatus }) {
  for (let failures = 0; ; ) {
    try {
      const job = await read(id, { signal, wait: POLL_SECONDS });
      if (isTerminal(job.status)) return job;
      failures = 0;
      onStatus(job.status);
    } catch (error) {
      // The job goes on without us: a lost connection or a restarting server is worth a few more tries.
      const passing = error instanceof Problem && (error.status === 0 || error.status >= 500);
      if (!passing || ++failures >= POLL_TRIES) throw error;
    }
    await rest(POLL_REST_MS * 2 ** failures, signal);
  }
}

async function read(id, { signal, wait = 0 }) {
  const url = `${ROOT}/${encodeURIComponent(id)}${wait ? `?wait=${wait}` : ""}`;
  let response;
  try {
    response = await fetch(url, { signal, headers: { Accept: "application/json" }, cache: "no-store" });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Problem();
  }
  const body = parse(await response.text());
  if (!response.ok || !body) throw problemOf(response.status, body, response.headers.get("Retry-After"));
  return body;
}

function problemOf(status, body, retryAfter) {
  const seconds = Number.parseInt(retryAfter ?? "", 10);
  return new Problem({ status, title: text(body?.title), detail: text(body?.detail) }, seconds > 0 ? seconds : null);
}

function parse(body) {
  try {
    return JSON.parse(body);
  } catch {
    return null;
  }
}

function text(value) {
  return typeof value === "string" ? value : "";
}

function rest(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(new DOMException("stale", "AbortError"));
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal.addEventListener("abort", stop, { once: true });
  });
}
