/** The uppermost layer: the walk, rings around points, crosses with names, the lasso. */
import type { Walk } from "../state";
import { token } from "../theme";
import { between } from "../walk";
import type { Window } from "./camera";

type Pen = CanvasRenderingContext2D;
type Place = readonly number[];

/** A canvas as large as the window, empty, in CSS pixels. */
export function prepare(canvas: HTMLCanvasElement, { width, height }: Window): Pen | null {
  const ratio = Math.min(devicePixelRatio || 1, 2);
  const [across, down] = [Math.floor(width * ratio), Math.floor(height * ratio)];
  if (canvas.width !== across || canvas.height !== down) [canvas.width, canvas.height] = [across, down];
  const pen = canvas.getContext("2d");
  if (pen === null) return null;
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, across, down);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return pen;
}

/** The way from `a` to `b`, and where on it one is. Arguments: where: of a code, in pixels. */
export function drawWalk(
  pen: Pen,
  walk: Walk,
  a: Float32Array,
  b: Float32Array,
  where: (code: Float32Array) => Place,
): void {
  pen.beginPath();
  for (let k = 0; k <= 32; k++) {
    const [x, y] = where(between(a, b, k / 32, walk.way));
    if (k === 0) pen.moveTo(x, y);
    else pen.lineTo(x, y);
  }
  twice(pen, token("accent"), 2.5);
  ring(pen, where(between(a, b, walk.t, walk.way)), 5, token("accent"));
}

export function ring(pen: Pen, [x, y]: Place, radius: number, colour: string): void {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  twice(pen, colour, 2);
}

export function cross(pen: Pen, name: string, [x, y]: Place): void {
  pen.beginPath();
  for (const side of [7, -7]) {
    pen.moveTo(x - 7, y - side);
    pen.lineTo(x + 7, y + side);
  }
  twice(pen, token("ink"), 2);
  pen.font = `600 12px ${token("font")}`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.strokeStyle = token("paper");
  pen.lineWidth = 4;
  pen.strokeText(name, x, y - 17);
  pen.fillStyle = token("ink");
  pen.fillText(name, x, y - 17);
}

export function drawLasso(pen: Pen, polygon: readonly Place[]): void {
  if (polygon.length < 2) return;
  pen.beginPath();
  polygon.forEach(([x, y], i) => (i === 0 ? pen.moveTo(x, y) : pen.lineTo(x, y)));
  pen.closePath();
  pen.globalAlpha = 0.12;
  pen.fillStyle = pen.strokeStyle = token("accent");
  pen.fill();
  pen.globalAlpha = 1;
  pen.lineWidth = 1.5;
  pen.setLineDash([5, 4]);
  pen.stroke();
  pen.setLineDash([]);
}

/** The path, on a rim of paper that keeps it apart from the points. */
function twice(pen: Pen, colour: string, width: number): void {
  pen.strokeStyle = token("paper");
  pen.lineWidth = width + 2.5;
  pen.stroke();
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.stroke();
}
