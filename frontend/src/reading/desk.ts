/** The page on which is read: the image, and what is said of it. It shows what it is told and reports what is pressed. */

import type { Study } from "../api";
import { h, put } from "../dom";
import { inWords, type Draft, type Origin } from "./answers";
import { instructions, levelKeys, meaning } from "./grades";
import { Stage } from "./stage";

/** What the page is to show. */
export interface View {
  /** Place of the image among all, from 1. */
  place: number;
  total: number;
  answered: number;
  draft: Draft;
  /** Nothing is missing: it can be confirmed. */
  complete: boolean;
  /** The image can be seen. */
  seen: boolean;
  /** The answer is on its way. */
  sending: boolean;
  /** What keeps the answer, or the image, from going on; null: nothing. */
  problem: string | null;
  /** Something can be tried again at once. */
  retry: boolean;
  notice: string | null;
  /** It may be graded not readable, though it cannot be seen. */
  broken: boolean;
}

/** What a reader can do. */
export interface Actions {
  grade: (level: string) => void;
  unreadable: () => void;
  origin: (origin: Origin) => void;
  confirm: () => void;
  back: () => void;
  forward: () => void;
  retry: () => void;
  logout: () => void;
}

interface Choice {
  button: HTMLButtonElement;
  chosen: (draft: Draft) => boolean;
  blind: boolean;
}

export class Desk {
  readonly element: HTMLElement;
  readonly stage: Stage;
  readonly asksOrigin: boolean;
  readonly help: HTMLDialogElement;
  private readonly heading = h("h1", { tabindex: -1 });
  private readonly count = h("span", { class: "soft" });
  private readonly bar = h("progress", { "aria-label": "Answered" });
  private readonly said = h("div", { class: "visually-hidden", "aria-live": "polite", "data-testid": "said" });
  private readonly problem = h("div", { class: "note", role: "alert", hidden: true });
  private readonly notice = h("p", { class: "note", hidden: true });
  private readonly status = h("p", { class: "soft status" });
  private readonly veil = h("p", { class: "veil", hidden: true }, "Loading the image…");
  private readonly scale = h("span", { class: "soft number" });
  private readonly confirm: HTMLButtonElement;
  private readonly back: HTMLButtonElement;
  private readonly choices: Choice[] = [];

  constructor(private readonly study: Study, actions: Actions, keysOn: boolean, onKeys: (on: boolean) => void) {
    this.asksOrigin = study.asks_origin;
    const keys = levelKeys(study.levels);
    this.stage = new Stage((scale) => put(this.scale, `${Math.round(scale * 100)} %`));
    this.help = helpDialog(study, keysOn, onKeys);
    this.confirm = button("Confirm", "Enter", actions.confirm, "");
    this.back = button("Back", "←", actions.back, "");
    const grades = study.levels.map((level, place) => {
      const one = button(level, keys[place] ?? "", () => actions.grade(level), "grade");
      const text = meaning(level, study);
      if (text !== null) one.title = text;
      return this.choice(one, (draft) => draft.grade === level);
    });
    const unreadable = this.choice(button("Not readable", "u", actions.unreadable, "wide"), (draft) => draft.unreadable, true);
    const origins: [Origin, string, string][] = [
      ["real", "Real", "r"],
      ["generated", "Generated", "g"],
    ];
    const origin = origins.map(([value, label, key]) =>
      this.choice(button(label, key, () => actions.origin(value), ""), (draft) => draft.origin === value),
    );
    const panel = h(
      "section",
      { class: "panel", "aria-label": "Answer" },
      h("div", { class: "where" }, this.heading, this.count, this.bar),
      h("div", { role: "group", "aria-label": "Grade", class: "choices" }, ...grades, unreadable),
      study.asks_origin ? h("div", { role: "group", "aria-label": "Origin", class: "choices two" }, ...origin) : null,
      h("div", { class: "choices two" }, this.back, this.confirm),
      this.problem,
      this.notice,
      this.status,
      h(
        "div",
        { class: "foot" },
        h(
          "div",
          { class: "row", role: "group", "aria-label": "View" },
          small("−", "Farther", () => this.stage.zoom(-1)),
          small("+", "Closer", () => this.stage.zoom(1)),
          small("Fit", "Fit the whole image", () => this.stage.fit()),
          this.scale,
        ),
        h(
          "div",
          { class: "row" },
          small("Help", "Help and keys", () => this.openHelp()),
          small("Log out", "Log out", actions.logout),
        ),
        h("p", { class: "soft small" }, "Research use only"),
      ),
    );
    const again = h("button", { onclick: actions.retry }, "Try again now");
    this.problem.append(h("p"), again);
    this.element = h(
      "div",
      { class: "desk" },
      h("section", { class: "place", "aria-label": "Image" }, this.stage.element, this.veil),
      panel,
      this.said,
      this.help,
    );
    // A click leaves the focus where it was, so that Enter goes on meaning "confirm".
    panel.addEventListener("mousedown", (event) => event.preventDefault());
  }

