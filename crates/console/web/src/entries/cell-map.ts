import { start } from "../pages/cell-map";

start();
