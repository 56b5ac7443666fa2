// Messages for errors: what went wrong and what to do next. It includes the service's detail, which names the limits.

const LONGEST_DETAIL = 400;

const BY_STATUS = {
  0: ["Wordlight could not be reached.", "Check the connection, then try again. If the file is very large, try a smaller one.", true],
  400: ["The upload is not a photograph.", "Choose a picture file, such as a JPEG or PNG.", false],
  401: ["This service needs a key.", "Reload this page. Enter any user name, and your key as the password. No key? Ask the operator.", false],
  403: ["This service does not accept photographs from you.", "Ask the operator for access.", false],
  404: ["The result does not exist.", "Send the photograph again.", true],
  408: ["The upload took too long.", "Try again, or choose a smaller photograph.", true],
  410: ["The result is no longer kept.", "Send the photograph again.", true],
  413: ["That file is too large.", "Choose a smaller photograph, or export this one at a lower quality.", false],
  415: ["That file is not a photograph Wordlight can read.", "Choose a JPEG, PNG or WebP picture.", false],
  422: ["That picture could not be opened.", "It may be damaged or far too large. Open it, save it again as JPEG, and send that file.", false],
  429: ["You reached your limit.", "Wait a moment, then try again.", true],
  503: ["Wordlight is busy.", "Your photograph was not accepted. Try again shortly.", true],
};

export function explainProblem(problem) {
  const [lead, advice, again] = BY_STATUS[problem.status] ?? [
    "Something went wrong in the service.", "It is not your photograph. Try again in a moment.", true,
  ];
  return { lead, detail: sentence(problem.detail || problem.title), advice: withWait(advice, problem.retryAfter), again };
}

export function explainJob(job) {
  const detail = sentence(job.error?.detail || job.error?.title || "");
  if (job.status === "expired") {
    return { lead: "The photograph waited too long.", detail, advice: "The service is overloaded. Try again shortly.", again: true };
  }
  if (job.status === "canceled") {
    return { lead: "The caption was canceled.", detail, advice: "Send the photograph again if you still want it.", again: true };
  }
  return { lead: "No caption could be written.", detail, advice: "Try again; if it fails once more, try another photograph.", again: true };
}

function withWait(advice, seconds) {
  if (!seconds) return advice;
  const minutes = Math.ceil(seconds / 60);
  const wait = seconds < 90 ? `${seconds} ${seconds === 1 ? "second" : "seconds"}` : `${minutes} minutes`;
  return `Try again in about ${wait}.`;
}

/** Makes a sentence of a detail, which may be a fragment written for developers. */
function sentence(text) {
  const trimmed = text.trim();
  if (!trimmed) return "";
  const short = trimmed.length > LONGEST_DETAIL ? `${trimmed.slice(0, LONGEST_DETAIL)}…` : trimmed;
  const begun = short[0].toUpperCase() + short.slice(1);
  return /[.!?…]$/.test(begun) ? begun : `${begun}.`;
}
