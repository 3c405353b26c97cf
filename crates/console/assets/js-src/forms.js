// Forms that are refused keep what was typed, passwords included: htmx sends them (hx-boost), and what is wrong is shown in the form's element
// with the attribute data-fault. Without JavaScript the answer is a page that says the same. Loaded as a module: runs after htmx is there.

const lost = () => document.getElementById("lost");

function faultPlace(event) {
  return event.detail.requestConfig?.elt?.querySelector("[data-fault]") ?? null;
}

document.addEventListener("htmx:beforeRequest", (event) => faultPlace(event)?.replaceChildren());

document.addEventListener("htmx:beforeSwap", (event) => {
  const place = faultPlace(event);
  if (place && event.detail.isError) {
    event.detail.target = place;
    event.detail.ignoreTitle = true;
  }
});

document.addEventListener("htmx:afterRequest", (event) => {
  const place = faultPlace(event);
  if (place && place.childElementCount > 0) {
    place.scrollIntoView({ block: "nearest" });
  }
});

// The browser would show a page of its own; htmx says nothing.
document.addEventListener("htmx:sendError", () => {
  lost().hidden = false;
});
document.addEventListener("htmx:beforeOnLoad", (event) => {
  if (!faultPlace(event)) {
    return;
  }
  lost().hidden = true;
  // A form that was refused stays where it is; its address would be that of a page that is not there.
  if (event.detail.xhr.status >= 400) {
    event.detail.etc.push = "false";
  }
});

// A part of a page that came later and asks for a form that is folded away, such as that to try a camera again.
document.addEventListener("htmx:afterSettle", () => {
  const opened = document.querySelector("[data-opens]")?.dataset.opens;
  if (opened) {
    document.getElementById(opened).open = true;
  }
});
