/** Trainings: their curves and sample pictures, live, several beside each other. */

import "./runs.css";
import { library } from "../api";
import { banner, h, link, prose, put } from "../dom";
import type { Leave, Route } from "../page";
import { Chart, shortNumber, type Line, type Options } from "./chart";
import { runTable, statusBadge, taskName } from "./list";
import { LiveRun, Poller } from "./live";
import { look, swatch } from "./looks";
import { Samples } from "./samples";

/** Runs drawn at once. */
const MOST = 12;
/** Quantities drawn before more are asked for. */
const FIRST = 8;
/** Drawn only when asked for: they hide what is of interest. */
const ASIDE = new Set(["lr", "rate", "learning_rate", "seconds"]);

export async function open(root: HTMLElement, route: Route): Promise<Leave | void> {
  const paths = [...new Set(route.query.getAll("path"))];
  if (paths.length === 0) {
    await choose(root);
    return undefined;
  }
  const page = new RunsPage(root, paths.slice(0, MOST), paths.length);
  await page.begin();
  return () => page.leave();
}

async function choose(root: HTMLElement): Promise<void> {
  const { runs } = await library();
  root.append(
    h(
      "div",
      { class: "sheet" },
      h("h1", {}, "Runs"),
      runs.length === 0
        ? h("p", {}, ...prose("There is no run in the served folder. `restain train` and `restain her2 train` write some."))
        : runTable(runs),
    ),
  );
}

class RunsPage {
  private readonly runs: LiveRun[];
  private readonly poller: Poller;
  private readonly samples = new Samples();
  private readonly legend = h("tbody");
  private readonly problems = h("div");
  private readonly grid = h("div", { class: "charts" });
  private readonly picker = h("fieldset", { class: "picker" });
  private readonly clock: ReturnType<typeof setInterval>;
  private readonly options: Options = { smoothing: 0.6, log: false };
  private charts: Chart[] = [];
  /** Of each quantity: whether it is drawn. */
  private readonly picked = new Map<string, boolean>();
  private drawn = "";

  constructor(
    private readonly root: HTMLElement,
    private readonly paths: string[],
    private readonly asked: number,
  ) {
    this.runs = paths.map((path) => new LiveRun(path));
    this.poller = new Poller(this.runs, (news) => this.tell(news));
    this.clock = setInterval(() => this.describe(), 1000);
  }

  async begin(): Promise<void> {
    const others = h("select", { "aria-label": "Add a run", hidden: true });
    put(
      this.root,
      h(
        "div",
        { class: "sheet wide-sheet runs" },
        h("div", { class: "row" }, h("h1", { class: "grow" }, this.paths.length > 1 ? `${this.paths.length} runs` : "Run"), others),
        this.asked > MOST ? banner("warning", `${this.asked} runs were asked for; the first ${MOST} are shown.`) : null,
        h("div", { class: "wide", tabindex: 0, role: "group", "aria-label": "Runs shown" }, this.heads()),
        this.problems,
        this.controls(),
        this.picker,
        this.grid,
        this.samples.element,
      ),
    );
    await this.poller.round(true);
    void this.offer(others);
  }

  leave(): void {
    clearInterval(this.clock);
    this.poller.leave();
    for (const chart of this.charts) chart.leave();
  }

  private heads(): HTMLElement {
    const names = ["Line", "Run", "Method", "Task", "um/px", "Status", "Last row", ""];
    const cells = names.map((name) => (name ? h("th", { scope: "col" }, name) : h("td")));
    return h("table", { class: "legend" }, h("thead", {}, h("tr", {}, ...cells)), this.legend);
  }

  private controls(): HTMLElement {
    const weight = h("output", { class: "number", for: "smoothing" }, String(this.options.smoothing));
    const slider: HTMLInputElement = h("input", {
      id: "smoothing",
      type: "range",
      min: 0,
      max: 0.98,
      step: 0.02,
      value: this.options.smoothing,
      oninput: () => {
        this.options.smoothing = Number(slider.value);
        put(weight, this.options.smoothing === 0 ? "off" : this.options.smoothing.toFixed(2));
        this.redraw();
      },
    });
    const log: HTMLInputElement = h("input", {
      id: "log",
      type: "checkbox",
      onchange: () => {
        this.options.log = log.checked;
        this.redraw();
      },
    });
    return h(
      "div",
      { class: "row controls" },
      h("label", { for: "smoothing" }, "Smoothing"),
      slider,
      weight,
      h("span", { class: "row" }, log, h("label", { for: "log" }, "Logarithmic")),
      h("span", { class: "muted small" }, "Drag over a chart to look closer; double-click shows all."),
    );
  }

  private tell(news: boolean): void {
    if (news) {
      this.pick();
      this.draw();
      this.samples.update(
        this.runs.map((run, place) => ({ label: run.path, task: run.view?.task ?? "", look: look(place), samples: run.view?.samples ?? [] })),
      );
      put(
        this.problems,
        ...this.runs
          .filter((run) => run.problem !== null)
          .map((run) =>
            banner(run.lost ? "error" : "warning", `${trouble(run)} `, h("button", { onclick: () => void this.poller.round(true) }, "Try again")),
          ),
      );
    }
    this.describe(true);
  }

