import { BeforeAfter } from "../compare/before-after";

customElements.define("before-after", BeforeAfter);
