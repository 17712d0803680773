/**
 * What of a code is seen on the map: some of its own axes, principal axes, or a layout made at export.
 *
 * A place is (x, y, z), z 0 on a flat map. Axes and principal axes are lines in code space, so that a move on the map is
 * a move of the code; a layout is not, and there a place becomes the blend of the codes that lie near it.
 */
import type { Dataset } from "./dataset";

export type SightKind = "axes" | "principal" | "layout";

export interface Sight {
  kind: SightKind;
  dimensions: 2 | 3;
  /** Code axes, used by "axes" alone. */
  axes: [number, number, number];
}

/** What the map begins with: codes of two numbers as they are, longer ones by their principal axes. */
export function firstSight(data: Dataset): Sight {
  const [a, b, c] = [data.order[0] ?? 0, data.order[1] ?? 0, data.order[2] ?? data.order[0] ?? 0];
  if (data.dim <= 2 || data.principal === null) {
    return { kind: "axes", dimensions: 2, axes: data.dim <= 2 ? [0, Math.min(1, data.dim - 1), 0] : [a, b, c] };
  }
  return { kind: "principal", dimensions: 2, axes: [a, b, c] };
}

/** A sight that these data have: a link may come from another run. */
export function possibleSight(sight: Sight, data: Dataset): Sight {
  const first = firstSight(data);
  if (sight.kind === "principal" && data.principal === null) return first;
  if (sight.kind === "layout" && data.layout === null) return first;
  if (sight.axes.some((axis) => !Number.isInteger(axis) || axis < 0 || axis >= data.dim)) return first;
  const flat =
    data.dim < 3 || sight.kind === "layout" || (sight.kind === "principal" && (data.principal?.axes.length ?? 0) < 3);
  return { ...sight, dimensions: flat ? 2 : sight.dimensions };
}

/** The lines in code space that the map's x, y and z follow, as rows (D); none for a layout. */
export function directions(sight: Sight, data: Dataset): Float64Array[] {
  if (sight.kind === "layout") return [];
  if (sight.kind === "principal" && data.principal !== null) return data.principal.axes.slice(0, sight.dimensions);
  const taken = data.dim === 1 ? [0] : sight.axes.slice(0, sight.dimensions);
  return taken.map((axis) => {
    const row = new Float64Array(data.dim);
    row[axis] = 1;
    return row;
  });
}

/** What the map's axes are called. */
export function names(sight: Sight, data: Dataset): string[] {
  if (sight.kind === "layout") return ["", ""];
  if (sight.kind === "principal") {
    return [0, 1, 2].slice(0, sight.dimensions).map((k) => {
      const share = data.principal?.explained[k];
      return `principal axis ${k + 1}${share === undefined ? "" : ` (${(100 * share).toFixed(0)} % of variance)`}`;
    });
  }
  return sight.axes.slice(0, Math.min(sight.dimensions, data.dim)).map((axis) => `code axis ${axis + 1}`);
}

/** Places of all points shown, (N, 3). */
export function places(sight: Sight, data: Dataset): Float32Array {
  if (sight.kind === "layout" && data.layout !== null) {
    const count = data.layout.length / 2;
    const found = new Float32Array(3 * count);
    for (let i = 0; i < count; i++) found.set(data.layout.subarray(2 * i, 2 * i + 2), 3 * i);
    return found;
  }
  const found = new Float32Array(3 * data.count);
  if (sight.kind === "axes") {
    const taken = data.dim === 1 ? [0] : sight.axes.slice(0, sight.dimensions);
    taken.forEach((axis, k) => {
      for (let i = 0; i < data.count; i++) found[3 * i + k] = data.codes[i * data.dim + axis];
    });
    return found;
  }
  const rows = directions(sight, data);
  rows.forEach((row, k) => {
    const shift = along(row, new Float64Array(data.dim), data.principal?.mean ?? null);
    for (let i = 0, at = 0; i < data.count; i++) {
      let sum = shift;
      for (let j = 0; j < row.length; j++) sum += row[j] * data.codes[at++];
      found[3 * i + k] = sum;
    }
  });
  return found;
}

/** Where a code lies on the map; on a layout, where the codes nearest to it lie. */
export function placeOf(sight: Sight, data: Dataset, code: ArrayLike<number>): [number, number, number] {
  if (sight.kind === "layout" && data.layout !== null) return blendPlace(data, data.layout, code);
  const origin = sight.kind === "principal" ? (data.principal?.mean ?? null) : null;
  const found: [number, number, number] = [0, 0, 0];
  directions(sight, data).forEach((row, k) => (found[k] = along(row, code, origin)));
  return found;
}

/** The code at a place: `from`, moved so that it lies there. */
export function codeAt(sight: Sight, data: Dataset, place: readonly number[], from: ArrayLike<number>): Float32Array {
  if (sight.kind === "layout" && data.layout !== null) return blendCode(data, data.layout, place);
  const here = placeOf(sight, data, from);
  const code = Float32Array.from(from);
  directions(sight, data).forEach((row, k) => {
    const step = place[k] - here[k];
    for (let j = 0; j < code.length; j++) code[j] += step * row[j];
  });
  return code;
}

function along(row: Float64Array, code: ArrayLike<number>, origin: Float64Array | null): number {
  let sum = 0;
  for (let j = 0; j < row.length; j++) sum += row[j] * (code[j] - (origin === null ? 0 : origin[j]));
  return sum;
}

const BLENDED = 8; // codes, weighted by one over the square of their distance

function blendCode(data: Dataset, layout: Float32Array, place: readonly number[]): Float32Array {
  const near = closest(layout.length / 2, (i) => (layout[2 * i] - place[0]) ** 2 + (layout[2 * i + 1] - place[1]) ** 2);
  const code = new Float32Array(data.dim);
  for (const [i, weight] of near) for (let j = 0; j < data.dim; j++) code[j] += weight * data.codes[i * data.dim + j];
  return code;
}

function blendPlace(data: Dataset, layout: Float32Array, code: ArrayLike<number>): [number, number, number] {
  const { dim, codes } = data;
  const near = closest(layout.length / 2, (i) => {
    let square = 0;
    for (let j = 0; j < dim; j++) square += (codes[i * dim + j] - code[j]) ** 2;
    return square;
  });
  let [x, y] = [0, 0];
  for (const [i, weight] of near) {
    x += weight * layout[2 * i];
    y += weight * layout[2 * i + 1];
  }
  return [x, y, 0];
}

/** The nearest points with their weights, which add up to 1. */
function closest(count: number, square: (i: number) => number): [number, number][] {
  const found: [number, number][] = [];
  for (let i = 0; i < count; i++) {
    const value = square(i);
    if (found.length === BLENDED && value >= found[BLENDED - 1][1]) continue;
    let at = found.length;
    while (at > 0 && found[at - 1][1] > value) at--;
    found.splice(at, 0, [i, value]);
    if (found.length > BLENDED) found.pop();
  }
  const weights = found.map(([, value]) => 1 / (value + 1e-9));
  const total = weights.reduce((sum, value) => sum + value, 0);
  return found.map(([i], k) => [i, weights[k] / total]);
}
