/**
 * How dense real codes lie on a flat map, in bands: inside the innermost lie half of them, then 80, 95 and 99 in 100.
 *
 * A histogram is blurred by a Gaussian of Scott's width (1992), n^(-1/6) of the spread; a cell belongs to the band that
 * is left when cells are taken in order of falling density until they hold that share.
 */
import { blur } from "../degrade";

export const BANDS = [0.5, 0.8, 0.95, 0.99];
const CELLS = 128; // of the histogram, along each side
const FINE = 5; // pixels of the drawn bands for each of them
const MARGIN = 0.25; // of the extent, on every side

export interface Shading {
  /** (cells, cells), row 0 at the top: 0 outside, up to BANDS.length inside the innermost. */
  bands: Uint8Array;
  cells: number;
  left: number;
  top: number;
  width: number;
  height: number;
}

export function shading(places: Float32Array, visible: (i: number) => boolean): Shading | null {
  const shown: number[] = [];
  for (let i = 0; i < places.length / 3; i++) if (visible(i)) shown.push(i);
  if (shown.length < 10) return null;
  const [x, y] = [0, 1].map((k) => extent(places, shown, k));
  if (!(x.size > 0) || !(y.size > 0)) return null;
  const counts = new Float32Array(CELLS * CELLS);
  for (const i of shown) {
    const column = Math.floor(((places[3 * i] - x.low) / x.size) * CELLS);
    const row = CELLS - 1 - Math.floor(((places[3 * i + 1] - y.low) / y.size) * CELLS);
    if (column >= 0 && row >= 0 && column < CELLS && row < CELLS) counts[row * CELLS + column]++;
  }
  const spread = Math.min(x.spread / x.size, y.spread / y.size) * CELLS;
  const width = Math.max(0.8, 0.6 * spread * shown.length ** (-1 / 6));
  const smooth = blur(counts, CELLS, CELLS, width);
  const cells = CELLS * FINE;
  const fine = enlarged(smooth, CELLS, FINE);
  const least = thresholds(smooth);
  const bands = new Uint8Array(cells * cells);
  for (let i = 0; i < bands.length; i++) for (const value of least) if (fine[i] >= value) bands[i]++;
  return { bands, cells, left: x.low, top: y.low + y.size, width: x.size, height: y.size };
}

/** The density at the border of every band: cells at least as dense hold that share of all. */
export function thresholds(density: Float32Array): number[] {
  const sorted = density.slice().sort().reverse();
  const total = sorted.reduce((sum, value) => sum + value, 0);
  const found: number[] = [];
  let held = 0;
  for (const value of sorted) {
    held += value;
    while (found.length < BANDS.length && held >= BANDS[found.length] * total) found.push(Math.max(value, 1e-12));
  }
  while (found.length < BANDS.length) found.push(1e-12); // rounding has kept the sum below the last share
  return found;
}

/** (cells, cells) with `times` as many along each side, bilinear between the middles of cells. */
function enlarged(values: Float32Array, cells: number, times: number): Float32Array {
  const size = cells * times;
  const found = new Float32Array(size * size);
  const places = Array.from({ length: size }, (_, k) => {
    const at = Math.min(cells - 1, Math.max(0, (k + 0.5) / times - 0.5));
    const low = Math.min(cells - 2, Math.floor(at));
    return [low, at - low] as const;
  });
  for (let y = 0; y < size; y++) {
    const [row, down] = places[y];
    for (let x = 0; x < size; x++) {
      const [column, across] = places[x];
      const at = row * cells + column;
      const above = values[at] + across * (values[at + 1] - values[at]);
      const below = values[at + cells] + across * (values[at + cells + 1] - values[at + cells]);
      found[y * size + x] = above + down * (below - above);
    }
  }
  return found;
}

function extent(places: Float32Array, shown: number[], axis: number): { low: number; size: number; spread: number } {
  const values = Float32Array.from(shown, (i) => places[3 * i + axis]).sort();
  const [least, most] = [values[0], values[values.length - 1]];
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
  const size = (most - least) * (1 + 2 * MARGIN);
  return { low: least - MARGIN * (most - least), size, spread: Math.sqrt(variance) };
}
