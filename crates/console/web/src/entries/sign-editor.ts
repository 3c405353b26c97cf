import { SignEditor } from "../signs/element";

customElements.define("sign-editor", SignEditor);
