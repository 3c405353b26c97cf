// Single keys as commands of a page: not while something is typed or chosen, and not with a modifier.

/** The key of a keydown that is meant for the page, in lower case; `null` otherwise. */
export function pageKey(event: KeyboardEvent): string | null {
  if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return null;
  const target = event.target;
  if (target instanceof HTMLElement) {
    const types = target instanceof HTMLInputElement && !["radio", "checkbox", "button", "submit"].includes(target.type);
    if (types || target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement || target.isContentEditable) return null;
  }
  return event.key.toLowerCase();
}
