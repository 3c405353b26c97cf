import { it } from "node:test";
import { Mouse } from "./harness/hands";
import { onStage } from "./harness/stage";
import { skipReason } from "./harness/tools";
import { STAGE, wholePath } from "./path";

it("from no camera to a reviewed case by mouse", { skip: skipReason() }, async () => {
  await onStage("whole-path-by-mouse", STAGE, (stage) => wholePath(stage, { language: "en", hands: (page) => new Mouse(page) }));
});
