// Differences between two sentences, word by word.

/**
 * By the longest common subsequence, so that a word that only shifted counts as the same.
 * @param {string[]} before
 * @param {string[]} after
 * @returns {{text: string, kind: "same"|"gone"|"new"}[]}
 */
export function changesBetween(before, after) {
  const common = Array.from({ length: before.length + 1 }, () => new Uint16Array(after.length + 1));
  for (let i = before.length - 1; i >= 0; i--) {
    for (let j = after.length - 1; j >= 0; j--) {
      common[i][j] = before[i] === after[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
    }
  }
  const changes = [];
  let i = 0;
  let j = 0;
  while (i < before.length || j < after.length) {
    if (i < before.length && j < after.length && before[i] === after[j]) {
      changes.push({ text: before[i++], kind: "same" });
      j += 1;
    } else if (i < before.length && (j === after.length || common[i + 1][j] >= common[i][j + 1])) {
      changes.push({ text: before[i++], kind: "gone" });
    } else changes.push({ text: after[j++], kind: "new" });
  }
  return changes;
}

/** Draws the changes as <del> and <ins>, which browsers and screen readers know. */
export function drawChanges(container, changes) {
  const tags = { same: "span", gone: "del", new: "ins" };
  const parts = changes.map(({ text, kind }) => Object.assign(document.createElement(tags[kind]), { textContent: text }));
  container.replaceChildren(...parts.flatMap((part) => [part, " "]));
}
