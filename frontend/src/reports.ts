/** Reports that restain wrote, each in a frame of its own that runs no scripts and loads nothing. */

import "./reports.css";
import { address, library, refusal } from "./api";
import { banner, fileName, h, link, prose } from "./dom";
import type { Route } from "./page";

const GONE = "The server does not answer. Is `restain serve` still running?";

export async function open(root: HTMLElement, route: Route): Promise<void> {
  const path = route.query.get("path");
  if (path === null) await all(root);
  else await one(root, path);
}

async function all(root: HTMLElement): Promise<void> {
  const { reports } = await library();
  root.append(
    h(
      "div",
      { class: "sheet" },
      h("h1", {}, "Reports"),
      reports.length === 0 ? h("p", {}, ...prose("There is no report.html in the served folder. `restain evaluate` and `restain demo` write some.")) : null,
      h(
        "ul",
        {},
        ...reports.map((report) =>
          h("li", {}, h("a", { href: link("report", { path: report.path }) }, report.title || report.path), " ", h("span", { class: "muted" }, report.path)),
        ),
      ),
    ),
  );
}

async function one(root: HTMLElement, path: string): Promise<void> {
  const source = address("/api/report", { path });
  // A frame cannot say why it stays empty: ask first.
  const [answer, known] = await Promise.all([
    fetch(source, { method: "GET", headers: { Accept: "text/html" } }).catch(() => null),
    library().catch(() => null),
  ]);
  const reports = known?.reports ?? [];
  const title = reports.find((report) => report.path === path)?.title || fileName(path);
  document.title = `${title} · restain`;
  const bar = h(
    "div",
    { class: "report-bar" },
    h("h1", {}, title),
    h("span", { class: "muted grow" }, path),
    reports.length > 1 ? h("a", { href: link("report") }, "All reports") : null,
    h("a", { href: source, target: "_blank", rel: "noopener" }, "Open alone"),
  );
  root.append(bar);
  if (answer === null || !answer.ok) {
    root.append(h("div", { class: "sheet" }, banner("error", answer === null ? GONE : await refusal(answer))));
    return;
  }
  void answer.body?.cancel();
  root.append(h("iframe", { class: "report", sandbox: "", title: `Report: ${title}`, src: source, referrerpolicy: "no-referrer" }));
}
