/** Panes that move together: whoever the user moves leads, the others are placed through the map between them. */

import { follow, type Place, type Point, type Pose } from "./pose";
import type { Pane } from "./pane";

/** The map from one pane's grid to another's; null: they have nothing to do with each other. */
export type Between = (from: Pane, to: Pane) => Place | null;

export class Lock {
  /** Off: every pane for itself. */
  on = true;
  /** Called when any pane has moved. */
  onChange: () => void = () => undefined;
  leader: Pane;

  constructor(
    readonly panes: Pane[],
    private readonly between: Between,
  ) {
    const [first] = panes;
    if (first === undefined) throw new Error("no pane");
    this.leader = first;
    for (const pane of panes) {
      pane.onUser = () => this.lead(pane);
      pane.onMove = () => this.moved(pane);
      pane.element.addEventListener("pointermove", (event) => this.point(pane, pane.under(event)));
      pane.element.addEventListener("pointerleave", () => this.point(pane, null));
    }
  }

  /** From now on the others follow this pane. */
  lead(pane: Pane): void {
    if (this.leader === pane) return;
    this.leader = pane;
    for (const other of this.panes) {
      other.element.classList.toggle("leads", other === pane);
      if (other !== pane && this.on) other.show(other.pose()); // ends a movement of its own
    }
    this.align();
  }

  /** Place all others by the leader. */
  align(): void {
    if (this.on) {
      for (const pane of this.panes) {
        const pose = pane === this.leader ? null : this.through(this.leader, pane, this.leader.pose());
        if (pose !== null) pane.show(pose);
      }
    }
    this.onChange();
  }

  /** A pose of one pane as another's; null: no map leads there. */
  through(from: Pane, to: Pane, pose: Pose): Pose | null {
    const map = this.between(from, to);
    return map === null ? null : follow(pose, map);
  }

  /** Whether a pane follows the leader. */
  follows(pane: Pane): boolean {
    return this.on && pane !== this.leader && this.between(this.leader, pane) !== null;
  }

  private moved(pane: Pane): void {
    if (pane === this.leader) this.align();
    else if (!this.follows(pane)) this.onChange();
  }

  private point(pane: Pane, at: Point | null): void {
    for (const other of this.panes) {
      const map = at === null || other === pane ? null : this.between(pane, other);
      if (other === pane) other.point(at, false);
      else other.point(map === null || at === null ? null : map(at), true);
    }
  }
}
