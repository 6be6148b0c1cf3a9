/**
 * The reading room of one study.
 *
 * An answer is stored by the server before the next image shows. Until the server has said so, it stays on the page and
 * in the tab's storage and is sent again, with the same key, so that it is neither lost nor stored twice.
 */

import "./reading.css";
import { ApiError, type Confirmed, type ReadingState, type Study, wordsOf } from "../api";
import { put } from "../dom";
import type { Leave, Route } from "../page";
import {
  EMPTY,
  attemptOf,
  draftOf,
  inWords,
  missing,
  sameDraft,
  storedIn,
  type Attempt,
  type Draft,
} from "./answers";
import { Desk, type Actions } from "./desk";
import { listenToKeys } from "./keys";
import { Memory } from "./memory";
import { Patience, passingForImage } from "./patience";
import { Pictures } from "./pictures";
import { endScreen, failureScreen, loginScreen, startScreen } from "./screens";
import { LoggedOut, StudyServer } from "./server";

export function open(root: HTMLElement, route: Route): Leave {
  const room = new ReadingRoom(root, route.rest);
  void room.begin();
  return () => room.leave();
}

class ReadingRoom {
  private readonly memory: Memory;
  private readonly server: StudyServer;
  private readonly pictures: Pictures;
  private patience = new Patience((error) => this.waiting(error));
  private study: Study = { title: "Reading room", levels: [], asks_origin: false };
  private state: ReadingState = { answered: 0, total: 0, finished: false, items: [], current: null };
  private readonly actions: Actions = {
    grade: (grade) => this.choose({ grade, unreadable: false }),
    unreadable: () => this.choose({ grade: null, unreadable: true }),
    origin: (origin) => this.choose({ origin }),
    confirm: () => this.confirm(),
    back: () => this.go(this.place() - 1),
    forward: () => this.forward(),
    retry: () => this.retry(),
    logout: () => this.logout(),
  };
  private readonly letGo: () => void;
  private desk: Desk | null = null;
  private item: string | null = null;
  private draft: Draft = EMPTY;
  /** What the server has of this image. */
  private stored: { draft: Draft; revision: number } | null = null;
  private seen = false;
  private broken = false;
  private sending = false;
  private problem: string | null = null;
  private notice: string | null = null;
  /** Counts the images shown: what is asked for an earlier one comes too late. */
  private turn = 0;

  constructor(
    private readonly root: HTMLElement,
    id: string,
  ) {
    this.memory = new Memory(id);
    this.server = new StudyServer(id, this.memory.session);
    this.pictures = new Pictures(this.server);
    this.letGo = listenToKeys(
      () => this.desk,
      () => this.memory.keys,
      this.actions,
    );
    window.addEventListener("beforeunload", this.unload);
  }

  /** Find the study, and the reader's place in it. */
  async begin(): Promise<void> {
    try {
      this.study = await this.patience.until(() => this.server.study());
      document.title = `${this.study.title} · reading room`;
      if (this.memory.session === null) this.login(null);
      else await this.resume(false);
    } catch (error) {
      this.failed(error);
    }
  }

  leave(): void {
    this.patience.stop();
    this.pictures.clear();
    this.desk?.leave();
    this.letGo();
    window.removeEventListener("beforeunload", this.unload);
  }

  // --- screens ---

  private screen(element: HTMLElement): void {
    this.desk?.leave();
    this.desk = null;
    put(this.root, element);
    const first = element.querySelector<HTMLElement>("input") ?? element.querySelector<HTMLElement>("h1");
    first?.focus();
  }

  private login(note: string | null): void {
    this.screen(
      loginScreen(this.study, note, async (code) => {
        await this.server.login(code);
        this.memory.session = this.server.session;
        await this.resume(true).catch((error: unknown) => this.failed(error));
      }),
    );
  }

  private failed(error: unknown): void {
    if (error instanceof LoggedOut) {
      this.loggedOut();
      return;
    }
    const message = wordsOf(error);
    this.screen(failureScreen(message, () => void this.begin()));
  }

  private loggedOut(): void {
    this.sending = false;
    this.memory.session = null;
    this.server.session = null;
    const kept = this.memory.unsaved > 0 ? " Your last answer is not stored yet; it is kept here and sent when you are in." : "";
    this.login(`You were logged out. Enter your code to go on.${kept}`);
  }

