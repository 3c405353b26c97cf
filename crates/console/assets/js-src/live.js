// Closes a page's event stream while its tab is hidden and shows the page anew when it is seen again, so that hidden tabs cost the box and
// the network nothing; and says when the stream is lost. Loaded as a module: runs after htmx and its SSE extension are there.

const sources = new Set();
const lost = document.getElementById("lost");

document.addEventListener("htmx:sseOpen", (event) => {
  const source = event.detail.source;
  sources.add(source);
  lost.hidden = true;
  if (document.hidden) {
    close();
  }
});

document.addEventListener("htmx:sseError", () => {
  lost.hidden = document.hidden;
});

function close() {
  for (const source of sources) {
    source.close();
  }
  sources.clear();
}

document.addEventListener("visibilitychange", () => {
  const section = document.querySelector("[data-live]");
  if (!section) {
    return;
  }
  if (document.hidden) {
    close();
  } else {
    // The new section opens a stream of its own.
    const base = document.body.dataset.base;
    window.htmx.ajax("GET", base + section.dataset.live, {
      target: section,
      select: "[data-live]",
      swap: "outerHTML",
    });
  }
});
