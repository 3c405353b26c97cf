// Texts of the modules in the page's language. The page passes a dictionary; web/i18n holds the complete ones.

import type en from "../../i18n/en.json";

export type TextKey = keyof typeof en;
export type Parameters = Readonly<Record<string, string | number>>;
export type Translate = (key: TextKey, parameters?: Parameters) => string;

/** Fills `{name}` placeholders. */
export function fill(text: string, parameters: Parameters = {}): string {
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => {
    const value = parameters[name];
    return value === undefined ? whole : String(value);
  });
}

/** Translation by a dictionary. A text that it lacks shows as its key. */
export function translator(dictionary: Readonly<Record<string, unknown>>): Translate {
  return (key, parameters) => {
    const text = dictionary[key];
    return fill(typeof text === "string" ? text : key, parameters);
  };
}

/**
 * The dictionary of an element: the JSON in the element whose id is its `i18n` attribute, by default `i18n`.
 */
export function translatorOf(element: Element): Translate {
  const source = document.getElementById(element.getAttribute("i18n") ?? "i18n");
  try {
    const dictionary: unknown = JSON.parse(source?.textContent ?? "{}");
    if (typeof dictionary === "object" && dictionary !== null) return translator(dictionary as Record<string, unknown>);
  } catch {
    console.warn(`#${source?.id ?? "i18n"}: not JSON, so texts show as their keys`);
  }
  return translator({});
}
