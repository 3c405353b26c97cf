import { start } from "../pages/cases";

start();
