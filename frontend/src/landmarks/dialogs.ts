/** Save to a CSV in the folder, load one. */

import { ApiError, get, library, post, type PointPair, type Saved, wordsOf } from "../api";
import { banner, copyText, h, put } from "../dom";
import type { Model } from "./model";

interface Slides {
  he: string;
  ihc: string;
}

/** Ask for a name, save, say where and what to run. */
export function save(model: Model, slides: Slides, name: string): void {
  const field = h("input", { id: "save-name", value: name, required: true, maxlength: 100, "data-testid": "save-name" });
  const said = h("div", { class: "said" });
  const store = async (replace: boolean): Promise<void> => {
    const sent = { name: field.value.trim(), ...slides, points: model.complete, ...(replace ? { replace } : {}) };
    try {
      const saved = await post<Saved>("/api/landmarks/save", sent);
      model.keep();
      put(said, ...done(saved));
    } catch (error) {
      const message = wordsOf(error);
      const again = h("button", { type: "button", onclick: () => void store(true), "data-testid": "replace" }, "Replace it");
      const exists = error instanceof ApiError && error.status === 409;
      put(said, banner(exists ? "warning" : "error", message, " ", exists && again));
    }
  };
  const form = h(
    "form",
    {
      onsubmit: (event: Event) => {
        event.preventDefault();
        void store(false);
      },
    },
    h("label", { for: "save-name" }, "Name"),
    h("div", { class: "row" }, field, h("button", { class: "primary", "data-testid": "save-now" }, "Save")),
  );
  show("Save the pairs", `${model.complete.length} pairs as a CSV in the folder “landmarks”.`, form, said);
}

function done(saved: Saved): HTMLElement[] {
  const copy: HTMLButtonElement = h("button", { type: "button" }, "Copy");
  copy.addEventListener("click", () => {
    void copyText(saved.command).then((worked) => (copy.textContent = worked ? "Copied" : "Select and copy it"));
  });
  return [
    banner("info", "Saved as ", h("code", { "data-testid": "saved-path" }, saved.path)),
    h("p", {}, "Register with it:"),
    h("div", { class: "command" }, h("code", { "data-testid": "command" }, saved.command), copy),
  ];
}

/** Choose a CSV of the folder; its pairs take the place of those there are, which undo brings back. */
export function load(model: Model): void {
  const list = h("ul", { class: "choices" }, h("li", { class: "muted" }, "Looking through the folder…"));
  const dialog = show("Load pairs", "They take the place of the pairs on the page; undo brings those back.", list);
  const take = async (path: string): Promise<void> => {
    try {
      await read(model, path);
      dialog.close();
    } catch (error) {
      put(list, h("li", {}, banner("error", wordsOf(error))));
    }
  };
  library(true).then(
    ({ landmarks }) =>
      put(
        list,
        landmarks.length === 0 && h("li", { class: "muted" }, "The folder holds no CSV with the columns x_he, y_he, x_ihc, y_ihc."),
        ...landmarks.map(({ path }) => h("li", {}, h("button", { class: "quiet", onclick: () => void take(path) }, path))),
      ),
    (error: unknown) => put(list, h("li", {}, banner("error", wordsOf(error)))),
  );
}

/** The pairs of a CSV in the folder. */
export async function read(model: Model, path: string): Promise<void> {
  const { points } = await get<{ points: { x_he: number; y_he: number; x_ihc: number; y_ihc: number }[] }>("/api/landmarks", { path });
  model.replace(points.map((point): PointPair => [point.x_he, point.y_he, point.x_ihc, point.y_ihc]));
  model.keep();
}

/** Hand the CSV to the browser. */
export function download(model: Model, name: string): void {
  const address = URL.createObjectURL(new Blob([model.csv()], { type: "text/csv" }));
  h("a", { href: address, download: `${name}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

function show(title: string, what: string, ...content: HTMLElement[]): HTMLDialogElement {
  const dialog: HTMLDialogElement = h(
    "dialog",
    { "aria-labelledby": "dialog-title", onclose: () => dialog.remove() },
    h("h2", { id: "dialog-title" }, title),
    h("p", { class: "muted" }, what),
    ...content,
    h("form", { method: "dialog", class: "end" }, h("button", { "data-testid": "close-dialog" }, "Close")),
  );
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
