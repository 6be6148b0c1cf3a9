/** Elements without markup: data becomes text or attributes, never HTML. */

export type Child = Node | string | number | null | undefined | false;
type Listener = (event: never) => unknown;
export type Attributes = Record<string, string | number | boolean | null | undefined | Listener>;

/** `style` and textual handlers are refused, as the content security policy would. */
function assign(element: Element, attributes: Attributes): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") {
      element.addEventListener(name.replace(/^on/, ""), value as EventListener);
    } else if (name.startsWith("on") || name === "style") {
      throw new Error(`${name}: only functions and classes`);
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
}

function fill(element: Element, children: Child[]): void {
  for (const child of children) {
    if (child !== null && child !== undefined && child !== false) {
      element.append(child instanceof Node ? child : String(child));
    }
  }
}

/**
 * An HTML element.
 *
 * @param tag its name
 * @param attributes text, numbers; `true` sets an empty attribute, `false`, `null` leave it out; functions listen
 *   (`onclick`)
 * @param children nodes, or data that becomes text
 */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  assign(element, attributes);
  fill(element, children);
  return element;
}

/** An SVG element, as `h`. */
export function svg<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): SVGElementTagNameMap[K] {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  assign(element, attributes);
  fill(element, children);
  return element;
}

/** Replace all that is in `element`. */
export function put(element: Element, ...children: Child[]): void {
  element.replaceChildren();
  fill(element, children);
}

/** The address of a page: `link("view", {he: "a.svs"})` is `#/view?he=a.svs`; absent values are left out. */
export function link(page: string, query: Record<string, string | number | string[] | null | undefined> = {}): string {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") words.append(name, String(one));
    }
  }
  const text = words.toString();
  return `#/${page}${text ? `?${text}` : ""}`;
}

/** A line that says what went wrong or what to do; screen readers read it out. */
export function banner(kind: "error" | "warning" | "info", ...children: Child[]): HTMLDivElement {
  const parts = children.flatMap((child) => (typeof child === "string" ? prose(child) : [child]));
  return h("div", { class: `banner ${kind}`, role: kind === "error" ? "alert" : "status" }, ...parts);
}

/** Text in which commands stand between backticks (file names may hold those, too). */
export function prose(text: string): Child[] {
  return text.split(/`(restain [^`]*)`/).map((part, place) => (place % 2 === 1 ? h("code", {}, part) : part));
}

/** The last part of a path. */
export function fileName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** Whether a key belongs to what has the focus (text fields, lists), and not to the page. */
export function typing(event: KeyboardEvent): boolean {
  const target = event.target;
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return !["checkbox", "radio", "button"].includes(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement || target.isContentEditable;
}

/** Copy text; true where it worked (the clipboard is closed to pages that are not on loopback or HTTPS). */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { class: "visually-hidden", "aria-hidden": "true" });
    area.value = text;
    const before = document.activeElement;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (before instanceof HTMLElement) before.focus();
    return done;
  }
}
