import { start } from "../pages/review";

start();
