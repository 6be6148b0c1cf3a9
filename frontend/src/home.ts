/** What lies in the served folder, and where to go from there. */

import "./home.css";
import { library, type Case, type Library, wordsOf } from "./api";
import { banner, copyText, fileName, h, link, prose, put } from "./dom";
import { runTable } from "./runs/list";

/** Rows of a list that are made at once. */
const PORTION = 50;

export async function open(root: HTMLElement): Promise<void> {
  const show = (found: Library): void => {
    const refresh = h("button", { onclick: () => void again() }, "Look again");
    const again = async (): Promise<void> => {
      refresh.disabled = true;
      try {
        show(await library(true));
        root.querySelector<HTMLElement>("h1")?.focus();
      } catch (error) {
        refresh.disabled = false;
        refresh.before(banner("error", wordsOf(error)));
      }
    };
    const parts = [cases(found), studies(found), slides(found), runs(found), reports(found), landmarks(found)];
    put(
      root,
      h(
        "div",
        { class: "sheet home" },
        h("div", { class: "row" }, h("h1", { class: "grow", tabindex: -1 }, found.name), refresh),
        notes(found),
        parts.every((part) => part === null) ? expected() : contents(parts.filter((part) => part !== null)),
        ...parts,
        h("p", { class: "muted small foot" }, `restain ${found.version} · research use only`),
      ),
    );
  };
  show(await library());
}

/** Jumps to the parts of the page; the address stays that of the page. */
function contents(parts: HTMLElement[]): HTMLElement | null {
  if (parts.length < 2) return null;
  const jump = (part: HTMLElement): void => {
    const title = part.querySelector("h2");
    title?.scrollIntoView();
    title?.focus({ preventScroll: true });
  };
  return h(
    "div",
    { class: "row contents", role: "group", "aria-label": "Go to" },
    ...parts.map((part) => h("button", { onclick: () => jump(part) }, `${part.getAttribute("aria-label")} `, h("span", { class: "muted" }, part.dataset["count"]))),
  );
}

/** What could not be read on the way through the folder. */
function notes(found: Library): HTMLElement | null {
  const lines = [...found.problems];
  if (found.truncated) lines.unshift("The folder holds more than is listed here. Serve a smaller folder to see all of it.");
  if (lines.length === 0) return null;
  const [first, ...more] = lines;
  return banner(
    "warning",
    h("span", {}, first),
    more.length === 0
      ? null
      : h(
          "details",
          {},
          h("summary", {}, `${more.length} more`),
          h("ul", {}, ...more.slice(0, 200).map((line) => h("li", {}, line))),
        ),
  );
}

function expected(): HTMLElement {
  const rows: [string, string][] = [
    ["Slides", "whatever OpenSlide reads, OME-TIFF, TIFF, PNG, JPEG; an H&E and its IHC stand together when a cohort.csv (patient, he, ihc) names them"],
    ["Registrations", "folders that `restain register` wrote (transform.json): they lock the views together"],
    ["Virtual IHC", "slides that `restain stain` wrote"],
    ["Overlays", "cells.csv of `restain her2 score`, attention of `restain her2 predict`, pairs.csv of `restain pairs`, GeoJSON"],
    ["Runs", "folders of `restain train` and `restain her2 train`"],
    ["Reports", "report.html of `restain evaluate`, `restain demo` and others"],
    ["Studies", "folders of `restain study new`"],
  ];
  return h(
    "section",
    { class: "card" },
    h("h2", {}, "There is nothing to show in this folder"),
    h("p", {}, "restain serve looks through the folder it is given, and all folders in it, for:"),
    h("dl", { class: "expected" }, ...rows.flatMap(([name, what]) => [h("dt", {}, name), h("dd", {}, ...prose(what))])),
    h("p", {}, "To have something to look at: ", h("code", {}, "restain demo --out demo"), ", then ", h("code", {}, "restain serve demo"), "."),
  );
}

// --- cases ---

function cases(found: Library): HTMLElement | null {
  return found.cases.length === 0 ? null : caseTable(found.cases);
}

