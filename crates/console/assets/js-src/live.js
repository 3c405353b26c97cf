// Closes a page's event stream while its tab is hidden and shows the page anew when it is seen again, so that hidden tabs cost the box and
// the network nothing; says when the stream is lost; and keeps a picture until the next one has arrived. Loaded as a module: runs after htmx
// and its SSE extension are there.

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

// A new look's picture takes a moment: the box masks it first, and the link may be slow. The look before stays until it is there, so that a
// picture is seen at all times. Of looks that come faster than pictures, the newest is shown next.
const loading = new WeakMap();

document.addEventListener("htmx:sseBeforeMessage", (event) => {
  const place = event.target;
  const look = new DOMParser().parseFromString(event.detail.data, "text/html").body;
  const [shown, next] = [place, look].map((part) => part.querySelector("img[src]"));
  // Out of sight, the browser itself loads pictures when they come into sight.
  if (!next || !shown?.complete || shown.getAttribute("src") === next.getAttribute("src") || !isInSight(shown)) {
    loading.delete(place);
    return;
  }
  event.preventDefault();
  const job = loading.get(place);
  if (job) {
    job.newest = look;
  } else {
    loading.set(place, { newest: null });
    load(place, look);
  }
});

function load(place, look) {
  const job = loading.get(place);
  const inLook = look.querySelector("img[src]");
  const next = new Image();
  const show = (picture) => {
    // Not if something newer needed no picture, or the section was loaded anew.
    if (!job || loading.get(place) !== job || !place.isConnected) {
      return;
    }
    inLook.removeAttribute("src");
    inLook.dataset.loaded = "";
    window.htmx.swap(place, look.innerHTML, { swapStyle: "innerHTML" });
    place.querySelector("img[data-loaded]").replaceWith(picture);
    const { newest } = job;
    if (newest) {
      job.newest = null;
      setTimeout(load, 0, place, newest);
    } else {
      loading.delete(place);
    }
  };
  for (const { name, value } of inLook.attributes) {
    if (name !== "src" && name !== "loading") {
      next.setAttribute(name, value);
    }
  }
  next.addEventListener("load", () => show(next));
  // The box may be busy: the picture before stays, and the next look brings another.
  next.addEventListener("error", () => show(place.querySelector("img") ?? next));
  next.src = inLook.getAttribute("src");
}

function isInSight(element) {
  const { top, bottom } = element.getBoundingClientRect();
  return bottom > 0 && top < window.innerHeight;
}

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
