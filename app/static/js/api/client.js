// Client of the Wordlight API: submits a photograph, follows its job to the end, reads and cancels jobs.
// Rejects with a Problem, or with an AbortError when its signal is aborted. problems.js turns a Problem into advice.

/**
 * @typedef {{rows: number, cols: number, weights: number[]}} Grid
 * @typedef {{text: string, logprob: number, in_vocabulary: boolean, visual_grounding: number, heatmap: Grid|null}} Word
 * @typedef {{text: string, logprob: number, confidence: number|null, confident: boolean|null, words: Word[]}} Caption
 * @typedef {{id: string, status: string, captions: Caption[], options: object, links: object, image: object}} Job
 * @typedef {{onStatus: (status: string, ahead?: number|null) => void, onWord?: (event: object) => void,
 *            signal: AbortSignal}} FollowOptions
 */

export const CAPTIONS = "/v1/captions";
export const SCORES = "/v1/scores";
const TERMINAL = new Set(["succeeded", "failed", "canceled", "expired"]);
const STATUSES = ["queued", "processing", ...TERMINAL];

// Some proxies buffer an event stream until it ends. After this silence, long polling takes over.
const SILENCE_MS = 12_000;
const LOST_STREAMS = 2; // failures in a row after which long polling takes over
const POLL_SECONDS = 20;
// Pause between polls, for servers or proxies that answer a long poll at once.
const POLL_PAUSE_MS = 700;
const POLL_TRIES = 4;
const POSITION_MS = 1500;

/** An RFC 9457 problem. Status 0: the request did not reach the service. */
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

function isTerminal(status) {
  return TERMINAL.has(status);
}

/**
 * Sends the photograph. XMLHttpRequest, because fetch cannot report upload progress, which on a phone's network is
 * most of the wait.
 * @param {File} file
 * @param {{path?: string, fields?: object, signal: AbortSignal, onSent?: (share: number) => void}} how
 * @returns {Promise<Job>}
 */
export function submit(file, { path = CAPTIONS, fields = {}, signal, onSent = () => {} }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.append(name, value);
    form.append("image", file, file.name || "photograph");
    request.open("POST", path);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Prefer", "respond-async");
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable && event.total > 0) onSent(event.loaded / event.total);
    });
    request.addEventListener("load", () => {
      const body = parse(request.responseText);
      if (request.status >= 200 && request.status < 300 && body?.id) resolve(body);
      else reject(problemOf(request.status, body, request.getResponseHeader("Retry-After")));
    });
    request.addEventListener("error", () => reject(new Problem()));
    request.addEventListener("abort", () => reject(aborted()));
    if (signal.aborted) return reject(aborted());
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(form);
  });
}

/**
 * Waits until the job is in a terminal state and returns it, result included.
 * @param {Job} job
 * @param {FollowOptions} options
 */
export async function follow(job, options) {
  const { signal } = options;
  options.onStatus(job.status);
  if (isTerminal(job.status)) return job;
  const position = watchQueuePosition(job, options);
  const onStatus = (status, ahead) => {
    position.update(status);
    options.onStatus(status, ahead);
  };
  try {
    await listen(job, { ...options, onStatus });
    return await poll(job.id, { signal, onStatus }); // the service answers at once if the job has ended
  } finally {
    position.update("ended");
  }
}

/** The job as it is now. @returns {Promise<Job>} */
export function read(id, { signal, wait = 0 } = {}) {
  return ask(`${CAPTIONS}/${encodeURIComponent(id)}${wait ? `?wait=${wait}` : ""}`, { signal });
}

/** Cancels a job. The page does not wait for the answer. */
export function cancel(job) {
  fetch(job.links.cancel, { method: "POST", keepalive: true }).catch(() => {});
}

/** Polls the queue position while the job is queued. */
function watchQueuePosition(job, { signal, onStatus }) {
  let queued = job.status === "queued";
  const timer = setInterval(async () => {
    if (!queued) return clearInterval(timer);
    try {
      const { ahead } = await ask(job.links.queue_position, { signal });
      if (queued && ahead !== null) onStatus("queued", ahead);
    } catch {
      // Ignored: the event stream reports the job's end.
    }
  }, POSITION_MS);
  return {
    update(status) {
      queued = status === "queued";
      if (!queued) clearInterval(timer);
    },
  };
}

/** Reads the event stream until the job ends or the stream is unreliable. */
function listen(job, { signal, onStatus, onWord = () => {} }) {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(aborted());
    const source = new EventSource(job.links.events);
    let watchdog;
    let lost = 0;
    const finish = (settle, value) => {
      clearTimeout(watchdog);
      source.close();
      signal.removeEventListener("abort", abort);
      settle(value);
    };
    const abort = () => finish(reject, aborted());
    const rearm = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => finish(resolve), SILENCE_MS);
    };
    const received = () => {
      lost = 0;
      rearm();
    };
    signal.addEventListener("abort", abort);
    for (const status of STATUSES) {
      source.addEventListener(status, () => {
        if (isTerminal(status)) return finish(resolve);
        received();
        onStatus(status);
      });
    }
    source.addEventListener("word", (event) => {
      received();
      const data = parse(event.data);
      if (data) onWord(data);
    });
    // The browser reconnects by itself and continues after the last event.
    source.addEventListener("error", () => {
      lost += 1;
      if (source.readyState === EventSource.CLOSED || lost >= LOST_STREAMS) finish(resolve);
    });
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
      // The job continues on the server, so retry a few times after a lost connection or during a restart.
      const temporary = error instanceof Problem && (error.status === 0 || error.status >= 500);
      if (!temporary || ++failures >= POLL_TRIES) throw error;
    }
    await pause(POLL_PAUSE_MS * 2 ** failures, signal);
  }
}

async function ask(url, { signal }) {
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

function aborted() {
  return new DOMException("aborted", "AbortError");
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(aborted());
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal.addEventListener("abort", stop, { once: true });
  });
}