function caseTable(cases: Case[]): HTMLElement {
  const body = h("tbody");
  const count = h("span", { class: "muted", role: "status" });
  const more = h("button", { onclick: () => extend() });
  const words = h("input", { type: "search", "aria-label": "Filter cases", placeholder: "Filter: patient, level, lab, file", oninput: () => filter() });
  const has = h(
    "select",
    { "aria-label": "What is there", onchange: () => filter() },
    ...[
      ["", "all cases"],
      ["pair", "H&E and IHC"],
      ["registered", "registered"],
      ["unregistered", "H&E and IHC, not registered"],
      ["virtual", "with virtual IHC"],
    ].map(([value, label]) => h("option", { value }, label)),
  );
  const level = choices("Level", cases.map((one) => one.level));
  const lab = choices("Lab", cases.map((one) => one.lab));
  for (const list of [level, lab]) list?.addEventListener("change", () => filter());
  const texts = new Map(cases.map((one) => [one, searchable(one)]));
  let shown: Case[] = cases;
  let made = 0;

  function extend(): void {
    body.append(...shown.slice(made, made + PORTION).map(caseRow));
    made = Math.min(shown.length, made + PORTION);
    more.hidden = made >= shown.length;
    put(more, `Show more (${shown.length - made} are left)`);
  }
  function filter(): void {
    const asked = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    shown = cases.filter(
      (one) =>
        asked.every((word) => texts.get(one)?.includes(word)) &&
        holds(one, has.value) &&
        (!level?.value || one.level === level.value) &&
        (!lab?.value || one.lab === lab.value),
    );
    made = 0;
    body.replaceChildren();
    extend();
    put(count, shown.length === cases.length ? `${cases.length} cases` : `${shown.length} of ${cases.length} cases`);
  }
  filter();
  const anyLab = cases.some((one) => one.lab !== null);
  return section(
    "Cases",
    cases.length,
    h("div", { class: "row filters" }, words, has, level, lab, count),
    h(
      "div",
      { class: "wide" },
      h(
        "table",
        { class: anyLab ? "cases" : "cases no-lab" },
        h(
          "thead",
          {},
          h("tr", {}, ...["Patient", "Level", "Lab", "H&E, um/px", "IHC, um/px", "Registered", "Virtual IHC", "Open"].map((name) => h("th", { scope: "col" }, name))),
        ),
        body,
      ),
    ),
    more,
  );
}

function choices(name: string, values: (string | null)[]): HTMLSelectElement | null {
  const found = [...new Set(values.filter((value) => value !== null))].sort();
  if (found.length < 2 || found.length > 50) return null;
  return h(
    "select",
    { "aria-label": name },
    h("option", { value: "" }, `${name}: all`),
    ...found.map((value) => h("option", { value }, value)),
  );
}

function searchable(one: Case): string {
  const { patient, level, lab, he, ihc, virtual } = one;
  return [patient, level, lab, he, ihc, ...virtual.map(({ path }) => path)].join("\n").toLowerCase();
}

function holds(one: Case, what: string): boolean {
  const pair = one.he !== null && one.ihc !== null;
  if (what === "pair") return pair;
  if (what === "registered") return one.registration_status === "ok";
  if (what === "unregistered") return pair && one.registration_status !== "ok";
  return what === "virtual" ? one.virtual.length > 0 : true;
}

function caseRow(one: Case): HTMLElement {
  const { he, ihc, registration, virtual } = one;
  const view = { he, ihc, virtual: virtual.map(({ path }) => path), registration };
  const both = he !== null && ihc !== null;
  return h(
    "tr",
    {},
    h("th", { scope: "row", title: `from ${one.from}` }, one.patient),
    h("td", {}, one.level ?? ""),
    h("td", { class: "lab" }, one.lab ?? ""),
    slideCell(he, one.he_mpp),
    slideCell(ihc, one.ihc_mpp),
    h("td", {}, registered(one)),
    h("td", {}, ...virtual.slice(0, 3).map(({ path, label }) => h("span", { class: "badge", title: path }, label)), virtual.length > 3 ? ` and ${virtual.length - 3} more` : null),
    h(
      "td",
      { class: "acts" },
      he === null && ihc === null && virtual.length === 0
        ? null
        : h("a", { class: "button", href: link("view", view), "aria-label": `View ${one.patient}` }, "View"),
      both ? h("a", { class: "button", href: link("landmarks", { he, ihc }), "aria-label": `Landmarks of ${one.patient}` }, "Landmarks") : null,
    ),
  );
}