  private logout(): void {
    this.memory.leave();
    this.server.session = null;
    this.pictures.clear();
    this.item = null;
    this.login("You are logged out. All confirmed answers are stored.");
  }

  /** Where the reader stopped: the server knows; an answer that it does not know yet is sent first. */
  private async resume(told: boolean): Promise<void> {
    this.state = await this.patience.until(() => this.server.state());
    const pending = this.memory.pendingOf(this.state.items.map(({ item }) => item));
    if (pending !== null) {
      this.resend(pending);
      return;
    }
    if (this.state.finished || this.state.current === null) this.end();
    else if (told) this.screen(startScreen(this.study, this.state.answered, this.state.total, () => this.sit()));
    else this.sit();
  }

  /** Go to the first image without an answer. */
  private sit(): void {
    if (this.state.current === null) this.end();
    else void this.show(this.state.current);
  }

  private end(): void {
    this.item = null;
    const last = this.state.items.at(-1)?.item;
    this.screen(
      endScreen(this.study, this.state.total, () => (last === undefined ? undefined : void this.show(last)), () => this.logout()),
    );
  }

  // --- one image ---

  private async show(item: string, notice: string | null = null): Promise<void> {
    this.item = item;
    this.draft = this.memory.draft(item) ?? EMPTY;
    this.stored = null;
    this.notice = notice;
    this.seen = this.broken = this.sending = false;
    this.problem = null;
    this.takeDesk();
    this.desk?.stage.show(null);
    this.render();
    const turn = ++this.turn;
    const wanted = (): boolean => this.turn === turn && this.item === item;
    try {
      if (this.known(item)?.answered) await this.recall(item, wanted);
      const image = await this.patience.until(() => this.pictures.get(item), wanted, passingForImage);
      if (this.desk === null) return;
      this.seen = true;
      this.desk.stage.show(image, `Image ${this.place() + 1} of ${this.state.total}`);
      this.desk.say([notice, `Image ${this.place() + 1} of ${this.state.total}.`, this.stored && `Your answer: ${inWords(this.draft)}.`].filter(Boolean).join(" "));
      this.pictures.prepare(this.state.items[this.place() + 1]?.item ?? null);
    } catch (error) {
      if (error instanceof LoggedOut || !(error instanceof ApiError)) return this.failed(error);
      this.broken = true;
      this.problem = `This image cannot be shown: ${error.message} Tell those who run the study, or mark it as not readable (u).`;
    }
    this.render();
  }

  /** The reader's own answer to an image that was answered before. */
  private async recall(item: string, wanted: () => boolean): Promise<void> {
    const answer = await this.patience.until(() => this.server.answer(item), wanted);
    this.stored = { draft: draftOf(answer), revision: answer.revision };
    this.draft = this.memory.draft(item) ?? this.stored.draft;
  }

  private choose(change: Partial<Draft>): void {
    const blind = change.unreadable === true && this.broken;
    if (this.item === null || this.sending || !(this.seen || blind)) return;
    this.draft = { ...this.draft, ...change };
    this.memory.sketch(this.item, this.stored !== null && sameDraft(this.draft, this.stored.draft) ? null : this.draft);
    this.render();
    this.desk?.sayDraft(this.draft, missing(this.draft, this.study));
  }

  private confirm(): void {
    if (this.item === null || this.sending || !(this.seen || this.broken)) return;
    const left = missing(this.draft, this.study);
    if (left !== null) this.desk?.hint(left);
    else if (this.stored !== null && sameDraft(this.draft, this.stored.draft)) this.forward();
    else void this.send(attemptOf(this.item, this.draft, this.stored?.revision ?? 0));
  }

  /** Send an answer until the server has it. */
  private async send(attempt: Attempt): Promise<void> {
    this.memory.keep(attempt);
    this.sending = true;
    this.notice = this.problem = null;
    this.render();
    try {
      const reply = await this.patience.until(() => this.server.store(attempt));
      this.memory.settle(attempt.item, true);
      if (this.item === attempt.item) this.confirmed(attempt, reply);
    } catch (error) {
      if (this.item !== attempt.item) return; // logged out meanwhile: it is sent when the reader is back
      if (error instanceof LoggedOut || !(error instanceof ApiError)) return this.failed(error);
      const other = error.status === 409 ? storedIn(error.body) : null;
      this.memory.settle(attempt.item, other !== null);
      this.sending = false;
      if (other === null) {
        this.problem = `The answer was not taken: ${error.message}`;
        this.render();
      } else {
        await this.taken(attempt.item, { draft: draftOf(other), revision: other.revision });
      }
    }
  }

