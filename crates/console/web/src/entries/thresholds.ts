import { start } from "../pages/thresholds";

start();
