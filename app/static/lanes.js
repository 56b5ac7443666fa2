// At most so many things at once; the others wait their turn, in the order in which they came.
// In: functions that return promises. Out: the same promises, later. It must not know what is done.

/** @param {number} most */
export function openLanes(most) {
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