  /** Show the state of things. */
  render(view: View): void {
    put(this.heading, `Image ${view.place}`, h("span", { class: "soft" }, ` of ${view.total}`));
    put(this.count, `${view.answered} answered`);
    this.bar.max = view.total;
    this.bar.value = view.answered;
    const free = !view.sending;
    for (const { button: one, chosen, blind } of this.choices) {
      one.setAttribute("aria-pressed", String(chosen(view.draft)));
      disable(one, !(free && (view.seen || (blind && view.broken))));
    }
    this.confirm.classList.toggle("primary", view.complete);
    disable(this.confirm, !free || !(view.seen || view.broken));
    disable(this.back, !free || view.place === 1);
    this.veil.hidden = view.seen || view.problem !== null || view.broken;
    this.element.setAttribute("aria-busy", String(view.sending || !(view.seen || view.broken)));
    show(this.problem, view.problem);
    const again = this.problem.lastElementChild;
    if (again instanceof HTMLElement) again.hidden = !view.retry;
    this.notice.hidden = view.notice === null;
    put(this.notice, view.notice);
    put(this.status, view.sending && view.problem === null ? "Storing…" : "");
  }

  /** The level that a key stands for. */
  levelOf(key: string): string | null {
    return this.study.levels[levelKeys(this.study.levels).indexOf(key)] ?? null;
  }

  /** Put the focus where screen readers begin. */
  focus(): void {
    this.heading.focus();
  }

  /** Read out to those who do not see the page change. */
  say(text: string): void {
    put(this.said, text);
  }

  sayDraft(draft: Draft, left: string | null): void {
    this.say(`${inWords(draft)}. ${left ?? "Enter confirms."}`);
  }

  /** Why Enter did nothing, to all. */
  hint(text: string): void {
    put(this.status, text);
    this.say(text);
  }

  openHelp(): void {
    if (this.help.open) return;
    this.help.showModal();
    this.help.querySelector("h2")?.focus(); // from the top, not from the first control at the end
  }

  leave(): void {
    this.help.close();
    this.stage.leave();
  }

  private choice(one: HTMLButtonElement, chosen: (draft: Draft) => boolean, blind = false): HTMLButtonElement {
    this.choices.push({ button: one, chosen, blind });
    return one;
  }
}

function button(label: string, key: string, act: () => void, kind: string): HTMLButtonElement {
  const one = h("button", { type: "button", class: kind }, h("span", {}, label), h("kbd", { "aria-hidden": "true" }, key));
  one.addEventListener("click", () => {
    if (one.getAttribute("aria-disabled") !== "true") act();
  });
  return one;
}

function small(text: string, label: string, act: () => void): HTMLButtonElement {
  return h("button", { type: "button", class: "small", "aria-label": label, title: label, onclick: act }, text);
}

/** As `disabled`, but the focus stays: the next image would else be begun from the top of the page. */
function disable(one: HTMLButtonElement, off: boolean): void {
  one.setAttribute("aria-disabled", String(off));
}

/** Text in the first paragraph of a note; written only when it changes, or it would be read out again and again. */
function show(note: HTMLElement, text: string | null): void {
  note.hidden = text === null;
  const line = note.firstElementChild;
  if (line !== null && line.textContent !== (text ?? "")) line.textContent = text ?? "";
}

function helpDialog(study: Study, keysOn: boolean, onKeys: (on: boolean) => void): HTMLDialogElement {
  const box: HTMLInputElement = h("input", {
    type: "checkbox",
    id: "single-keys",
    checked: keysOn,
    onchange: () => onKeys(box.checked),
  });
  const dialog: HTMLDialogElement = h(
    "dialog",
    { class: "room-help", "aria-labelledby": "help-title" },
    h("h2", { id: "help-title", tabindex: -1 }, "Help"),
    instructions(study),
    h("p", { class: "row" }, box, h("label", { for: "single-keys" }, "Single keys answer (off: use Tab and Enter, or the mouse)")),
    h("div", { class: "row last" }, h("button", { class: "primary", onclick: () => dialog.close() }, "Close")),
  );
  return dialog;
}
