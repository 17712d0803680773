/** What the pointer, the wheel and the keys do to the map. */
import type { App } from "../app";
import { codeAt, placeOf } from "../sight";
import { TOOLS, type Tool } from "../state";
import { panned, toPlace, turned, zoomed, type Camera } from "./camera";
import type { Stage } from "./stage";

const STILL = 4; // pixels a pointer may tremble in a click

interface Press {
  x: number;
  y: number;
  startX: number;
  startY: number;
  moved: boolean;
  /** What this pointer does. */
  role: Tool | "pan";
}

export function listen(stage: Stage, app: App): void {
  const pointers = new Map<number, Press>();
  const { element, marker } = stage;
  const at = (event: MouseEvent): [number, number] => {
    const box = element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  element.addEventListener("contextmenu", (event) => event.preventDefault());
  element.addEventListener("pointerdown", (event) => {
    if (onTools(event)) return;
    const [x, y] = at(event);
    const onHand = marker.contains(event.target as Node);
    const role = onHand ? "hand" : event.button === 0 && !event.shiftKey ? app.store.get().tool : "pan";
    pointers.set(event.pointerId, { x, y, startX: x, startY: y, moved: onHand, role });
    try {
      element.setPointerCapture(event.pointerId);
    } catch {
      // A pointer made by a script cannot be captured; its moves arrive here all the same.
    }
    void stage.hover(-1);
    if (!onHand) element.focus({ preventScroll: true });
    else marker.focus({ preventScroll: true });
    event.preventDefault();
  });
  element.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    const press = pointers.get(event.pointerId);
    if (press === undefined) {
      const covered = onTools(event) || marker.contains(event.target as Node);
      if (event.pointerType !== "touch") void stage.hover(covered ? -1 : stage.pick(x, y));
      return;
    }
    const [dx, dy] = [x - press.x, y - press.y];
    if (pointers.size === 2) pinch(app, stage, [...pointers.values()], press, x, y);
    [press.x, press.y] = [x, y];
    if (pointers.size > 1) return;
    press.moved ||= Math.hypot(x - press.startX, y - press.startY) > STILL;
    if (press.moved) drag(app, stage, press, dx, dy, event.timeStamp);
  });
  const release = (event: PointerEvent) => {
    const press = pointers.get(event.pointerId);
    pointers.delete(event.pointerId);
    if (press === undefined) return;
    if (event.type === "pointerup" && !press.moved) click(app, stage, press, event.timeStamp);
    if (press.role === "lasso") endLasso(app, stage);
  };
  element.addEventListener("pointerup", release);
  element.addEventListener("pointercancel", release);
  element.addEventListener("pointerleave", () => void stage.hover(-1));
  element.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const [x, y] = at(event);
      const lines = event.deltaMode === 1 ? 16 : 1;
      look(app, zoomed(stage.camera, stage.window, Math.exp(-0.0015 * lines * event.deltaY), x, y));
    },
    { passive: false },
  );
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === marker ? handKey(app, stage, event) : stageKey(app, stage, event)) event.preventDefault();
  });
}

/** Whether an event is one of the buttons that lie on the map. */
function onTools(event: Event): boolean {
  return event.target instanceof Element && event.target.closest(".tools") !== null;
}

function look(app: App, camera: Camera): void {
  app.store.set({ camera });
}

/** Put the hand where (x, y) is on the stage. */
function hold(app: App, stage: Stage, x: number, y: number, time: number): void {
  const { sight, hand } = app.store.get();
  const place = toPlace(stage.camera, stage.window, x, y, placeOf(sight, app.data, hand));
  app.hand.take(codeAt(sight, app.data, place, hand), time);
}

