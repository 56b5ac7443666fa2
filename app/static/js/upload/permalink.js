// Permalink: the address names the jobs on the page, so that a reload or another browser shows them again.
// It is a fragment (#), which browsers do not send, so it reaches no server's log.

const ID = /^[\w-]{8,64}$/;

/** @returns {{jobs: string[], show: string}} */
export function readLink(hash = window.location.hash) {
  const parameters = new URLSearchParams(hash.slice(1));
  const jobs = (parameters.get("jobs") ?? "").split(",").filter((id) => ID.test(id));
  return { jobs, show: parameters.get("show") ?? jobs[0] ?? "" };
}

export function linkTo(jobs, show) {
  const { origin, pathname } = window.location;
  return origin + pathname + (jobs.length > 0 ? `#jobs=${jobs.join(",")}&show=${show}` : "");
}

/** Puts the address where a reload finds it. */
export function keepLink(jobs, show) {
  window.history.replaceState(null, "", linkTo(jobs, show));
}
