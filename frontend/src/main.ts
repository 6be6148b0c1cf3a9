/** Routes: one page at a time, loaded when it is first opened. */

import "./style.css";
import { wordsOf } from "./api";
import { banner, h, put } from "./dom";
import type { Leave, Page, Route } from "./page";

interface Entry {
  load: () => Promise<Page>;
  title: string;
  /** The page fills the window and scrolls by itself. */
  fills?: boolean;
  /** No navigation: readers of a study see nothing else. */
  alone?: boolean;
}

const PAGES: Record<string, Entry> = {
  "": { load: () => import("./home"), title: "Slides" },
  view: { load: () => import("./viewer/page"), title: "Viewer", fills: true },
  landmarks: { load: () => import("./landmarks/page"), title: "Landmarks", fills: true },
  runs: { load: () => import("./runs/page"), title: "Runs" },
  report: { load: () => import("./reports"), title: "Report", fills: true },
  read: { load: () => import("./reading/page"), title: "Reading room", fills: true, alone: true },
};
const NAVIGATION = ["", "view", "landmarks", "runs"];

/** `#/view?he=...` and the plain path `/read/ID`, which is all that a reading room serves. */
export function parse(place: Location): Route {
  const hash = place.hash.replace(/^#\/?/, "");
  const [path = "", query = ""] = hash.split(/\?(.*)/s);
  const [page = "", ...rest] = path.split("/");
  const room = /^\/read\/([^/]+)\/?$/.exec(place.pathname);
  if (room?.[1] !== undefined && page === "") {
    return { page: "read", rest: decode(room[1]), query: new URLSearchParams() };
  }
  return { page, rest: rest.map(decode).join("/"), query: new URLSearchParams(query) };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

const main = h("main", { id: "main", tabindex: -1 });
const navigation = h("nav", { "aria-label": "Pages" });
const header = h(
  "header",
  { class: "top" },
  h("a", { class: "skip", href: "#main", onclick: skip }, "Skip to content"),
  h("a", { class: "brand", href: "/#/" }, "restain"),
  h("span", { class: "brand", "aria-hidden": "true" }, "restain"), // a reading room serves no other page
  navigation,
);
let leave: Leave | void;
let turn = 0;

function skip(event: Event): void {
  event.preventDefault(); // the hash is the page's
  main.focus();
}

async function show(): Promise<void> {
  const mine = ++turn;
  const route = parse(location);
  const entry = Object.hasOwn(PAGES, route.page) ? PAGES[route.page] : undefined;
  leave?.();
  leave = undefined;
  document.body.classList.toggle("fills", entry?.fills ?? false);
  document.body.classList.toggle("alone", entry?.alone ?? false);
  document.body.dataset["page"] = route.page || "home";
  document.title = `${entry?.title ?? "Not found"} · restain`;
  put(
    navigation,
    ...NAVIGATION.map((name) =>
      h("a", { href: `/#/${name}`, "aria-current": name === route.page ? "page" : null }, PAGES[name]?.title),
    ),
  );
  put(main, h("p", { class: "loading muted", role: "status" }, "Loading…"));
  if (entry === undefined) {
    put(main, h("div", { class: "sheet" }, banner("error", `There is no page ${route.page}. `), h("a", { href: "/#/" }, "To the slides")));
    return;
  }
  try {
    const page = await entry.load();
    if (mine !== turn) return;
    main.replaceChildren();
    const left = await page.open(main, route);
    if (mine === turn) leave = left;
    else left?.();
  } catch (error) {
    if (mine !== turn) return;
    const message = wordsOf(error);
    put(main, h("div", { class: "sheet" }, banner("error", message), h("button", { onclick: () => location.reload() }, "Reload")));
  }
}

document.getElementById("app")?.append(header, main);
window.addEventListener("hashchange", () => void show());
void show();