function slideCell(path: string | null, mpp: number | null): HTMLElement {
  if (path === null) return h("td", { class: "muted" }, h("span", { "aria-label": "none" }, "–"));
  return h("td", { title: path }, mpp === null ? "unknown" : Number(mpp.toPrecision(4)));
}

function registered(one: Case): HTMLElement {
  if (one.registration_status === "ok") return h("span", { class: "badge good" }, "registered");
  if (one.registration_status === "rejected") return h("span", { class: "badge bad", title: "its quality was too low; mark landmarks" }, "rejected");
  if (one.registration !== null) return h("span", { class: "badge" }, "unchecked");
  return h("span", { class: "muted", "aria-label": "none" }, "–");
}

// --- the rest ---

function section(title: string, count: number, ...children: (HTMLElement | null)[]): HTMLElement {
  return h("section", { "aria-label": title, "data-count": count }, h("h2", { tabindex: -1 }, title), ...children);
}

/** A list that begins short. */
function list(items: HTMLElement[], portion = PORTION): HTMLElement {
  const shown = h("ul", { class: "plain" }, ...items.slice(0, portion));
  if (items.length <= portion) return shown;
  const more = h(
    "button",
    {
      onclick: () => {
        shown.append(...items.slice(portion));
        more.remove();
      },
    },
    `Show all ${items.length}`,
  ) as HTMLButtonElement;
  return h("div", {}, shown, more);
}

/** Slides that no case has. */
function slides(found: Library): HTMLElement | null {
  const taken = new Set(found.cases.flatMap((one) => [one.he, one.ihc, one.registered_he, ...one.virtual.map(({ path }) => path)]));
  const loose = found.slides.filter(({ path }) => !taken.has(path));
  if (loose.length === 0) return null;
  return section(
    found.cases.length > 0 ? "Other slides" : "Slides",
    loose.length,
    list(
      loose.map(({ path, bytes }) =>
        h("li", {}, h("a", { href: link("view", { [roleOf(path)]: path }) }, path), h("span", { class: "muted" }, size(bytes))),
      ),
    ),
  );
}

/** A guess, by the name: what a slide by itself is called in the viewer. */
function roleOf(path: string): "he" | "ihc" {
  return /(^|[^a-z])(ihc|her2|dab)([^a-z]|$)/i.test(fileName(path)) ? "ihc" : "he";
}

function runs(found: Library): HTMLElement | null {
  return found.runs.length === 0 ? null : section("Runs", found.runs.length, runTable(found.runs));
}

function reports(found: Library): HTMLElement | null {
  if (found.reports.length === 0) return null;
  return section(
    "Reports",
    found.reports.length,
    list(
      found.reports.map(({ path, title }) =>
        h("li", {}, h("a", { href: link("report", { path }) }, title || path), h("span", { class: "muted" }, path)),
      ),
    ),
  );
}

function studies(found: Library): HTMLElement | null {
  if (found.studies.length === 0) return null;
  return section(
    "Reading studies",
    found.studies.length,
    h("p", { class: "muted" }, "Give readers the address and their code; nothing else of this folder opens with it."),
    list(
      found.studies.map(({ id, title }) => {
        const address = `${location.origin}/read/${encodeURIComponent(id)}`;
        const copy: HTMLButtonElement = h(
          "button",
          {
            "aria-label": `Copy the address of ${title}`,
            onclick: async () => put(copy, (await copyText(address)) ? "Copied" : "Not copied: mark it and copy"),
          },
          "Copy",
        );
        return h("li", {}, h("span", {}, title), h("a", { href: address, class: "mono" }, address), copy);
      }),
    ),
  );
}

function landmarks(found: Library): HTMLElement | null {
  if (found.landmarks.length === 0) return null;
  return section("Landmarks", found.landmarks.length, list(found.landmarks.map(({ path }) => h("li", {}, path)), 10));
}

function size(bytes: number): string {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  const value = bytes / 1000 ** power;
  return `${value < 10 && power > 0 ? value.toFixed(1) : Math.round(value)} ${units[power] ?? ""}`;
}
