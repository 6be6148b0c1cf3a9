/** The server's answers, typed, and how to ask for them. Paths are relative to the served folder. */

export interface SlideInfo {
  path: string;
  name: string;
  /** Of this state of the file; tiles are asked for with it. */
  stamp: string;
  /** Level-0 px. */
  size: [number, number];
  /** um/px; null: unknown. */
  mpp: number | null;
  reader: string;
  levels: [number, number][];
  tile: number;
  max_z: number;
  coarsest_z: number;
  problem: string | null;
}

export interface Overlay {
  kind: string;
  label: string;
  source: string | null;
  source_frame: "own" | "he" | "ihc";
  /** Coarsest z that is drawn; null: all are. */
  coarsest_z: number | null;
  legend: { label: string; color: string }[];
  note: string;
  /** Of the files behind it, asked for as `s`; empty: they cannot be shown, and `note` says why. */
  stamp: string;
}

export interface Case {
  patient: string;
  level: string | null;
  lab: string | null;
  he: string | null;
  ihc: string | null;
  he_mpp: number | null;
  ihc_mpp: number | null;
  registration: string | null;
  registration_status: "ok" | "rejected" | null;
  registered_he: string | null;
  virtual: { path: string; label: string }[];
  from: string;
}

export interface Library {
  name: string;
  version: string;
  truncated: boolean;
  cases: Case[];
  slides: { path: string; name: string; bytes: number }[];
  runs: { path: string; task: string; method: string; status: string }[];
  reports: { path: string; title: string }[];
  studies: { id: string; title: string; path: string }[];
  landmarks: { path: string }[];
  problems: string[];
}

export type Role = "he" | "ihc" | "virtual";
export type Frame = "he" | "ihc";

export interface Layer {
  role: Role;
  label: string;
  path: string;
  /** On whose pixels it lies; null: unknown. */
  frame: Frame | null;
  slide: SlideInfo | null;
  error: string | null;
}

export interface Field {
  columns: number;
  rows: number;
  /** Node (0, 0), IHC px. */
  origin: [number, number];
  /** Distance of nodes, IHC px. */
  spacing: [number, number];
  /** Little-endian float32 (dx, dy), row by row, IHC px. */
  data: string;
}

export interface Registration {
  path: string;
  /** Of this state of the file; empty: it never changes (a preview). */
  stamp: string;
  he_size: [number, number];
  ihc_size: [number, number];
  he_mpp: number | null;
  ihc_mpp: number | null;
  /** Homography, IHC px to H&E px. */
  matrix: number[][];
  field: Field | null;
}

export interface Quality {
  status: string | null;
  reason: string | null;
  stage: string | null;
  confidence: number | null;
  mutual_information_before: number | null;
  mutual_information_after: number | null;
}

export interface CaseView {
  patient?: string | null;
  layers: Layer[];
  registration: Registration | null;
  /** Why the registration asked for is not used. */
  registration_problem?: string | null;
  quality: Quality | null;
}

/** x_he, y_he, x_ihc, y_ihc in level-0 px. */
export type PointPair = [number, number, number, number];

export interface Fit {
  residuals_um: (number | null)[];
  used: boolean[];
  rms_um: number | null;
  similarity_residuals_um: (number | null)[];
  absurd: string | null;
  error: string | null;
  scale: number;
  rotation_degrees: number;
  mirrored: boolean;
  /** Homography, IHC px to H&E px; null: there is none yet. */
  matrix: number[][] | null;
}

export interface Saved {
  path: string;
  command: string;
}

export interface Preview {
  via: string;
  registration: Registration;
  mutual_information_before?: number | null;
  mutual_information_after?: number | null;
}

export interface RunView {
  path: string;
  task: string;
  method: string;
  status: string;
  mpp: number | null;
  /** Unix time. */
  updated: number;
  columns: string[];
  rows: (number | string | null)[][];
  thinned?: boolean;
  samples: { name: string; path: string; bytes: number }[];
}

export interface Study {
  title: string;
  levels: string[];
  asks_origin: boolean;
}

export interface ReadingState {
  answered: number;
  total: number;
  finished: boolean;
  items: { item: string; answered: boolean }[];
  current: string | null;
}

export interface Answer {
  grade: string | null;
  readable: boolean;
  origin: "real" | "generated" | null;
  revision: number;
}

export interface Confirmed {
  revision: number;
  answered: number;
  total: number;
  next: string | null;
  finished: boolean;
}

/** What the server said no with. */
export class ApiError extends Error {
  /**
   * @param status HTTP status; 0: no server answered
   * @param message for people
   * @param body the whole answer (409 of the reading room carries the stored answer)
   */
  constructor(
    readonly status: number,
    message: string,
    readonly body: unknown = null,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

export type Query = Record<string, string | number | string[] | null | undefined>;

/** The address of a part of the API; absent values are left out, lists are repeated. */
export function address(path: string, query: Query = {}): string {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined) words.append(name, String(one));
    }
  }
  const text = words.toString();
  return text ? `${path}?${text}` : path;
}

interface Options {
  method?: "GET" | "POST" | "PUT";
  query?: Query;
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/**
 * Ask the server for JSON.
 *
 * @throws ApiError it refused (its message), or no server answered (status 0); what `signal` aborted throws AbortError
 */
export async function ask<T>(path: string, options: Options = {}): Promise<T> {
  const { method = "GET", query = {}, body, headers = {}, signal } = options;
  const sent: RequestInit = { method, headers: { Accept: "application/json", ...headers } };
  if (signal) sent.signal = signal;
  if (body !== undefined) {
    sent.body = JSON.stringify(body);
    sent.headers = { ...sent.headers, "Content-Type": "application/json" };
  }
  let answer: Response;
  try {
    answer = await fetch(address(path, query), sent);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "The server does not answer. Is `restain serve` still running?");
  }
  const read: unknown = await answer.json().catch(() => null);
  if (!answer.ok) throw new ApiError(answer.status, messageOf(read, answer.status), read);
  return read as T;
}

/** Of something thrown, the words for people. */
export const wordsOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Why an answer that is no JSON otherwise (an image, a page) was refused. */
export async function refusal(answer: Response): Promise<string> {
  return messageOf(await answer.json().catch(() => null), answer.status);
}

function messageOf(body: unknown, status: number): string {
  if (typeof body === "object" && body !== null && "error" in body && typeof body.error === "string") return body.error;
  return `The server answered with status ${status}.`;
}

export const get = <T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> =>
  ask<T>(path, signal ? { query, signal } : { query });

export const post = <T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> =>
  ask<T>(path, signal ? { method: "POST", body, signal } : { method: "POST", body });

export const library = (refresh = false): Promise<Library> => get("/api/library", { refresh: refresh ? 1 : null });

export const caseView = (query: {
  he?: string | null;
  ihc?: string | null;
  virtual?: string[];
  registration?: string | null;
}): Promise<CaseView> => get("/api/case", query);