  private confirmed(attempt: Attempt, reply: Confirmed): void {
    const place = this.state.items.findIndex(({ item }) => item === attempt.item);
    const before = this.state.items[place];
    const again = before?.answered ?? false;
    if (before) before.answered = true;
    this.state = { ...this.state, answered: reply.answered, total: reply.total, finished: reply.finished, current: reply.next };
    const after = this.state.items[place + 1]?.item ?? null;
    const next = again ? after : reply.next; // who went back goes forward image by image
    if (next === null) this.end();
    else void this.show(next, again ? "Changed." : null);
  }

  /** Another tab was faster: show what it stored. */
  private async taken(item: string, stored: { draft: Draft; revision: number }): Promise<void> {
    try {
      this.state = await this.patience.until(() => this.server.state());
    } catch (error) {
      return this.failed(error);
    }
    if (this.item !== item) return;
    this.stored = stored;
    this.draft = stored.draft;
    this.notice = `This image was answered elsewhere (another tab?) with ${inWords(stored.draft)}. That answer is stored and shown here. Enter keeps it; or choose another and confirm.`;
    this.render();
    this.desk?.say(this.notice);
  }

  /** An answer from before a reload or a logout. */
  private resend(attempt: Attempt): void {
    this.item = attempt.item;
    this.draft = draftOf(attempt);
    this.stored = null;
    this.seen = this.broken = false;
    this.takeDesk();
    this.desk?.stage.show(null);
    this.desk?.say("An answer was not stored yet; it is sent now.");
    void this.pictures.get(attempt.item).then(
      (image) => {
        if (this.item !== attempt.item || this.desk === null) return;
        this.seen = true;
        this.desk.stage.show(image, `Image ${this.place() + 1} of ${this.state.total}`);
        this.render();
      },
      () => undefined,
    );
    void this.send(attempt);
  }

  // --- moving ---

  private forward(): void {
    if (this.stored === null) return;
    if (!sameDraft(this.draft, this.stored.draft)) this.desk?.hint("Confirm the change with Enter first.");
    else if (this.place() + 1 < this.state.items.length) this.go(this.place() + 1);
    else if (this.state.finished) this.end();
    else this.sit();
  }

  private go(place: number): void {
    const item = this.state.items[place]?.item;
    if (item !== undefined && !this.sending) void this.show(item);
  }

  private place(): number {
    return this.state.items.findIndex(({ item }) => item === this.item);
  }

  private known(item: string): { answered: boolean } | undefined {
    return this.state.items.find((one) => one.item === item);
  }

  // --- page ---

  private takeDesk(): void {
    if (this.desk !== null) return;
    this.desk = new Desk(
      this.study,
      this.actions,
      this.memory.keys,
      (on) => (this.memory.keys = on),
    );
    put(this.root, this.desk.element);
    this.desk.focus();
  }

  private render(): void {
    this.desk?.render({
      place: this.place() + 1,
      total: this.state.total,
      answered: this.state.answered,
      draft: this.draft,
      complete: missing(this.draft, this.study) === null,
      seen: this.seen,
      sending: this.sending,
      problem: this.problem,
      retry: this.problem !== null,
      notice: this.notice,
      broken: this.broken,
    });
  }

  /** The server is away or full, or back again. */
  private waiting(error: ApiError | null): void {
    if (error === null) {
      this.problem = null;
    } else if (this.sending) {
      this.problem = `Your answer is not stored yet. ${error.message} It is kept on this page and sent again by itself every few seconds.`;
    } else {
      this.problem = `${error.message} It is tried again by itself every few seconds.`;
    }
    if (this.desk !== null) this.render();
    else if (error !== null && this.root.textContent?.includes(error.message) !== true) {
      this.screen(failureScreen(this.problem ?? "", this.patience.now));
    }
  }

  private retry(): void {
    if (this.broken && this.item !== null && !this.sending) void this.show(this.item);
    else if (this.sending || !this.seen) this.patience.now();
    else this.confirm(); // it was refused
  }

  private readonly unload = (event: BeforeUnloadEvent): void => {
    if (this.memory.unsaved > 0) event.preventDefault();
  };
}