function drag(app: App, stage: Stage, press: Press, dx: number, dy: number, time: number): void {
  const { sight } = app.store.get();
  if (press.role === "hand") hold(app, stage, press.x, press.y, time);
  else if (press.role === "lasso") {
    if (stage.lasso.length === 0) stage.lasso.push([press.startX, press.startY]);
    stage.lasso.push([press.x, press.y]);
    stage.want("over");
  } else if (press.role === "move" && sight.dimensions === 3) look(app, turned(stage.camera, stage.window, dx, dy));
  else look(app, panned(stage.camera, stage.window, dx, dy));
}

function click(app: App, stage: Stage, press: Press, time: number): void {
  const found = stage.pick(press.x, press.y);
  if (found >= 0) {
    const { tab } = app.store.get();
    app.store.set({ chosen: found, tab: tab === "hand" || tab === "walk" || tab === "yours" ? tab : "image" });
    if (press.role === "hand") app.hand.take(app.data.code(found), time);
  } else if (press.role === "hand") hold(app, stage, press.x, press.y, time);
  else if (press.role === "lasso") app.store.set({ group: [] });
}

function endLasso(app: App, stage: Stage): void {
  const polygon = stage.lasso;
  stage.lasso = [];
  stage.want("over");
  if (polygon.length < 3) return;
  const group = stage.inside(polygon);
  app.store.set({ group, tab: "group" });
}

function pinch(app: App, stage: Stage, presses: Press[], moving: Press, x: number, y: number): void {
  const other = presses.find((press) => press !== moving);
  if (other === undefined) return;
  const before = Math.hypot(moving.x - other.x, moving.y - other.y);
  const after = Math.hypot(x - other.x, y - other.y);
  const camera = panned(stage.camera, stage.window, (x - moving.x) / 2, (y - moving.y) / 2);
  look(app, zoomed(camera, stage.window, after / Math.max(before, 1), (x + other.x) / 2, (y + other.y) / 2));
  for (const press of presses) press.moved = true;
}

const ARROWS: Record<string, readonly [number, number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

function handKey(app: App, stage: Stage, event: KeyboardEvent): boolean {
  const arrow = ARROWS[event.key];
  if (arrow === undefined) return stageKey(app, stage, event);
  const step = (event.shiftKey ? 0.05 : 0.01) * Math.min(stage.window.width, stage.window.height);
  const [x, y] = stage.where(app.store.get().hand);
  hold(app, stage, x + step * arrow[0], y + step * arrow[1], event.timeStamp);
  return true;
}

function stageKey(app: App, stage: Stage, event: KeyboardEvent): boolean {
  const { camera, window } = stage;
  const { sight, chosen } = app.store.get();
  const arrow = ARROWS[event.key];
  if (arrow !== undefined) {
    const step = event.shiftKey ? 120 : 30;
    const [dx, dy] = [step * arrow[0], step * arrow[1]];
    const turns = sight.dimensions === 3 && !event.shiftKey;
    look(app, turns ? turned(camera, window, dx, dy) : panned(camera, window, -dx, -dy));
    return true;
  }
  const tool = TOOLS.find((name) => name[0] === event.key.toLowerCase());
  const middle = [window.width / 2, window.height / 2] as const;
  if (event.key === "+" || event.key === "=") look(app, zoomed(camera, window, 1.25, ...middle));
  else if (event.key === "-") look(app, zoomed(camera, window, 0.8, ...middle));
  else if (event.key === "0") app.store.set({ camera: null });
  else if (event.key === "Escape") app.store.set({ group: [], walk: null });
  else if (event.key === "Enter" && event.target === stage.element) {
    const [x, y] = stage.where(app.store.get().hand);
    const near = stage.pick(x, y, 200);
    if (near >= 0) app.store.set({ chosen: near, tab: "image" });
  } else if (event.key === "n" || event.key === "p") {
    const next = chosen === null ? 0 : chosen + (event.key === "n" ? 1 : -1);
    app.store.set({ chosen: (next + app.data.count) % app.data.count, tab: "image" });
  } else if (tool !== undefined) app.store.set({ tool });
  else return false;
  return true;
}
