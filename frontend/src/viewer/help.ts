/** A dialog that lists the keys. */

import { h } from "../dom";

export type Keys = [keys: string[], what: string][];

/** Open it; Escape and the button close it. */
export function help(title: string, keys: Keys, ...more: HTMLElement[]): void {
  const list = keys.map(([words, what]) =>
    h("tr", {}, h("td", {}, ...words.flatMap((word, index) => [index ? " " : null, h("kbd", {}, word)])), h("td", {}, what)),
  );
  const dialog: HTMLDialogElement = h(
    "dialog",
    { class: "help", "aria-labelledby": "help-title", "data-testid": "help", onclose: () => dialog.remove() },
    h("h2", { id: "help-title" }, title),
    h("table", {}, h("tbody", {}, ...list)),
    ...more,
    h("form", { method: "dialog" }, h("button", { class: "primary" }, "Close")),
  );
  document.body.append(dialog);
  dialog.showModal();
}
