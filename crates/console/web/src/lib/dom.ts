// Creating and updating elements. No markup is parsed and no style attribute is set, as the Content-Security-Policy demands.

const SVG = "http://www.w3.org/2000/svg";

type AttributeValue = string | number | boolean | null | undefined;
export type Attributes = Readonly<Record<string, AttributeValue>>;
export type Child = Node | string | null | undefined;

/** Sets attributes: `true` without a value, `false`, `null` and `undefined` remove. Unchanged ones are left alone. */
export function setAttributes(element: Element, attributes: Attributes): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) element.removeAttribute(name);
    else {
      const text = value === true ? "" : String(value);
      if (element.getAttribute(name) !== text) element.setAttribute(name, text);
    }
  }
}

function add(element: Element, children: readonly Child[]): void {
  for (const child of children) if (child !== null && child !== undefined) element.append(child);
}

/** An HTML element. */
export function html<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  setAttributes(element, attributes);
  add(element, children);
  return element;
}

/** An SVG element. */
export function svg<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): SVGElementTagNameMap[K] {
  const element = document.createElementNS(SVG, tag);
  setAttributes(element, attributes);
  add(element, children);
  return element;
}

/** Sets the text if it differs, so that live regions and selections are not disturbed. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Makes the children of `parent` correspond to `items`, reusing those with the same key, so that focus and input survive. Only children made
 * here are touched.
 */
export function reconcile<T, E extends Element>(
  parent: Element,
  items: readonly T[],
  key: (item: T, index: number) => string,
  create: (item: T, index: number) => E,
  update: (element: E, item: T, index: number) => void,
): void {
  const existing = new Map<string, E>();
  for (const child of Array.from(parent.children)) {
    const of = keys.get(child);
    if (of !== undefined) existing.set(of, child as E);
  }
  let before: Element | null = null;
  const wanted = items.map((item, index) => {
    const name = key(item, index);
    let element = existing.get(name);
    existing.delete(name);
    if (!element) {
      element = create(item, index);
      keys.set(element, name);
    }
    update(element, item, index);
    return element;
  });
  for (const element of existing.values()) element.remove();
  for (const element of wanted) {
    const next: Element | null = before ? before.nextElementSibling : firstKeyed(parent);
    if (next !== element) parent.insertBefore(element, next);
    before = element;
  }
}

const keys = new WeakMap<Element, string>();

function firstKeyed(parent: Element): Element | null {
  return Array.from(parent.children).find((child) => keys.has(child)) ?? null;
}

let lastId = 0;

/** An id that is unique in the page, for `aria-labelledby` and the like. */
export function uniqueId(prefix: string): string {
  lastId += 1;
  return `${prefix}-${lastId}`;
}
