import { enhance } from "../pages/config-text";

enhance(document);
