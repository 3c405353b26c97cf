// For editors over a view's picture that were opened before the camera's first look: asks until there is a picture.

import { textProperty } from "./request";

const EVERY_MS = 2000;

/** Asks the URL in the element's attribute `picture-url`, which answers 204 until there is a picture, and then `{"picture": URL}`. `show` resolves to whether
 * it could be shown; what the page says until then is removed. Ends when the element leaves the page. */
export async function awaitPicture(element: HTMLElement, show: (url: string) => Promise<boolean>): Promise<void> {
  const url = element.getAttribute("picture-url");
  if (!url) return;
  while (element.isConnected) {
    const picture = document.hidden ? null : await newest(url);
    if (picture && (await show(picture))) {
      for (const note of document.querySelectorAll("[data-until-picture]")) note.remove();
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}

/** A box that does not answer is asked again. */
async function newest(url: string): Promise<string | null> {
  try {
    const response = await fetch(url, { credentials: "same-origin", headers: { Accept: "application/json" } });
    return response.status === 200 ? textProperty(await response.json(), "picture") : null;
  } catch {
    return null;
  }
}
