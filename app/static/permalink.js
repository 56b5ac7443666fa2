// The address of what is on the page: its jobs and the one in view, behind the #, which never reaches a server's log.
// In: ids of jobs. Out: an address that shows them again, here or elsewhere, as long as the service keeps them.
// It must not know what a job is.

const ID = /^[\w-]{8,64}$/;

/** @returns {{jobs: string[], show: string}} */
export function readLink(hash = window.location.hash) {
  const said = new URLSearchParams(hash.slice(1));
  const jobs = (said.get("jobs") ?? "").split(",").filter((id) => ID.test(id));
  return { jobs, show: said.get("show") ?? jobs[0] ?? "" };
}

export function linkTo(jobs, show) {
  const { origin, pathname } = window.location;
  return origin + pathname + (jobs.length > 0 ? `#jobs=${jobs.join(",")}&show=${show}` : "");
}

/** Puts the address where a reload finds it. */
export function keepLink(jobs, show) {
  window.history.replaceState(null, "", linkTo(jobs, show));
}
