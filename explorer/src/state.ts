/** What the page shows: one object, changed in one place, written into the address so that a view can be shared. */
import type { Camera } from "./map/camera";
import type { Sight } from "./sight";
import type { ThemeChoice } from "./theme";
import type { Way } from "./walk";

export const TABS = ["hand", "image", "group", "walk", "yours", "new", "about"] as const;
export type Tab = (typeof TABS)[number];
export const TOOLS = ["hand", "move", "lasso"] as const;
export type Tool = (typeof TOOLS)[number];
export const GROUNDS = ["density", "grid", "plain"] as const;
export type Ground = (typeof GROUNDS)[number];

export interface Walk {
  from: number;
  to: number;
  t: number;
  way: Way;
}

export interface State {
  sight: Sight;
  camera: Camera | null; // null: whatever shows all points
  hidden: ReadonlySet<number>; // classes, -1 for points without one
  tab: Tab;
  tool: Tool;
  ground: Ground;
  size: number; // of points, times the usual
  hand: Float32Array;
  chosen: number | null; // point looked at
  group: readonly number[]; // points inside the lasso
  walk: Walk | null;
  theme: ThemeChoice;
}

type Listener = (state: State) => void;

export class Store {
  private readonly listeners: { keys: readonly (keyof State)[]; call: Listener }[] = [];

  constructor(private state: State) {}

  get(): Readonly<State> {
    return this.state;
  }

  /** Change some of the state and tell whoever depends on it. */
  set(change: Partial<State>): void {
    const keys = (Object.keys(change) as (keyof State)[]).filter((key) => change[key] !== this.state[key]);
    if (keys.length === 0) return;
    this.state = { ...this.state, ...change };
    this.touch(...keys);
  }

  /** Tell whoever depends on these, as if they had changed: what they mean has, as "auto" does when the system turns dark. */
  touch(...keys: (keyof State)[]): void {
    for (const { keys: wanted, call } of this.listeners) if (wanted.some((key) => keys.includes(key))) call(this.state);
  }

  on(keys: readonly (keyof State)[], call: Listener): void {
    this.listeners.push({ keys, call });
  }
}

/** The state as the part of an address behind #, for what differs from `first`. */
export function toHash(state: State, first: State): string {
  const parts: [string, string][] = [];
  const add = (key: string, value: string, usual: string) => {
    if (value !== usual) parts.push([key, value]);
  };
  add("see", seeing(state.sight), seeing(first.sight));
  if (state.camera !== null) {
    const { centre, scale, yaw, pitch } = state.camera;
    parts.push(["from", [...centre, scale, yaw, pitch].map(short).join(",")]);
  }
  if (state.hidden.size > 0) parts.push(["hide", [...state.hidden].sort((a, b) => a - b).join(",")]);
  add("tab", state.tab, first.tab);
  add("tool", state.tool, first.tool);
  add("ground", state.ground, first.ground);
  add("size", short(state.size), short(first.size));
  add("hand", Array.from(state.hand, short).join(","), Array.from(first.hand, short).join(","));
  if (state.chosen !== null && state.chosen !== first.chosen) parts.push(["image", String(state.chosen)]);
  if (state.walk !== null)
    parts.push(["walk", [state.walk.from, state.walk.to, short(state.walk.t), state.walk.way].join(",")]);
  add("theme", state.theme, first.theme);
  return parts.map(([key, value]) => `${key}=${value}`).join("&");
}

/** What an address says; what it says wrongly is left as in `first`. Arguments: count: of points. */
export function fromHash(hash: string, first: State, count: number): State {
  const given = new Map(
    hash
      .replace(/^#/, "")
      .split("&")
      .map((part) => part.split("=") as [string, string | undefined])
      .map(([key, value]) => [key, decodeURIComponent(value ?? "")]),
  );
  const one = <T extends string>(key: string, all: readonly T[], usual: T): T =>
    all.find((name) => name === given.get(key)) ?? usual;
  const numbers = (key: string): number[] | null => {
    const found = (given.get(key) ?? "").split(",").map((text) => (text.trim() === "" ? NaN : Number(text)));
    return found.every(Number.isFinite) ? found : null;
  };
  const point = (value: number | undefined) =>
    value !== undefined && Number.isInteger(value) && value >= 0 && value < count ? value : null;
  const [from, hand] = [numbers("from"), numbers("hand")];
  const size = numbers("size")?.[0] ?? first.size;
  return {
    ...first,
    sight: sightOf(given.get("see") ?? "", first.sight),
    camera:
      from?.length === 6 && from[3] > 0
        ? { centre: [from[0], from[1], from[2]], scale: from[3], yaw: from[4], pitch: from[5] }
        : null,
    hidden: new Set((numbers("hide") ?? []).filter((label) => Number.isInteger(label) && label >= -1)),
    tab: one("tab", TABS, first.tab),
    tool: one("tool", TOOLS, first.tool),
    ground: one("ground", GROUNDS, first.ground),
    size: size >= 0.25 && size <= 4 ? size : first.size,
    hand: hand?.length === first.hand.length ? Float32Array.from(hand) : first.hand,
    chosen: point(numbers("image")?.[0]) ?? first.chosen,
    walk: walkOf(given.get("walk") ?? "", point),
    theme: one("theme", ["auto", "light", "dark"] as const, first.theme),
  };
}

function seeing({ kind, dimensions, axes }: Sight): string {
  return kind === "axes" ? `axes,${dimensions},${axes.map((axis) => axis + 1).join(",")}` : `${kind},${dimensions}`;
}

function sightOf(text: string, usual: Sight): Sight {
  const [kind, size, ...axes] = text.split(",");
  if (kind !== "axes" && kind !== "principal" && kind !== "layout") return usual;
  const dimensions = size === "3" ? 3 : 2;
  if (kind !== "axes") return { kind, dimensions, axes: usual.axes };
  const [a, b, c] = axes.map((axis) => Number(axis) - 1);
  return [a, b, c].every(Number.isInteger) ? { kind, dimensions, axes: [a, b, c] } : usual;
}

function walkOf(text: string, point: (value: number | undefined) => number | null): Walk | null {
  const [from, to, t, way] = text.split(",");
  const ends = [point(Number(from)), point(to === undefined ? undefined : Number(to))];
  if (text === "" || ends[0] === null || ends[1] === null) return null;
  const share = Number(t);
  return {
    from: ends[0],
    to: ends[1],
    t: share >= 0 && share <= 1 ? share : 0,
    way: way === "spherical" ? "spherical" : "straight",
  };
}

/** Four digits, without what they need not. */
export function short(value: number): string {
  return String(Number(value.toPrecision(4)));
}
