// What can be taken along: the caption as text, the whole result as JSON, and the same request as a curl line.
// In: a finished job and the file it came from. Out: the clipboard, a download.
// It must not know how a result is shown.

const NOTICE_MS = 1600;

/** Copies text() and says on the button itself how that went. */
export function copyOnClick(button, text) {
  const label = button.textContent;
  let timer = null;
  button.addEventListener("click", async () => {
    const done = await copy(text());
    button.textContent = done ? "Copied" : "Select and copy by hand";
    clearTimeout(timer);
    timer = setTimeout(() => (button.textContent = label), NOTICE_MS);
  });
}

export function downloadJob(job) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(job, null, 2)], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `wordlight-${job.id}.json`;
  link.click();
  // The browser reads the address after the click has returned.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

export function curlLines(job, fileName) {
  const root = `${window.location.origin}/v1/captions`;
  const lines = [`curl -F image=@${quote(fileName || "photograph.jpg")} ${root}`];
  if (job?.id) lines.push(`curl ${quote(`${root}/${job.id}?wait=60`)}`);
  return lines.join("\n");
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyByHand(text);
  }
}

/** Over plain http, away from localhost, browsers keep the clipboard API to themselves. */
function copyByHand(text) {
  const field = document.createElement("textarea");
  const before = document.activeElement;
  field.value = text;
  field.className = "unseen";
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  before?.focus();
  return done;
}

function quote(word) {
  return /^[\w./:@=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
