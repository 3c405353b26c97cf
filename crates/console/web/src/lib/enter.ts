// Enter in a text field of an element must not submit the form around it: the page's own button does.

/** Makes Enter in text fields mean what leaving them means. */
export function keepEnter(host: HTMLElement): void {
  host.addEventListener("keydown", (event) => {
    const field = event.target;
    if (event.key !== "Enter" || event.isComposing || !(field instanceof HTMLInputElement)) return;
    event.preventDefault();
    if (field.type === "text" || field.type === "number") field.dispatchEvent(new Event("change", { bubbles: true }));
  });
}
