/** The H&E through the pairs' projective map, as a curtain over the IHC. */

import { type CaseView, type PointPair, post, type Preview } from "../api";
import { h, put } from "../dom";
import { Scene } from "../viewer/scene";
import { Stage } from "../viewer/stage";
import { readState } from "../viewer/state";

export interface Shown {
  stage: Stage;
  close(): void;
}

/**
 * Ask for the preview and show it in `host`.
 *
 * @param view the case of the two slides
 * @param closed called when the user closes it
 * @throws ApiError the pairs make no map
 */
export async function preview(host: HTMLElement, view: CaseView, points: PointPair[], closed: () => void): Promise<Shown> {
  const [he, ihc] = (["he", "ihc"] as const).map((role) => view.layers.find((layer) => layer.role === role)?.path ?? "");
  const made = await post<Preview>("/api/landmarks/preview", { he, ihc, points });
  const registration = { ...made.registration, path: made.via };
  const scene = new Scene({ ...view, registration, quality: null }, new Map());
  const state = { ...readState(new URLSearchParams({ mode: "curtain" })), left: 0, right: 1 };
  const close = (): void => {
    stage.destroy();
    host.replaceChildren();
    host.hidden = true;
    closed();
  };
  const body = h("div", { class: "middle" });
  put(
    host,
    h(
      "div",
      { class: "toolbar" },
      h("strong", {}, "Projective preview"),
      h("span", { class: "muted small" }, `The H&E, moved by ${points.length} pairs, over the IHC. Nothing is saved. ${gain(made)}`),
      h("span", { class: "grow" }),
      h("button", { onclick: close, "data-testid": "close-preview" }, "Back to the points"),
    ),
    body,
  );
  host.hidden = false;
  const nothing = (): void => undefined;
  const stage: Stage = new Stage(body, scene, state, { change: nothing, drawn: nothing, reload: nothing, rebuild: nothing, remove: nothing });
  return { stage, close };
}

function gain(made: Preview): string {
  const { mutual_information_before: before, mutual_information_after: after } = made;
  return typeof before === "number" && typeof after === "number"
    ? `Mutual information ${before.toFixed(3)} before, ${after.toFixed(3)} with them.`
    : "";
}
