// Concurrency limit: runs at most a given number of tasks at once, the others in the order in which they came.

/** @param {number} most */
export function openConcurrencyLimit(most) {
  const waiting = [];
  let running = 0;

  function next() {
    while (running < most && waiting.length > 0) {
      running += 1;
      waiting.shift()().finally(() => {
        running -= 1;
        next();
      });
    }
  }

  /** @param {() => Promise<unknown>} work which handles its own errors */
  function run(work) {
    waiting.push(work);
    next();
  }

  return { run };
}
