import { it } from "node:test";
import { Keyboard } from "./harness/hands";
import { onStage } from "./harness/stage";
import { skipReason } from "./harness/tools";
import { STAGE, wholePath } from "./path";

it("from no camera to a reviewed case by keyboard alone", { skip: skipReason() }, async () => {
  await onStage("whole-path-by-keyboard", STAGE, (stage) => wholePath(stage, { language: "en", hands: (page) => new Keyboard(page) }));
});
