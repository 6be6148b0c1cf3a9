/** Runs to choose from: one, or several beside each other. */

import "./list.css";
import type { Library } from "../api";
import { h, link, put } from "../dom";

export type Run = Library["runs"][number];

/** Rows made at once. */
const PORTION = 100;

/** A table of runs with boxes; the button opens the ticked ones. */
export function runTable(runs: Run[]): HTMLElement {
  const chosen = new Set<string>();
  const compare = h("a", { class: "button", role: "link" });
  const body = h("tbody");
  const update = (): void => {
    const paths = runs.map(({ path }) => path).filter((path) => chosen.has(path));
    put(compare, paths.length > 1 ? `Compare ${paths.length} runs` : "Tick two or more runs to compare them");
    if (paths.length > 1) compare.setAttribute("href", link("runs", { path: paths }));
    else compare.removeAttribute("href");
    compare.setAttribute("aria-disabled", String(paths.length < 2));
  };
  const row = (run: Run): HTMLElement => {
    const box: HTMLInputElement = h("input", {
      type: "checkbox",
      "aria-label": `Compare ${run.path}`,
      onchange: () => {
        if (box.checked) chosen.add(run.path);
        else chosen.delete(run.path);
        update();
      },
    });
    return h(
      "tr",
      {},
      h("td", { class: "tick" }, box),
      h("th", { scope: "row" }, h("a", { href: link("runs", { path: run.path }) }, run.path)),
      h("td", {}, run.method),
      h("td", {}, taskName(run.task)),
      h("td", {}, statusBadge(run.status)),
    );
  };
  let made = 0;
  const more = h("button", { onclick: () => extend() }, "Show more");
  function extend(): void {
    body.append(...runs.slice(made, made + PORTION).map(row));
    made += PORTION;
    more.hidden = made >= runs.length;
  }
  extend();
  update();
  return h(
    "div",
    { class: "run-list" },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("td", { class: "tick" }),
          ...["Run", "Method", "Task", "Status"].map((name) => h("th", { scope: "col" }, name)),
        ),
      ),
      body,
    ),
    h("div", { class: "row run-acts" }, runs.length > 1 ? compare : null, more),
  );
}

export function taskName(task: string): string {
  return { stain: "virtual staining", her2: "HER2 status" }[task] ?? task;
}

export function statusBadge(status: string): HTMLElement {
  return h("span", { class: status === "done" ? "badge good" : status === "running" ? "badge warn" : "badge" }, status);
}
