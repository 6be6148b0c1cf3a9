/** The keys of the reading room: all of it can be done with them. */

import { typing } from "../dom";
import type { Actions, Desk } from "./desk";

/**
 * Listen to the keyboard.
 *
 * @param current the page that is shown; null: keys mean nothing
 * @param single whether single characters answer; off for those who speak to the computer
 * @param actions what they do
 * @returns stops listening
 */
export function listenToKeys(current: () => Desk | null, single: () => boolean, actions: Actions): () => void {
  const pressed = (event: KeyboardEvent): void => {
    const desk = current();
    if (desk === null || desk.help.open || event.ctrlKey || event.metaKey || event.altKey || typing(event)) return;
    const act = moving(event, desk, actions) ?? (single() ? character(event.key, desk, actions) : null);
    if (act === null) return;
    event.preventDefault();
    // A key that is held answers once; it moves and zooms on and on.
    if (!event.repeat || event.shiftKey || "+=-".includes(event.key)) act();
  };
  document.addEventListener("keydown", pressed);
  return () => document.removeEventListener("keydown", pressed);
}

function moving(event: KeyboardEvent, desk: Desk, actions: Actions): (() => void) | null {
  const { key, target } = event;
  if (key === "Enter") {
    // On a button Enter presses it, except where that is done already: then it confirms.
    const button = target instanceof HTMLButtonElement && target.getAttribute("aria-pressed") !== "true";
    return button ? null : actions.confirm;
  }
  if (event.shiftKey && key.startsWith("Arrow")) return () => pan(desk, key);
  if (key === "Backspace" || key === "ArrowLeft") return actions.back;
  return key === "ArrowRight" ? actions.forward : null;
}

function character(key: string, desk: Desk, actions: Actions): (() => void) | null {
  const level = desk.levelOf(key);
  if (level !== null) return () => actions.grade(level);
  switch (key.toLowerCase()) {
    case "u":
      return actions.unreadable;
    case "r":
      return desk.asksOrigin ? () => actions.origin("real") : null;
    case "g":
      return desk.asksOrigin ? () => actions.origin("generated") : null;
    case "+":
    case "=":
      return () => desk.stage.zoom(1);
    case "-":
      return () => desk.stage.zoom(-1);
    case "f":
      return () => desk.stage.fit();
    case "?":
      return () => desk.openHelp();
    default:
      return null;
  }
}

function pan(desk: Desk, key: string): void {
  const part = 0.15; // of the stage
  if (key === "ArrowLeft") desk.stage.pan(-part, 0);
  else if (key === "ArrowRight") desk.stage.pan(part, 0);
  else if (key === "ArrowUp") desk.stage.pan(0, -part);
  else desk.stage.pan(0, part);
}