  /** The table of runs; the clock of those that run goes on by itself. */
  private describe(all = false): void {
    this.runs.forEach((run, place) => {
      const before = this.legend.children[place];
      if (before && !all) {
        const cell = before.querySelector(".last-row");
        if (cell) put(cell, lastRow(run));
        return;
      }
      if (before?.contains(document.activeElement)) return; // the focus is in it
      const { view } = run;
      const rest = this.paths.filter((path) => path !== run.path);
      const row = h(
        "tr",
        {},
        h("td", {}, swatch(look(place))),
        h("th", { scope: "row" }, run.path),
        h("td", {}, view?.method ?? ""),
        h("td", {}, view ? taskName(view.task) : ""),
        h("td", {}, view?.mpp ?? "–"),
        h("td", {}, run.lost ? h("span", { class: "badge bad" }, "not readable") : view ? statusBadge(view.status) : ""),
        h("td", { class: "last-row" }, lastRow(run)),
        h("td", {}, rest.length > 0 ? h("a", { href: link("runs", { path: rest }), "aria-label": `Take away ${run.path}` }, "Take away") : null),
      );
      if (before) before.replaceWith(row);
      else this.legend.append(row);
    });
  }

  /** Boxes for the quantities that the runs have. */
  private pick(): void {
    const names = [...new Set(this.runs.flatMap((run) => run.table.curves))];
    const fresh = names.filter((name) => !this.picked.has(name));
    if (fresh.length === 0) return;
    for (const name of fresh) {
      const many = [...this.picked.values()].filter(Boolean).length >= FIRST;
      this.picked.set(name, !many && !ASIDE.has(name));
    }
    put(
      this.picker,
      h("legend", {}, "Curves"),
      ...[...this.picked].map(([name, on], place) => {
        const box: HTMLInputElement = h("input", {
          id: `curve-${place}`,
          type: "checkbox",
          checked: on,
          onchange: () => {
            this.picked.set(name, box.checked);
            this.redraw();
          },
        });
        return h("span", { class: "row" }, box, h("label", { for: `curve-${place}` }, name));
      }),
    );
  }

  private redraw(): void {
    this.drawn = "";
    this.draw();
  }

  /** New charts where there are other lines than before; else only new data. */
  private draw(): void {
    const names = [...this.picked].filter(([, on]) => on).map(([name]) => name);
    const plans = names.map((name) => {
      const owners = this.runs.map((run, place) => ({ run, place })).filter(({ run }) => run.table.curves.includes(name));
      const abscissa = ["step", "epoch"].find((one) => owners.every(({ run }) => run.table.columns.includes(one))) ?? null;
      const lines = owners.map(({ run, place }): Line => ({ label: run.path, look: look(place), curve: run.table.curve(name, abscissa) }));
      return { name, abscissa: abscissa ?? "row", lines };
    });
    const shape = JSON.stringify(plans.map(({ name, abscissa, lines }) => [name, abscissa, lines.map(({ label }) => label)]));
    if (shape === this.drawn) {
      plans.forEach(({ lines }, place) => this.charts[place]?.update(lines));
      return;
    }
    this.drawn = shape;
    for (const chart of this.charts) chart.leave();
    const linked = (from: Chart, x: number | null): void => {
      for (const chart of this.charts) if (chart.abscissa === from.abscissa) chart.point(x);
    };
    this.charts = plans.map(({ name, abscissa, lines }) => new Chart(name, abscissa, lines, this.options, linked));
    put(
      this.grid,
      ...this.charts.map((chart) => chart.element),
      this.charts.length === 0 ? h("p", { class: "muted" }, this.picked.size === 0 ? "No numbers yet." : "No curve is ticked.") : null,
    );
  }

  private async offer(list: HTMLSelectElement): Promise<void> {
    const known = await library().catch(() => null);
    const others = known?.runs.filter(({ path }) => !this.paths.includes(path)) ?? [];
    if (others.length === 0 || this.paths.length >= MOST) return;
    list.hidden = false;
    put(list, h("option", { value: "" }, "Add a run…"), ...others.slice(0, 500).map(({ path, method }) => h("option", { value: path }, `${path} (${method})`)));
    list.addEventListener("change", () => {
      if (list.value) location.hash = link("runs", { path: [...this.paths, list.value] }).slice(1);
    });
  }
}

/** What is wrong with a run, with its name. */
function trouble(run: LiveRun): string {
  const said = run.problem ?? "";
  return said.includes(run.path) ? said : `${run.path}: ${said}`;
}

/** `step 1200, 4 s ago`. */
function lastRow(run: LiveRun): string {
  const { view, table } = run;
  if (view === null) return "";
  if (table.size === 0) return "no rows yet";
  const seconds = Math.max(0, Date.now() / 1000 - view.updated);
  const at = table.last === null ? `${table.size} rows` : `${table.abscissa} ${shortNumber(table.last)}`;
  return `${at}, ${ago(seconds)}`;
}

function ago(seconds: number): string {
  if (seconds < 60) return `${Math.round(seconds)} s ago`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86_400)} days ago`;
}
