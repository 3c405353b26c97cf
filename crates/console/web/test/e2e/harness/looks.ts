import type { Stage } from "./stage";
import { waitFor } from "./wait";

/** Waits until so many cameras have been looked at, so that pages have their pictures. The console must not have users. */
export async function firstLooks(stage: Stage, cameras: number): Promise<void> {
  await waitFor(`${cameras} cameras have been looked at`, async () => {
    const html = await (await fetch(`${stage.origin}/wall`)).text();
    return html.split("<img ").length - 1 >= cameras;
  });
}
