/** The pages around the reading: code, instructions, end, failure. */

import { type Study, wordsOf } from "../api";
import { h, put } from "../dom";
import { instructions } from "./grades";

/** A page of the reading room that holds text. */
function sheet(title: string, ...children: (HTMLElement | null)[]): HTMLElement {
  return h("div", { class: "room-sheet" }, h("h1", { tabindex: -1 }, title), ...children);
}

/**
 * Asks for the code.
 *
 * @param note why it is asked for (again); null: the first time
 * @param enter tries a code; what it throws is shown
 */
export function loginScreen(study: Study, note: string | null, enter: (code: string) => Promise<void>): HTMLElement {
  const problem = h("p", { class: "note", role: "alert", id: "code-problem", hidden: true });
  const code = h("input", {
    id: "code",
    name: "code",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    maxlength: 200,
    required: true,
    "aria-describedby": "code-problem",
  });
  const button = h("button", { class: "primary", type: "submit" }, "Begin");
  let busy = false;
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    const text = code.value.trim();
    if (busy || text === "") return;
    busy = true;
    put(button, "Asking…");
    try {
      await enter(text);
    } catch (error) {
      problem.hidden = false;
      put(problem, wordsOf(error));
      code.setAttribute("aria-invalid", "true");
      code.select();
    } finally {
      busy = false;
      put(button, "Begin");
    }
  };
  return sheet(
    study.title,
    note === null ? null : h("p", { class: "note", role: "status" }, note),
    h(
      "form",
      { onsubmit: submit },
      h("label", { for: "code" }, "Your code"),
      h("div", { class: "row" }, code, button),
      problem,
      h("p", { class: "soft" }, "You were given it by those who run this study. It is yours alone."),
    ),
    h("p", { class: "soft small" }, "Research use only. Nothing here may be used for a patient's care."),
  );
}

/** What the reader is to do. */
export function startScreen(study: Study, answered: number, total: number, start: () => void): HTMLElement {
  const page = sheet(
    study.title,
    h("p", { class: "lead" }, answered === 0 ? `${total} images.` : `${answered} of ${total} images are answered.`),
    instructions(study),
    h("div", { class: "row last" }, h("button", { class: "primary", onclick: start }, answered === 0 ? "Start" : "Go on")),
  );
  page.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.repeat && !(event.target instanceof HTMLButtonElement)) start();
  });
  return page;
}

/** All is answered. */
export function endScreen(study: Study, total: number, review: () => void, leave: () => void): HTMLElement {
  return sheet(
    study.title,
    h("p", { class: "lead" }, `Done: all ${total} images are answered and stored. Thank you.`),
    h("p", {}, "You may close this page. Until the study is evaluated you may also look through your answers and change them."),
    h(
      "div",
      { class: "row last" },
      h("button", { class: "primary", onclick: leave }, "Log out"),
      h("button", { onclick: review }, "Look through my answers"),
    ),
  );
}

/** Nothing can be done on this page. */
export function failureScreen(message: string, retry: (() => void) | null): HTMLElement {
  return sheet(
    "Reading room",
    h("p", { class: "note", role: "alert" }, message),
    retry === null ? null : h("div", { class: "row last" }, h("button", { class: "primary", onclick: retry }, "Try again")),
  );
}
