/**
 * What outlives a reload of the page: the session, and answers that no server has confirmed.
 *
 * In the tab's own storage: another tab is another reader's or has a session of its own. Where the browser forbids it,
 * the page still works; a reload then asks for the code again.
 */

import type { Attempt, Draft } from "./answers";

interface Kept {
  session: string | null;
  /** By item. An item belongs to one reader, so the next reader of this tab never sends them. */
  pending: Record<string, Attempt>;
  drafts: Record<string, Draft>;
  keys: boolean;
}

export class Memory {
  private readonly name: string;
  private kept: Kept = { session: null, pending: {}, drafts: {}, keys: true };

  constructor(study: string) {
    this.name = `restain.reading.${study}`;
    try {
      const text = sessionStorage.getItem(this.name);
      if (text !== null) this.kept = { ...this.kept, ...(JSON.parse(text) as Partial<Kept>) };
    } catch {
      // forbidden or damaged: as if there were nothing
    }
  }

  get session(): string | null {
    return this.kept.session;
  }

  set session(value: string | null) {
    this.kept.session = value;
    this.write();
  }

  /** Whether single keys answer; off for those who speak to the computer. */
  get keys(): boolean {
    return this.kept.keys;
  }

  set keys(value: boolean) {
    this.kept.keys = value;
    this.write();
  }

  /** An answer to one of `items` that was sent and never confirmed. */
  pendingOf(items: Iterable<string>): Attempt | null {
    for (const item of items) {
      const attempt = this.kept.pending[item];
      if (attempt !== undefined) return attempt;
    }
    return null;
  }

  get unsaved(): number {
    return Object.keys(this.kept.pending).length;
  }

  keep(attempt: Attempt): void {
    this.kept.pending[attempt.item] = attempt;
    this.write();
  }

  /** The server has it (then the draft goes too), or will not take it as it is. */
  settle(item: string, stored: boolean): void {
    delete this.kept.pending[item];
    if (stored) delete this.kept.drafts[item];
    this.write();
  }

  draft(item: string): Draft | null {
    return this.kept.drafts[item] ?? null;
  }

  sketch(item: string, draft: Draft | null): void {
    if (draft === null) delete this.kept.drafts[item];
    else this.kept.drafts[item] = draft;
    this.write();
  }

  /** The reader leaves; what is unsaved stays until the same reader logs in again. */
  leave(): void {
    this.kept.session = null;
    this.kept.drafts = {};
    this.write();
  }

  private write(): void {
    try {
      sessionStorage.setItem(this.name, JSON.stringify(this.kept));
    } catch {
      // forbidden or full: the page itself still holds it
    }
  }
}
