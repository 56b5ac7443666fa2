// Sources of photographs: file inputs, drag and drop, paste, and the samples.
// The service checks formats and explains what it refuses.

export function openUploadSources({ inputs, samples, overlay, onPhotos, onRefusal }) {
  for (const input of inputs) {
    input.addEventListener("change", () => {
      take([...input.files]);
      // Otherwise choosing the same file again would fire no event.
      input.value = "";
    });
  }

  for (const button of samples.querySelectorAll("button[data-src]")) {
    button.addEventListener("click", () => takeSample(button.dataset.src));
  }

  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0) return;
    event.preventDefault();
    take(files);
  });

  // dragenter and dragleave also fire between child elements, so their depth is counted.
  let depth = 0;
  const show = (on) => overlay.classList.toggle("open", on);
  document.addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    depth += 1;
    show(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (!carriesFiles(event)) return;
    depth = Math.max(0, depth - 1);
    show(depth > 0);
  });
  document.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  document.addEventListener("drop", (event) => {
    // Without this the browser would leave the page and open whatever was dropped.
    event.preventDefault();
    depth = 0;
    show(false);
    if (!carriesFiles(event) && event.dataTransfer?.types.includes("text/plain")) return; // dragged text
    take([...(event.dataTransfer?.files ?? [])]);
  });

  function take(files) {
    const pictures = files.filter((file) => file.type.startsWith("image/"));
    // Of several files only pictures are sent. A single file is always sent: the service recognises it by its content.
    if (pictures.length > 0) onPhotos(pictures);
    else if (files.length > 0) onPhotos(files.slice(0, 1));
    else onRefusal("Only picture files can be dropped here. Save the picture first, then drop the file.");
  }

  async function takeSample(url) {
    try {
      const response = await fetch(url);
      if (!response.ok) throw new Error(`status ${response.status}`);
      const blob = await response.blob();
      onPhotos([new File([blob], url.split("/").pop(), { type: "image/jpeg" })]);
    } catch {
      onRefusal("The sample could not be loaded. Check the connection, then try again.");
    }
  }
}

function carriesFiles(event) {
  return [...(event.dataTransfer?.types ?? [])].includes("Files");
}
