/** Which two slides to mark. */

import { type Library, library, wordsOf } from "../api";
import { banner, h, link, put } from "../dom";

/** A list of the pairs of the folder, and two lists for any others. */
export async function choose(root: HTMLElement, he: string | null, ihc: string | null): Promise<void> {
  const sheet = h("div", { class: "sheet scrolls" }, h("h1", {}, "Landmarks"), h("p", { class: "muted", role: "status" }, "Looking through the folder…"));
  root.append(sheet);
  let found: Library;
  try {
    found = await library();
  } catch (error) {
    put(sheet, h("h1", {}, "Landmarks"), banner("error", wordsOf(error)));
    return;
  }
  const cases = found.cases.filter((one) => one.he !== null && one.ihc !== null);
  const rows = cases.map((one) =>
    h(
      "tr",
      {},
      h("td", {}, h("a", { href: link("landmarks", { he: one.he, ihc: one.ihc }) }, one.patient)),
      h("td", {}, one.registration_status === "ok" ? h("span", { class: "badge good" }, "registered") : one.registration_status === "rejected" ? h("span", { class: "badge bad" }, "rejected") : h("span", { class: "muted" }, "not registered")),
      h("td", { class: "small muted" }, `${one.he} · ${one.ihc}`),
    ),
  );
  const names = (label: string, id: string, value: string | null): [HTMLElement, HTMLSelectElement] => {
    const options = found.slides.map(({ path }) => h("option", { value: path }, path));
    const list = h("select", { id }, h("option", { value: "" }, "–"), ...options);
    list.value = value ?? "";
    return [h("p", {}, h("label", { for: id }, label), " ", list), list];
  };
  const [first, heList] = names("H&E", "choose-he", he);
  const [second, ihcList] = names("IHC", "choose-ihc", ihc);
  const open = (): void => {
    if (heList.value !== "" && ihcList.value !== "") location.hash = link("landmarks", { he: heList.value, ihc: ihcList.value });
  };
  put(
    sheet,
    h("h1", {}, "Landmarks"),
    h("p", {}, "Mark the same places on the H&E and the IHC of a patient. Four pairs or more align slides that restain could not align by itself."),
    rows.length > 0 && h("table", {}, h("thead", {}, h("tr", {}, ...["Patient", "Registration", "Slides"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, ...rows)),
    h("h2", {}, "Any two slides"),
    first,
    second,
    h("button", { class: "primary", onclick: open }, "Open"),
  );
}
