/**
 * Colours of classes, the report's: Petroff's ten, made to be told apart by colour-blind readers (Petroff 2021,
 * arXiv:2107.02270), lightened on dark pages where they need it. From the eleventh class on the shape of a point tells
 * classes of one colour apart. Classes are named beside every colour as well.
 */
import type { Theme } from "./theme";

type Colour = readonly [number, number, number];

const LIGHT = [
  "#3f90da",
  "#ffa90e",
  "#d0361b",
  "#5cc0c4",
  "#9a52cf",
  "#a96b59",
  "#e76300",
  "#a89c52",
  "#717581",
  "#94a4a2",
];
const DARK = [
  "#5aa5e8",
  "#ffb52e",
  "#f0604a",
  "#92dadd",
  "#b98ae0",
  "#c08a78",
  "#f58231",
  "#c9bd7e",
  "#9499a6",
  "#b4c2c0",
];
export const UNLABELLED = 255; // row of the palette for points without a class
export const SHAPES = 4; // circle, square, diamond, triangle

export function hex(label: number, theme: Theme): string {
  if (label < 0) return theme === "dark" ? "#a9b3bd" : "#5c6670";
  return (theme === "dark" ? DARK : LIGHT)[label % LIGHT.length];
}

export function rgb(text: string): Colour {
  return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16)) as unknown as Colour;
}

/** 0 circle, 1 square, 2 diamond, 3 triangle. */
export function shapeOf(label: number): number {
  return label < 0 ? 0 : Math.floor(label / LIGHT.length) % SHAPES;
}

/** Colours of the labels 0 to 254 and of UNLABELLED as (256, 4) bytes; alpha 0 where a class is hidden. */
export function palette(theme: Theme, hidden: ReadonlySet<number>): Uint8Array {
  const found = new Uint8Array(256 * 4);
  for (let row = 0; row < 256; row++) {
    const label = row === UNLABELLED ? -1 : row;
    found.set([...rgb(hex(label, theme)), hidden.has(label) ? 0 : 255], 4 * row);
  }
  return found;
}

const HEAT: Colour[] = [
  [10, 10, 20],
  [84, 28, 92],
  [190, 54, 68],
  [247, 140, 38],
  [252, 244, 186],
];

/** Of an error from 0 to 1: from near black through red to pale yellow. */
export function heat(share: number): Colour {
  const at = Math.min(1, Math.max(0, share)) * (HEAT.length - 1);
  const [low, rest] = [Math.min(HEAT.length - 2, Math.floor(at)), at - Math.min(HEAT.length - 2, Math.floor(at))];
  return HEAT[low].map((value, k) => Math.round(value + rest * (HEAT[low + 1][k] - value))) as unknown as Colour;
}
