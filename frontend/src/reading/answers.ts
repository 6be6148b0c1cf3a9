/** What a reader says of an image, before and after it is sent. */

import type { Answer, Study } from "../api";

export type Origin = "real" | "generated";

/** What is chosen on the page; nothing of it is stored yet. */
export interface Draft {
  grade: string | null;
  unreadable: boolean;
  origin: Origin | null;
}

/** An answer on its way. It keeps its key through all retries: the server stores one key once. */
export interface Attempt {
  item: string;
  grade: string | null;
  readable: boolean;
  origin: Origin | null;
  /** Of the stored answer that this one replaces; 0: there was none. */
  revision: number;
  key: string;
}

export const EMPTY: Draft = { grade: null, unreadable: false, origin: null };

export function draftOf(answer: Pick<Answer, "grade" | "readable" | "origin">): Draft {
  return { grade: answer.grade, unreadable: !answer.readable, origin: answer.origin };
}

export function sameDraft(a: Draft, b: Draft): boolean {
  return a.grade === b.grade && a.unreadable === b.unreadable && a.origin === b.origin;
}

/** What is missing before the answer can be sent, for people; null: nothing. */
export function missing(draft: Draft, study: Study): string | null {
  if (draft.unreadable) return null;
  const grade = draft.grade === null;
  const origin = study.asks_origin && draft.origin === null;
  if (grade && origin) return "Choose a grade, and real or generated.";
  if (grade) return "Choose a grade first, or not readable.";
  return origin ? "Say whether it is real or generated." : null;
}

export function attemptOf(item: string, draft: Draft, revision: number): Attempt {
  return {
    item,
    grade: draft.unreadable ? null : draft.grade,
    readable: !draft.unreadable,
    origin: draft.origin,
    revision,
    key: freshKey(),
  };
}

/** In words: `2+, generated`. */
export function inWords(draft: Draft): string {
  const grade = draft.unreadable ? "not readable" : (draft.grade ?? "no grade");
  return draft.origin === null ? grade : `${grade}, ${draft.origin}`;
}

/** A random UUID; `crypto.randomUUID` exists on loopback and HTTPS only. */
function freshKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** The stored answer that a refusal (409) carries; null: it carries none. */
export function storedIn(body: unknown): Answer | null {
  if (typeof body !== "object" || body === null) return null;
  const inner = "answer" in body ? body.answer : "stored" in body ? body.stored : body;
  if (typeof inner !== "object" || inner === null || !("revision" in inner) || !("readable" in inner)) return null;
  const { revision, readable } = inner;
  if (typeof revision !== "number" || typeof readable !== "boolean") return null;
  const grade = "grade" in inner && typeof inner.grade === "string" ? inner.grade : null;
  const origin = "origin" in inner && (inner.origin === "real" || inner.origin === "generated") ? inner.origin : null;
  return { grade, readable, origin, revision };
}
