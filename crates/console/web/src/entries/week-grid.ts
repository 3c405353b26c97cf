import { WeekGrid } from "../hours/week-grid";

customElements.define("week-grid", WeekGrid);
