import { ZoneEditor } from "../zones/editor";

customElements.define("zone-editor", ZoneEditor);
