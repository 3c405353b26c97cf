// Closes a page's event stream while its tab is hidden and shows the page anew when it is seen again, so that hidden tabs cost the box and
// the network nothing; and says when the stream is lost. Loaded as a module: runs after htmx and its SSE extension are there.

// After the server has ended a stream: a moment for a box that restarts.
const RETRY_MS = 5000;

const sources = new Set();
const lost = document.getElementById("lost");

document.addEventListener("htmx:sseOpen", (event) => {
  sources.add(event.detail.source);
  lost.hidden = true;
  if (document.hidden) {
    close();
  }
});

document.addEventListener("htmx:sseError", (event) => {
  if (document.hidden) {
    return;
  }
  lost.hidden = false;
  // The server answers and gives no stream: the session may have ended, and then loading the page leads to the login.
  if (event.detail.source.readyState === EventSource.CLOSED) {
    setTimeout(show, RETRY_MS);
  }
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    close();
  } else {
    show();
  }
});

function close() {
  for (const source of sources) {
    source.close();
  }
  sources.clear();
}

// Loads the live section anew; it opens a stream of its own.
function show() {
  const section = document.querySelector("[data-live]");
  if (section && !document.hidden) {
    const url = document.body.dataset.base + section.dataset.live;
    window.htmx.ajax("GET", url, { target: section, select: "[data-live]", swap: "outerHTML" });
  }
}
