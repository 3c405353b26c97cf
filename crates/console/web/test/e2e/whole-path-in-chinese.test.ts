import { it } from "node:test";
import { Mouse } from "./harness/hands";
import { onStage } from "./harness/stage";
import { skipReason } from "./harness/tools";
import { STAGE, wholePath } from "./path";

it("from no camera to a reviewed case in Chinese", { skip: skipReason() }, async () => {
  await onStage("whole-path-in-chinese", STAGE, (stage) => wholePath(stage, { language: "zh", hands: (page) => new Mouse(page) }));
});
