import { GroundCalibration } from "../calibration/element";

customElements.define("ground-calibration", GroundCalibration);
