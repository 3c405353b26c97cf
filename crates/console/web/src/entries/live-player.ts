import { LivePlayerElement } from "../live/element";

customElements.define("live-player", LivePlayerElement);
